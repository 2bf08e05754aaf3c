"""Two ranks in processes of their own make what one process makes: every family, every way, every kind of MODEL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cards.ranks import Film, Ranks, film, module, two_ranks
from tests.fixtures.tiny_wan import WanShape, causal_wan
from tests.host.conftest import Files

FULL_FILE, LORA = "self_forcing_dmd.safetensors", "tiny_lora.safetensors"
FULL_LAYERS = 4
CHANNELS = {16: {}, 48: {"channels": 48}, 36: {"image_channels": 20}}  # that a model is given
SMALL = {"dim": 384, "layers": 2, "ffn_dim": 384}
TOLERANCE = 1e-5
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
    worst = apart(found[0], wanted)
    print("WORST", worst)
    assert worst <= tolerance
    assert wanted[-1].latent.std() > 0.3
    return wanted


@pytest.mark.parametrize("preset", ["paper", "recall", "tiny"])
def test_exact_is_bit_equal_and_shared_tokens_are_near(ranks: Ranks, with_lora, preset: str) -> None:
    made = film(preset=preset, chunks=6, layers=FULL_LAYERS)
    wanted = check_same(ranks, with_lora, made, 1e-2 if preset == "tiny" else TOLERANCE)
    found = ranks.make(made, exact=True)
    check_agreed(found, wanted)
    assert apart(found[0], wanted) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(ranks: Ranks, small, family: str) -> None:
    check_same(ranks, small(given_channels(family)), film(family))
