"""The memory of a run travels in its LATENT: two samplers make what one makes of both their scenes."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning
from tests.host.test_kept_run import stopped

FOX, CITY, RIVER = "a red fox in deep snow", "a city at night, rain", "a river in the sun"
GOES_ON = "The memory of the video before was taken over: the video goes on as one run of all its scenes."
MADE_ANEW = (
    "Another run has gone on from the video before, and keys and values are held once, so they were made anew, by a "
    "pass over each of its chunks: the video goes on as one run of all its scenes."
)
ANEW = "The frames of previous were committed anew under the first prompt, without the memory of its run: "
GRAPH = {
    "first": {"class_type": "HeadForcingSampler", "inputs": {}},
    "second": {"class_type": "HeadForcingSampler", "inputs": {"previous": ["first", 0]}},
    "third": {"class_type": "HeadForcingSampler", "inputs": {"previous": ["second", 0]}},
}


@dataclass(frozen=True)
class Scene:
    """What a sampler gave."""

    latent: dict
    report: dict

    @property
    def samples(self) -> Tensor:
        return self.latent["samples"]

    @property
    def told(self) -> str:
        """The sentence on the way in which the past was taken; empty where there is none."""
        return next((note for note in self.report["notes"] if note.startswith((GOES_ON, MADE_ANEW, ANEW))), "")


@dataclass(frozen=True)
class Studio:
    """Makes scenes of so many chunks, small ones, by samplers that stand one after the other in a workflow."""

    pack: object
    given: dict
    clip: object

    def __call__(self, chunks: int, text: str | None, previous: dict | None = None, node: str = "", **more) -> Scene:
        node = node or ("first" if previous is None else "second")
        inputs = {**self.given, "noise": "whole_video", "width": 16, "height": 16, "seed": 3, **more}
        inputs["seconds"] = (12 * chunks - (3 if previous is None else 0)) / 16
        if previous is not None:
            inputs["previous"] = previous
        if text is not None:
            ways = {name: inputs.pop(name) for name in ("transition", "soft_chunks") if name in inputs}
            inputs["schedule"] = self.pack.run("HeadForcingPromptSchedule", clip=self.clip, text=text, **ways)[0]
        outputs = self.pack.all_outputs("HeadForcingSampler", node, GRAPH, **inputs)
        return Scene(outputs[0], json.loads(outputs[3]))


@pytest.fixture
def studio(pack, model, labelled, clip) -> Callable[..., Studio]:
    """A studio with a preset, or whatever else is given."""

    def opened(preset: str = "paper", **given: object) -> Studio:
        policy = pack.run("HeadForcingCachePolicy", preset=preset)[0]
        usual = {"model": model, "policy": policy, "profile": labelled, "sigmas": torch.tensor([1.0, 0.5, 0.0])}
        return Studio(pack, {**usual, **given}, clip)

    return opened


@contextmanager
def counted(model) -> Iterator[list[int]]:
    """The passes of a model, each by its frames."""
    passes: list[int] = []
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda wan, given: passes.append(given[0].shape[2]))
    yield passes
    hook.remove()


def at(chunk: int) -> str:
    """The second at which a chunk of a video begins, for a schedule."""
    return f"{max(0, 12 * chunk - 3) / 16}s"


@pytest.mark.parametrize(  # all of them in tests/core/test_carried.py
    ("preset", "transition", "soft"),
    [("paper", "cut", 1), ("low_vram", "recache", 1), ("recall", "soft", 3), ("tiny", "recache", 1)],
)
def test_two_samplers_make_what_one_makes_of_both_scenes(
    studio, model, preset: str, transition: str, soft: int
) -> None:
    make, ways = studio(preset), {"transition": transition, "soft_chunks": soft}
    with counted(model) as passes:
        once = make(13, f"[0s] {FOX}\n[{at(9)}] {CITY}", **ways)
    with counted(model) as again:
        first = make(9, FOX, **ways)
        second = make(4, CITY, first.latent, **ways)
    assert second.told.startswith(GOES_ON)
    assert torch.equal(second.samples, once.samples)
    assert again == passes
    assert torch.equal(first.samples, once.samples[:, :, : first.samples.shape[2]])


def test_three_samplers_of_which_the_second_has_the_same_prompt(studio) -> None:
    make = studio("recall")
    once = make(12, f"[0s] {FOX}\n[{at(6)}] {RIVER}\n[{at(9)}] {CITY}")
    first = make(4, FOX)
    second = make(5, f"[0s] {FOX}\n[1.5s] {RIVER}", first.latent)
    third = make(3, CITY, second.latent, node="third")
    assert torch.equal(third.samples, once.samples)
    assert [scene.told[: len(GOES_ON)] for scene in (second, third)] == [GOES_ON] * 2


def test_ten_samplers_are_one_run(studio, model) -> None:
    make, prompts = (
        studio("tiny"),
        [FOX, CITY, RIVER, f"{FOX}, {RIVER}", FOX, f"{CITY}, {FOX}", RIVER, CITY, FOX, RIVER],
    )
    text = "\n".join(f"[{at(2 * number)}] {prompt}" for number, prompt in enumerate(prompts))
    with counted(model) as passes:
        once = make(20, text)
    scenes: list[Scene] = []
    with counted(model) as again:
        for prompt in prompts:
            scenes.append(make(2, prompt, scenes[-1].latent if scenes else None))
    assert [scene.told for scene in scenes] == ["", *[GOES_ON] * 9]
    assert torch.equal(scenes[-1].samples, once.samples)
    assert again == passes


def test_a_single_prompt_goes_on_by_its_encoding(studio) -> None:
    make = studio("uniform", positive=conditioning(1))
    first = make(5, None)
    assert torch.equal(make(3, None, first.latent).samples, make(8, None).samples)


@pytest.mark.parametrize("n", [1, 3])
def test_a_start_image_is_no_chunk_of_those_that_go_on(studio, load, vae, n: int) -> None:
    """A picture before the first chunk was committed by itself; noise and chunks are counted without it."""
    make = studio(model=load("self_forcing_dmd.safetensors", chunk_frames=n), vae=vae)
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    once = make(8, FOX, start_image=image)
    first = make(5, FOX, start_image=image)
    assert torch.equal(make(3, FOX, first.latent).samples, once.samples)


CHANGED = {
    "cut": lambda samples: samples[:, :, :-3],
    "scaled": lambda samples: samples * 1.001,
    "reversed": lambda samples: samples.flip(2),
    "in half precision": lambda samples: samples.half().float(),
    "one number": lambda samples: samples + torch.zeros_like(samples).index_fill_(2, torch.tensor([4]), 1e-6),
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_latent_that_another_node_changed_takes_the_long_way(studio, how: str) -> None:
    """The key goes along when a dict is copied."""
    make = studio("uniform")
    first = make(4, FOX)
    changed = {**first.latent, "samples": CHANGED[how](first.samples)}
    second = make(2, CITY, changed)
    assert second.told == f"{ANEW}its samples were changed on their way, as by a node that cuts or rescales them."
    plain = make(2, CITY, {"samples": changed["samples"]})
    assert torch.equal(second.samples, plain.samples)
    assert not plain.told


def test_copies_of_a_latent_have_one_memory(studio, model) -> None:
    """Keys and values are held once: the first who goes on takes them, for the second they are made anew."""
    make = studio("uniform")
    first = make(4, FOX)
    again, deep = first.latent.copy(), copy.deepcopy(first.latent)
    with counted(model) as passes:
        one = make(2, CITY, deep)
    with counted(model) as passes_again:
        other = make(2, CITY, again)
    assert (one.told, other.told) == (GOES_ON, MADE_ANEW)
    assert torch.equal(one.samples, other.samples)
    assert passes_again == [3] * 3 + passes  # the last of four chunks is committed by the one that goes on
    assert again["head_forcing"].held.kv is None


@pytest.mark.parametrize("preset", ["paper", "recall", "tiny"])
def test_scenes_are_run_again_from_any_place(studio, preset: str) -> None:
    """The host has what comes before in its cache, and nothing of it holds keys and values any longer."""
    make = studio(preset)
    text = f"[0s] {FOX}\n[{at(4)}] {RIVER}\n[{at(9)}] "
    once, otherwise = make(12, text + CITY), make(12, text + FOX)
    first = make(4, FOX)
    second = make(5, RIVER, first.latent)
    third = make(3, CITY, second.latent, node="third")
    assert torch.equal(third.samples, once.samples)
    third = make(3, FOX, second.latent, node="third")
    assert third.told == MADE_ANEW
    assert torch.equal(third.samples, otherwise.samples)
    second = make(5, RIVER, first.latent)
    third = make(3, CITY, second.latent, node="third")
    assert (second.told, third.told) == (MADE_ANEW, GOES_ON)
    assert torch.equal(third.samples, once.samples)


def test_what_was_typed_while_a_scene_was_made_is_in_its_memory_again(
    pack, monkeypatch: pytest.MonkeyPatch, studio
) -> None:
    live, progress = pack.module("nodes.run.live_mailbox"), pack.module("nodes.status.progress").StepProgress
    original = progress.step

    def step(self, chunk: int, number: int, x0: Tensor) -> None:
        if (chunk, number) == (2, 0):
            live.mailbox_of("first").put(RIVER, "recache")
        original(self, chunk, number, x0)

    make = studio("recall")
    once = make(9, f"[0s] {FOX}\n[{at(3)}] {RIVER}\n[{at(6)}] {CITY}")
    with monkeypatch.context() as patch:
        patch.setattr(progress, "step", step)
        first = make(6, FOX)
    second, again = make(3, CITY, first.latent), make(3, CITY, first.latent)
    assert (second.told, again.told) == (GOES_ON, MADE_ANEW)
    assert torch.equal(second.samples, once.samples) and torch.equal(again.samples, once.samples)


def test_making_the_memory_anew_can_be_stopped(pack, monkeypatch: pytest.MonkeyPatch, studio) -> None:
    import comfy.model_management as management

    status = pack.module("nodes.status.node_status").NodeStatus
    original, lines = status.say, []

    def say(self, text: str) -> None:
        lines.append(text)
        if text == "making the memory of the video before anew, 3 of 7":
            management.interrupt_current_processing(True)
        original(self, text)

    make = studio("paper")
    first = make(7, FOX)
    second = make(2, CITY, first.latent)
    with monkeypatch.context() as patch:
        patch.setattr(status, "say", say)
        with pytest.raises(management.InterruptProcessingException):
            make(2, CITY, first.latent)
    assert lines[-2:] == ["making the memory of the video before anew, 3 of 7", "stopped after 0 of 2 chunks"]
    assert torch.equal(make(2, CITY, first.latent).samples, second.samples)
    monkeypatch.setattr(pack.module("nodes.run.memory_anew"), "free_main_memory", lambda: 1000)
    with pytest.raises(RuntimeError, match=r"takes .* of main memory are free. This run cannot go on from it"):
        make(2, CITY, first.latent)


@pytest.mark.parametrize("name", ["", "second"])
@pytest.mark.parametrize("preset", ["paper", "recall"])
def test_a_scene_that_was_stopped_goes_on_from_the_same_memory(
    pack, monkeypatch: pytest.MonkeyPatch, runs: Path, studio, preset: str, name: str
) -> None:
    """The host has the scene before in its cache: it does not run again."""
    make = studio(preset)
    once = make(12, f"[0s] {FOX}\n[{at(7)}] {CITY}")
    first = make(7, FOX)
    stopped(pack, monkeypatch, 3, lambda: make(5, CITY, first.latent, run_name=name))
    second = make(5, CITY, first.latent, run_name=name)
    assert second.told.startswith(GOES_ON)
    assert torch.equal(second.samples, once.samples)
    assert first.latent["head_forcing"].held.kv is None


def test_keys_and_values_are_kept_only_where_a_sampler_goes_on(pack, monkeypatch: pytest.MonkeyPatch, studio) -> None:
    for module in ("nodes.run.announce_cost", "nodes.request.run_cost"):
        monkeypatch.setattr(pack.module(module), "bytes_in_words", lambda number: f"{number:.0f}")
    make = studio("uniform")
    last = make(3, FOX, node="third")
    assert last.latent["head_forcing"].held is None
    assert make(1, FOX, last.latent).told == f"{ANEW}nothing went on from it when it was made, so it was not kept."
    kept = make(3, FOX)
    [cost] = [note for note in kept.report["notes"] if "Main memory: up to" in note]
    latents = [kept.latent["head_forcing"].held.made_with.plan.finished.read(chunk) for chunk in range(3)]
    numbers = re.search(r"up to (\d+) for keys and values.* up to (\d+) at the end, for the sampler that goes on", cost)
    assert int(numbers[2]) - int(numbers[1]) >= sum(latent.nbytes for latent in latents) == 3 * 16 * 3 * 2 * 2 * 4
    assert not any("Main memory" in note for note in last.report["notes"])


UNLIKE = {
    "the policy": lambda pack, load: {"policy": pack.run("HeadForcingCachePolicy", preset="max")[0]},
    "the model": lambda pack, load: {"model": load("self_forcing_dmd.safetensors", family="causal_forcing")},
    "the LoRA": lambda pack, load: {"model": with_lora(pack, load)},
    "the profile (which head does what)": lambda pack, load: {
        "profile": pack.run("HeadForcingProfileHeads", model=load("self_forcing_dmd.safetensors"), rule="all_memory")[0]
    },
}


def with_lora(pack, load):

    model = load("self_forcing_dmd.safetensors")
    name = "diffusion_model.blocks.0.self_attn.q.weight"
    patched = model.clone()
    patched.add_patches({name: (torch.ones_like(model.model.state_dict()[name]) * 1e-3,)})
    return patched


@pytest.mark.parametrize("what", UNLIKE)
def test_another_run_takes_the_long_way(studio, pack, load, what: str) -> None:
    make = studio()
    first = make(4, FOX)
    second = make(2, CITY, first.latent, **UNLIKE[what](pack, load))
    assert second.told == f"{ANEW}{what} is not the one that it was made with."
    assert first.latent["head_forcing"].held.kv is not None  # it is there for one that fits
    assert make(2, CITY, first.latent).told.startswith(GOES_ON)


def test_other_steps_and_another_length_go_on(studio) -> None:
    """They do not decide about the past."""
    make = studio("full")
    first = make(3, FOX)
    assert make(2, FOX, first.latent, sigmas=torch.tensor([1.0, 0.0])).told.startswith(GOES_ON)


def test_no_room_in_main_memory(studio, pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack.module("nodes.run.chunk_makers"), "free_main_memory", lambda: 1000)
    make = studio("uniform")
    first = make(3, FOX)
    [note] = [note for note in first.report["notes"] if note.startswith("The memory was not kept")]
    assert note.endswith("of main memory were free at the end of its run.")
    told = make(1, FOX, first.latent).told
    assert told.startswith(f"{ANEW}it takes ") and told.endswith("were free at the end of its run.")


def test_kept_runs_go_on_the_way_they_began(studio, runs: Path) -> None:
    make = studio("recall")
    once = make(12, f"[0s] {FOX}\n[{at(6)}] {CITY}")
    first = make(6, FOX, run_name="one")
    second = make(4, CITY, first.latent, run_name="two")
    settings = [json.loads((runs / name / "run.json").read_text())["settings"]["past"] for name in ("one", "two")]
    assert settings == ["committed", "carried"]
    assert torch.equal(second.samples, once.samples[:, :, :30])
    # all of it is there: it is given out, but cannot go on without the memory
    assert torch.equal(make(4, CITY, first.latent, run_name="two").samples, second.samples)
    with pytest.raises(RuntimeError, match="cannot have now: previous has no memory beside its samples"):
        make(5, CITY, {"samples": first.samples}, run_name="two")
    longer = make(5, CITY, first.latent, run_name="two")
    assert longer.told == MADE_ANEW
    assert torch.equal(longer.samples, once.samples[:, :, :33])
    # the kept run before it is asked again, too
    again = make(6, FOX, run_name="one")
    longer = make(6, CITY, again.latent, run_name="two")
    assert longer.told == GOES_ON
    assert torch.equal(longer.samples, once.samples)
    # a take from a chunk on is one of the whole film
    whole = make(12, f"[0s] {FOX}\n[{at(6)}] {CITY}\n[{at(8)}] {RIVER}")
    taken = make(6, f"[0s] {CITY}\n[1.5s] {RIVER}", again.latent, run_name="two", from_chunk=2)
    assert taken.told == MADE_ANEW
    assert torch.equal(taken.samples, whole.samples)


def test_a_kept_run_that_began_by_passes_goes_on_so(studio, runs: Path) -> None:
    make = studio("uniform")
    first = make(3, FOX)
    plain = {"samples": first.samples}
    short = make(2, CITY, plain, run_name="two")
    longer = make(4, CITY, first.latent, run_name="two")
    assert longer.told == f"{ANEW}the run was begun before without it, and goes on as it began."
    assert torch.equal(longer.samples[:, :, : short.samples.shape[2]], short.samples)
    assert torch.equal(longer.samples, make(4, CITY, plain).samples)


def test_the_way_in_which_a_kept_scene_takes_over_is_its_own(studio, runs: Path) -> None:
    make = studio("uniform")
    second = make(2, CITY, make(3, FOX).latent, run_name="two", transition="cut")
    text = second.report["schedule"]
    assert text == f"[0s cut] {CITY}"
    with pytest.raises(ValueError, match=rf"Chunk 0 .* takes over by cut, now by recache(.|\n)*{re.escape(text)}$"):
        make(2, CITY, make(3, FOX).latent, run_name="two", transition="recache")
    again = make(2, text, make(3, FOX).latent, run_name="two", transition="recache")
    assert torch.equal(again.samples, second.samples)


def test_a_cut_that_has_no_place_takes_the_long_way(studio, pack) -> None:
    """As a schedule of one scene never was refused for the transition of the others."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform", rope="absolute")[0]
    make = studio(policy=policy)
    second = make(2, CITY, make(3, FOX).latent, transition="cut")
    assert second.told.startswith(f"{ANEW}A scene takes over by cut, but rope is absolute.")


def sampler(**inputs: object) -> dict:
    return {"class_type": "HeadForcingSampler", "inputs": inputs}


def other(**inputs: object) -> dict:
    return {"class_type": "Other", "inputs": inputs}


GOES = {
    "straight": {"a": sampler(), "b": sampler(previous=["a", 0])},
    "through others": {"a": sampler(), "x": other(i=["a", 0]), "y": other(i=["x", 2]), "b": sampler(previous=["y", 1])},
    "into a loop": {"begin": other(), "a": sampler(previous=["begin", 1]), "end": other(f=["begin", 0], v=["a", 0])},
}
STAYS = {
    "nowhere": {"a": sampler()},
    "a decoder": {"vae": other(), "a": sampler(vae=["vae", 0]), "d": other(vae=["vae", 0], samples=["a", 0])},
    "another output": {"a": sampler(), "x": other(i=["a", 1]), "b": sampler(previous=["x", 0])},
    "another input": {"a": sampler(), "x": other(i=["a", 0]), "b": sampler(video=["x", 0])},
    "the last of two": {"z": sampler(), "a": sampler(previous=["z", 0]), "d": other(a=["z", 0], b=["a", 0])},
    "a circle": {"a": sampler(), "x": other(i=["a", 0], j=["y", 0]), "y": other(i=["x", 0])},
}


@pytest.mark.parametrize(("graphs", "expected"), [(GOES, True), (STAYS, False)])
def test_who_goes_on(pack, graphs: dict, expected: bool) -> None:
    from comfy_execution.graph import DynamicPrompt

    goes_on = pack.module("nodes.host.wiring").goes_on
    found = {name: goes_on(DynamicPrompt(graph), "a", 0) for name, graph in graphs.items()}
    assert found == dict.fromkeys(graphs, expected)
    assert not goes_on(None, "a", 0)


def test_a_copy_that_a_loop_made_may_be_gone_on_from(pack) -> None:
    from comfy_execution.graph import DynamicPrompt

    graph = DynamicPrompt({"a": sampler()})
    graph.add_ephemeral_node("loop.0.0.1_a", sampler(), "loop", "a")
    assert pack.module("nodes.host.wiring").goes_on(graph, "loop.0.0.1_a", 0)


def test_heads_that_were_measured_for_the_run_go_on_with_it(studio, pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a profile the second sampler would measure its own, on its own prompts."""
    make = studio(profile=None)
    once = make(6, f"[0s] {FOX}\n[{at(4)}] {CITY}")
    first = make(4, FOX)
    monkeypatch.delattr(pack.module("nodes.run.head_labels"), "make_profile")
    assert torch.equal(make(2, CITY, first.latent).samples, once.samples)
