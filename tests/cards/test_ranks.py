"""Two ranks in processes of their own make what one process makes: every family, every way, every kind of MODEL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.cards.ranks import Film, Ranks, drawn, film, module, scene, text, two_ranks
from tests.fixtures.tiny_wan import WanShape, causal_wan
from tests.host.conftest import Files

FULL_FILE, LORA = "self_forcing_dmd.safetensors", "tiny_lora.safetensors"
FULL_LAYERS = 4
CHANNELS = {16: {}, 48: {"channels": 48}, 36: {"image_channels": 20}}  # that a model is given
SMALL = {"dim": 384, "layers": 2, "ffn_dim": 384}
TWO_STEPS = (1.0, 0.5, 0.0)
TOLERANCE = 1e-5
OF_8_BITS = 1e-2  # a number that is a hair above or below may come out as the next code
FAMILIES = (
    *("self_forcing", "causal_forcing", "causal_forcing_framewise", "longlive", "reward_forcing", "krea_realtime"),
    *("custom", "causal_forcing_2step", "causal_forcing_1step", "one_forcing", "self_gradient_forcing"),
    *("self_gradient_forcing_framewise", "infinite_forcing", "memflow", "aad_1", "streamdiffusion_v2"),
    *("rolling_forcing", "causal_forcing_longvideo", "longlive2", "longlive2_2step", "lingbot_world"),
    "lingbot_world_v2",
)


@pytest.fixture(scope="module")
def ranks(pack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with two_ranks(tmp_path_factory.mktemp("ranks")) as made:
        yield made


@pytest.fixture(scope="module")
def small(pack, load) -> Callable[[int], Any]:
    """A MODEL of two layers that is given so many channels."""
    files, loaded = Files({}), {}

    def of(given: int) -> Any:
        if given not in loaded:
            weights = causal_wan(WanShape(**SMALL, **CHANNELS[given]), given)
            loaded[given] = load(files.put(f"small_{given}.safetensors", weights))
        return loaded[given]

    return of


@pytest.fixture(scope="module")
def with_lora(load) -> Any:
    return load(FULL_FILE, lora=LORA, lora_strength=0.8)


def given_channels(family: str) -> int:
    return module("headforcing_core.families.table").FAMILIES[family].in_channels


def apart(found: list[Any], wanted: list[Any]) -> float:
    """The greatest difference of any number of the latents."""
    pairs = zip(found, wanted, strict=True)
    return max(float((a.latent - b.latent).abs().max()) for a, b in pairs)


def settled(chunk: Any) -> tuple:
    """What was decided and chosen at a chunk, but for the numbers that it was decided by."""
    decisions = [(each.frame, each.admitted, each.dropped) for each in (*chunk.prefix_decisions, *chunk.decisions)]
    return chunk.index, chunk.position, chunk.seen, decisions, chunk.choice and chunk.choice.frames


def check_agreed(of_ranks: list[list[Any]], wanted: list[Any]) -> None:
    """All ranks have settled the same, to the bit, and what one process settles."""
    first, second = of_ranks
    assert [(a.decisions, a.prefix_decisions, a.choice) for a in first] == [
        (b.decisions, b.prefix_decisions, b.choice) for b in second
    ]
    assert list(map(settled, first)) == list(map(settled, second)) == list(map(settled, wanted))
    assert not any(each.latent.numel() for each in second)


def check_same(ranks: Ranks, model: Any, made: Film, tolerance: float = TOLERANCE) -> list[Any]:
    """Two ranks that share tokens make it as one process does."""
    wanted = made.alone(model)
    ranks.load(model)
    found = ranks.make(made, exact=False)
    check_agreed(found, wanted)
    assert apart(found[0], wanted) <= tolerance
    assert wanted[-1].latent.std() > 0.3
    return wanted


@pytest.fixture(scope="module")
def long(with_lora) -> Callable[[str], tuple[Film, list[Any]]]:
    """A film long enough for novelty and recall to be judged, and its chunks by one process, by preset."""
    made: dict[str, tuple[Film, list[Any]]] = {}

    def of(preset: str) -> tuple[Film, list[Any]]:
        if preset not in made:
            other = film(
                preset=preset, chunks=7, layers=FULL_LAYERS, sigmas=TWO_STEPS, segments=scenes(scene(6, "soft"))
            )
            made[preset] = other, other.alone(with_lora)
        return made[preset]

    return of


@pytest.mark.parametrize("preset", ["paper", "recall", "tiny"])
def test_exact_is_bit_equal_and_shared_tokens_are_near(ranks: Ranks, with_lora, long, preset: str) -> None:
    made, wanted = long(preset)
    ranks.load(with_lora)
    for exact in (True, False):
        found = ranks.make(made, exact)
        check_agreed(found, wanted)
        assert apart(found[0], wanted) <= (0 if exact else OF_8_BITS if preset == "tiny" else TOLERANCE)
    assert any(chunk.decisions for chunk in wanted) or wanted[6].choice.candidates > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(ranks: Ranks, small, family: str) -> None:
    check_same(ranks, small(given_channels(family)), film(family))


WAYS: dict[str, Callable[[], tuple[int, Film]]] = {
    "a prefix": lambda: (16, film(prefix=drawn(9, 16, 4))),
    "noise that goes on from a prefix": lambda: (16, replace(film(prefix=drawn(9, 16, 4)), before=1)),
    "a first frame that is held": lambda: (48, film("longlive2", image=drawn(7, 48, 1))),
    "channels beside a prefix": lambda: (36, film("lingbot_world", prefix=drawn(9, 16, 4))),
    "a video, from a noise level on": lambda: (
        16,
        film(source=lambda chunk: drawn(60 + chunk, 16, 3), sigmas=(0.7, 0.5, 0.0), source_level=0.8),
    ),
    "a shot, and one that follows": lambda: (
        48,
        film("longlive2_2step", chunks=3, segments=scenes(scene(1, "shot", first_text=text(5)), scene(2, "shot"))),
    ),
    "a cut and a flush": lambda: (16, film(chunks=3, segments=scenes(scene(1, "cut"), scene(2, "flush")))),
    "a text that is put in anew": lambda: (16, film(chunks=3, segments=scenes(scene(2, "recache")))),
    "a text that comes in over two chunks": lambda: (16, film(chunks=3, segments=scenes(scene(1, "soft", 2)))),
    "a window that is begun anew": lambda: (16, film("rolling_forcing", chunks=4, segments=scenes(scene(2, "cut")))),
    "a window that is shared out evenly": lambda: (16, film("rolling_forcing", latent_width=8)),
    "8 bits, of one step": lambda: (16, film("one_forcing", "tiny", sigmas=(1.0, 0.0), first=None)),
    "a short context for what is kept": lambda: (16, film(preset="enhanced", chunks=3)),
    "everything, where it stands": lambda: (16, film(preset="full")),
}


def scenes(*later: Any) -> tuple[Any, ...]:
    return (module("headforcing_core.rollout.plan").Segment(0, text(11)), *later)


@pytest.mark.parametrize("way", WAYS)
def test_every_way(ranks: Ranks, small, way: str) -> None:
    given, made = WAYS[way]()
    check_same(ranks, small(given), made, OF_8_BITS if "8 bits" in way else TOLERANCE)


def of_host(path: str, **options: Any) -> Any:
    """As the host's own Load Diffusion Model makes it."""
    import comfy.sd

    return comfy.sd.load_diffusion_model(path, model_options=options)


def path_of(name: str, kind: str = "diffusion_models") -> str:
    import folder_paths

    return folder_paths.get_full_path_or_raise(kind, name)


def behind_lora(model: Any) -> Any:
    """As the host's own LoRA loader makes it."""
    import comfy.sd
    import comfy.utils

    return comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(path_of(LORA, "loras")), 1.0, 0)[0]


def with_other_levels(model: Any) -> Any:
    """Behind a node of the host that makes a class of its own for the noise levels, which are told as 0 to 1 there."""
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

    return ModelSamplingAuraFlow().patch_aura(model, 3.0)[0]


MODELS: dict[str, Callable[[Any], Any]] = {
    "the host's loader": lambda load: of_host(path_of(FULL_FILE)),
    "the host's loader in fp8, behind its LoRA": lambda load: behind_lora(
        of_host(path_of(FULL_FILE), dtype=torch.float8_e5m2)
    ),
    "fp8, with a LoRA": lambda load: load(FULL_FILE, weight_dtype="fp8_e4m3fn", lora=LORA),
    "other noise levels": lambda load: with_other_levels(load(FULL_FILE)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model(ranks: Ranks, load, kind: str) -> None:
    made, model = film(layers=FULL_LAYERS, sigmas=TWO_STEPS), MODELS[kind](load)
    wanted = check_same(ranks, model, made)
    plain = film(layers=FULL_LAYERS, sigmas=TWO_STEPS, chunks=1).alone(load(FULL_FILE))
    assert (apart(wanted[:1], plain) == 0) == (kind == "the host's loader")


@pytest.mark.parametrize("preset", ["paper", "recall"])
def test_a_run_goes_on_with_other_ranks_to_the_same_bits(ranks: Ranks, with_lora, long, preset: str) -> None:
    """Begun on two, gone on with on one, and the other way; what is recalled is read from the page."""
    made, wanted = long(preset)
    ranks.load(with_lora)
    begun = ranks.make(made, exact=True)[0]
    assert apart(made.going_on(begun[:5]).alone(with_lora), wanted) == 0
    reading = replace(made, plan=replace(made.plan, read=lambda chunk: wanted[chunk].latent))
    found = ranks.make(reading.going_on(wanted[:5]), exact=True)
    assert apart(found[0], wanted) == 0
    assert [settled(chunk)[:4] for chunk in found[1]] == [settled(chunk)[:4] for chunk in wanted]
    recalled = [] if preset == "paper" else [("read", frame // 3) for frame in wanted[6].choice.frames]
    assert asked_by(ranks, 0) == [("finished", chunk) for chunk in range(5)] + [("live", 5), ("live", 6), *recalled]
    assert asked_by(ranks, 0) == asked_by(ranks, 1) and bool(recalled) == (preset == "recall")


def asked_by(ranks: Ranks, rank: int) -> list[tuple[str, int]]:
    return [(each.what, each.number) for each in ranks.heard[rank] if type(each).__name__ == "Asked"]


def test_a_window_of_chunks_goes_on(ranks: Ranks, small) -> None:
    made, model = film("rolling_forcing", chunks=3), small(16)
    wanted = made.alone(model)
    ranks.load(model)
    for exact in (True, False):
        found = ranks.make(made.going_on(wanted[:2]), exact)
        assert apart(found[0], wanted) <= (0 if exact else TOLERANCE)
        assert found[0][1].window is None and found[1][2].window is None
        assert (found[0][2].window - wanted[2].window).abs().max() <= TOLERANCE
    assert ("window", 1) in asked_by(ranks, 1)


def test_a_live_prompt_comes_to_every_rank(ranks: Ranks, small) -> None:
    made, model = film(chunks=3), small(16)
    typed = {1: scene(1, "soft", live=True)}
    wanted = made.alone(model, live=typed.get)
    ranks.load(model)
    found = ranks.make(made, exact=True, live=typed.get)
    check_agreed(found, wanted)
    assert apart(found[0], wanted) == 0 and apart(found[0], made.alone(model)) > 0.1


def test_steps_are_told_once_with_what_rank_0_sees(ranks: Ranks, small) -> None:
    made, model = film(chunks=2, prefix=drawn(9, 16, 4), sigmas=TWO_STEPS), small(16)
    ranks.load(model)
    first, second = ranks.make(made, exact=False)
    told = [[each for each in of_rank if type(each).__name__ in ("Step", "Prefix")] for of_rank in ranks.heard]
    steps = [[(each.chunk, each.step) for each in of_rank if type(each).__name__ == "Step"] for of_rank in told]
    assert steps[0] == steps[1] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [(each.done, each.chunks) for each in told[0][:2]] == [(1, 2), (2, 2)]
    assert torch.equal(told[0][3].x0, first[0].latent) and all(each.x0 is None for each in told[1][2:])
    assert [each.index for each in second] == [0, 1]


def failure(work: Callable[[], object]) -> Any:
    """What went wrong in a rank, as this process reads it."""
    with pytest.raises(Exception) as caught:
        work()
    return caught.value.cause


def test_cancelled_ranks_end_together_and_go_on_with_the_next_film(ranks: Ranks, small) -> None:
    made, model = film(chunks=3), small(16)
    ranks.load(model)
    wanted = ranks.make(made, exact=True)[0]

    def at_a_step(message: Any) -> None:
        if (type(message).__name__, getattr(message, "step", 0)) == ("Step", 1) and message.chunk == 1:
            ranks.call("cancel", group="talk")

    def at_a_question(message: Any) -> None:
        if type(message).__name__ == "Asked" and message.number == 2:
            ranks.actors[1].cancel.options(concurrency_group="talk").remote()

    for hear, chunks in ((at_a_step, 1), (at_a_question, 2)):
        error = failure(lambda hear=hear: ranks.make(made, exact=True, hear=hear))
        assert error.is_cancel and (error.kind, error.is_oom) == ("InterruptedError", False)
        heard = [[each for each in of_rank if type(each).__name__ == "Made"] for of_rank in ranks.heard]
        assert [len(each) for each in heard] == [chunks, chunks]
        ends = [failure(lambda ref=ref: ranks.ray.get(ref)).kind for ref in ranks.runs]
        assert ends == ["InterruptedError", "InterruptedError"]
    assert apart(ranks.make(made, exact=True)[0], wanted) == 0


def test_an_error_is_told_in_its_own_words(ranks: Ranks, small) -> None:
    model = small(16)
    ranks.load(model)
    broken = text(1)
    broken[0][0][:] = float("nan")
    spoiled = film(segments=(module("headforcing_core.rollout.plan").Segment(0, broken),))
    error = failure(lambda: ranks.make(spoiled, exact=True))
    assert error.kind == "RuntimeError" and error.sentence.startswith("Chunk 0 came out with NaN or infinity.")
    made = film()
    assert apart(ranks.make(made, exact=True)[0], made.alone(model)) == 0


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"fingerprint": "weights:0"}, "self_forcing_dmd.safetensors is another file by now"),
        ({"patches": {}}, "What is added to the weights of self_forcing_dmd.safetensors came out otherwise"),
    ],
)
def test_another_model_than_that_of_the_page_is_refused(ranks: Ranks, with_lora, changed: dict, sentence: str) -> None:
    recipe = replace(module("nodes.cards.model_recipe").recipe_of(with_lora), **changed)
    error = failure(lambda: ranks.call("load", recipe))
    assert error.kind == "RuntimeError" and sentence in error.sentence
    ranks.forget()


def test_ranks_compute_as_the_page_does(ranks: Ranks, small, monkeypatch: pytest.MonkeyPatch) -> None:
    from comfy.cli_args import LatentPreviewMethod, args

    deciding, model = module("nodes.cards.deciding"), small(16)
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.TAESD)  # as the page does for each run
    page = deciding.deciding_about_bits(model)
    for number, arrived in enumerate(ranks.load(model)):
        deciding.check_alike(page, arrived.decides, number)
        assert arrived.device == "cpu" and 0 < arrived.free_bytes < arrived.total_bytes
    assert (page["--cpu"], page["--fast"]) == ("True", "[]") and page["attention"].startswith("attention_")
    other = {**page, "attention": "attention_sage", "--fast": "['fp16_accumulation']"}
    with pytest.raises(RuntimeError, match="Card 1 .*attention is attention_sage there and .*--fast is "):
        deciding.check_alike(page, other, 1)
