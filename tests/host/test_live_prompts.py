"""Prompts typed while a run goes on: when they take over, what is refused, what is kept of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.host.conftest import Pack
from tests.host.test_kept_run import stopped

SECONDS, CHUNKS = 4.2, 6
NODE = "7"
FOX, RIVER, CITY = "a red fox in deep snow", "the fox finds a frozen river", "a city at night"


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


class Typist:
    """Leaves prompts, as the route does, in the second step of chunks: `at` by chunk, (text, transition)."""

    def __init__(self) -> None:
        self.at: dict[int, tuple[str, str]] = {}
        self.answers: list = []


@pytest.fixture
def typist(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> Typist:
    typist = Typist()
    progress, live = pack.module("nodes.status.progress").StepProgress, pack.module("nodes.run.live_mailbox")
    original = progress.step

    def step(self, chunk: int, number: int, x0: torch.Tensor) -> None:
        if number == 1 and chunk in typist.at:
            try:
                typist.answers.append(live.mailbox_of(NODE).put(*typist.at[chunk]))
            except live.NotNow as refusal:
                typist.answers.append(str(refusal))
        original(self, chunk, number, x0)

    monkeypatch.setattr(progress, "step", step)
    return typist


@pytest.fixture(scope="module")
def make(pack: Pack, model, clip) -> Callable[..., tuple]:
    """Make a video on the node 7 from a schedule's text; LATENT's samples and the report."""

    def run(
        text: str = FOX, preset: str = "uniform", soft_chunks: int = 2, **inputs: object
    ) -> tuple[torch.Tensor, dict]:
        schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=text, soft_chunks=soft_chunks)[0]
        policy = pack.run("HeadForcingCachePolicy", preset=preset, **inputs.pop("overrides", {}))[0]
        given = {"model": model, "schedule": schedule, "policy": policy, "seconds": SECONDS, **inputs}
        latent, _, _, report = pack.run("HeadForcingSampler", unique_id=NODE, width=64, height=48, **given)
        return latent["samples"], json.loads(report)

    return run


@pytest.fixture(scope="module")
def plain(make) -> torch.Tensor:
    """The video without a live prompt."""
    return make()[0]


@pytest.mark.parametrize(
    ("transition", "written"), [("recache", "recache"), ("flush", "flush"), ("soft", "soft 2"), ("cut", "cut")]
)
def test_the_schedule_of_a_live_run_makes_the_same_video_again(
    make, plain: torch.Tensor, typist: Typist, transition: str, written: str
) -> None:
    typist.at = {1: (RIVER, transition), 3: (CITY, "recache")}
    live, report = make()
    assert [(prompt.chunk, replaced) for prompt, replaced in typist.answers] == [(2, False), (4, False)]
    assert [(segment["prompt"], segment["chunks"], segment["live"]) for segment in report["segments"]] == [
        (FOX, [0, 1], False),
        (RIVER, [2, 3], True),
        (CITY, [4, 5], True),
    ]
    assert report["schedule"] == f"[0s] {FOX}\n[1.312s {written}] {RIVER}\n[2.812s recache] {CITY}"
    typist.at = {}
    again, told = make(report["schedule"], soft_chunks=3)
    assert torch.equal(again, live)
    assert [segment["prompt"] for segment in told["segments"]] == [FOX, RIVER, CITY]
    assert not torch.equal(plain, live)


def test_a_live_prompt_gives_way_to_scenes_of_the_schedule(make, typist: Typist) -> None:
    """One is typed while the chunk before a scene is made: it waits for the chunk after the scene's first."""
    typist.at = {1: (CITY, "cut")}
    report = make(f"[0s] {FOX}\n[1.3s] {RIVER}")[1]
    assert typist.answers[0][0].chunk == 3
    assert [(segment["prompt"], segment["chunks"]) for segment in report["segments"]] == [
        (FOX, [0, 1]),
        (RIVER, [2, 2]),
        (CITY, [3, 5]),
    ]


def test_the_last_of_two_prompts_for_one_chunk_counts(pack: Pack) -> None:
    live = pack.module("nodes.run.live_mailbox")
    mailbox = live.Mailbox(4, 9, {0, 5}, float)
    assert mailbox.put("one", "cut") == (live.LivePrompt("one", "cut", 6, 6.0), False)
    assert mailbox.put("two", "soft") == (live.LivePrompt("two", "soft", 6, 6.0), True)
    assert mailbox.take(5) is None and mailbox.take(6).text == "two" and mailbox.take(7) is None


@pytest.mark.parametrize(
    ("prompts", "inputs", "sentence"),
    [
        ({5: (CITY, "recache")}, {}, "Chunk 6 of 6 is being made. The video ends before another prompt could"),
        ({1: (CITY, "cut")}, {"overrides": {"rope": "absolute"}}, "The run's policy has rope absolute."),
        ({1: (CITY, "shot")}, {}, "A scene takes over by shot, but this model's family was never taught"),
        ({1: (CITY, "soft")}, {"noise": "native"}, "The run has noise native"),
    ],
)
def test_what_a_run_cannot_take_over_is_refused_and_changes_nothing(
    make, typist: Typist, prompts: dict, inputs: dict, sentence: str
) -> None:
    typist.at = prompts
    report = make(**inputs)[1]
    assert len(typist.answers) == 1 and typist.answers[0].startswith(sentence)
    assert [segment["prompt"] for segment in report["segments"]] == [FOX]


def test_a_run_under_a_positive_input_takes_no_live_prompt(pack: Pack, model, clip, typist: Typist) -> None:
    typist.at = {1: (CITY, "soft")}
    positive = clip.encode_from_tokens_scheduled(clip.tokenize(FOX))
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"model": model, "positive": positive, "policy": policy, "seconds": SECONDS, "width": 64, "height": 48}
    report = json.loads(pack.run("HeadForcingSampler", unique_id=NODE, **given)[3])
    assert typist.answers[0].startswith("The run was given its prompt by the positive input")
    assert report["schedule"] is None


def test_nothing_is_taken_before_and_after_a_run(pack: Pack, make) -> None:
    live = pack.module("nodes.run.live_mailbox")
    make(seconds=0.5)
    with pytest.raises(live.NotNow, match="No run of the Head-Forced Sampler '7' is going"):
        live.mailbox_of(NODE)


@pytest.mark.parametrize("after", [2, 3])
def test_an_interrupted_run_goes_on_with_its_live_prompts(
    pack: Pack, runs: Path, make, typist: Typist, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Also when it ended in the chunk that the prompt had just taken over."""
    typist.at = {1: (RIVER, "recache")}
    whole = make()[0]
    stopped(pack, monkeypatch, after, lambda: make(run_name="film"))
    typist.at = {}
    again, report = make(run_name="film")
    assert torch.equal(again, whole)
    assert [segment["live"] for segment in report["segments"]] == [False, True]
    assert any("Live prompts of the run before are part of it (1)" in note for note in report["notes"])
    assert torch.equal(make(report["schedule"], run_name="film")[0], whole)  # its text in the schedule: the same run
    with pytest.raises(ValueError, match="Chunk 2 of the run 'film' has the prompt"):
        make(report["schedule"].replace(RIVER, CITY), run_name="film")
    without = make(run_name="film", from_chunk=2)[1]  # from there on anew: what was typed is gone
    assert [segment["prompt"] for segment in without["segments"]] == [FOX]


def test_a_live_prompt_that_faded_in_goes_on_fading_as_it_began(
    pack: Pack, runs: Path, make, typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the widget says by then: what was typed is as it was."""
    typist.at = {1: (RIVER, "soft")}
    whole = make(soft_chunks=3)[0]
    stopped(pack, monkeypatch, 3, lambda: make(run_name="film", soft_chunks=3))
    typist.at = {}
    again, report = make(run_name="film", soft_chunks=1)
    assert torch.equal(again, whole) and report["schedule"].endswith(f"[1.312s soft 3] {RIVER}")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (torch.OutOfMemoryError("no room"), "out of memory"),
        (RecursionError("too many brackets"), "too many brackets"),
        (float("nan"), "its numbers are up to nan times"),
        (1e38, "its numbers are up to"),
    ],
)
def test_a_live_prompt_that_cannot_be_encoded_costs_the_prompt_alone(
    clip,
    make,
    plain: torch.Tensor,
    typist: Typist,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception | float,
    reason: str,
) -> None:
    typist.at = {1: (RIVER, "recache")}
    original = clip.encode_from_tokens_scheduled

    def encode(tokens: object) -> object:
        encode.calls += 1
        text = original(tokens)
        if encode.calls == 2:
            if isinstance(failure, Exception):
                raise failure
            return [[text[0][0] * failure, text[0][1]]]
        return text

    encode.calls = 0
    monkeypatch.setattr(clip, "encode_from_tokens_scheduled", encode)
    latent, report = make()
    assert encode.calls == 2 and torch.equal(latent, plain)
    told = f"The live prompt at 1.31 s could not be encoded ({reason}"
    assert any(note.startswith(told) and note.endswith(RIVER) for note in report["notes"])


def test_live_prompts_before_from_chunk_and_of_a_take_that_goes_on_are_kept(
    pack: Pack, runs: Path, make, typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run_name="film", seed=1)
    typist.at = {3: (RIVER, "recache")}
    stopped(pack, monkeypatch, 5, lambda: make(run_name="film", seed=2, from_chunk=2))
    typist.at = {}
    again, report = make(run_name="film", seed=2, from_chunk=2)  # Run is pressed again, with nothing changed
    assert [segment["prompt"] for segment in report["segments"]] == [FOX, RIVER]
    report = make(run_name="film", seed=3, from_chunk=3)[1]
    assert any("Live prompts from chunk 3 on are left out (1)" in note for note in report["notes"])
    assert [segment["prompt"] for segment in report["segments"]] == [FOX]
