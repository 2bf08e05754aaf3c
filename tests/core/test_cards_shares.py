"""Heads dealt over ranks: all of them once, evenly by what they cost, and memory evenly over the layers."""

import random
from collections.abc import Sequence
from itertools import product
from statistics import fmean

import pytest
from cards_on_threads import dealt
from hypothesis import given, settings
from hypothesis import strategies as st

from headforcing_core.cards.head_shares import HeadShares, deal
from headforcing_core.kv_memory.memory_plan import FrameOfHead, MemoryPlan
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.head_types import HEAD_TYPES, Labels
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.memory_size import plan_memory

SEVERAL = settings(derandomize=True, deadline=None, max_examples=60)
FRAME = FrameOfHead(1560, 128, 2)
LAYERS, HEADS = 30, 12


@st.composite
def deals(draw: st.DrawFn) -> tuple[HeadShares, int]:
    """A model of small layers on some ranks."""
    heads = draw(st.integers(1, 7))
    types = st.tuples(*[st.sampled_from(HEAD_TYPES)] * heads)
    labels = draw(st.lists(types, min_size=1, max_size=6))
    frames = {name: draw(st.integers(0, 21)) for name in HEAD_TYPES}
    ranks = draw(st.integers(1, min(heads, 4)))
    chunk_frames = draw(st.integers(1, 8))
    shares = deal(labels, frames, chunk_frames, ranks)
    assert shares == deal(labels, frames, chunk_frames, ranks)
    assert shares.costs == {name: kept + chunk_frames for name, kept in frames.items()}
    return shares, ranks


def loads(shares: HeadShares, layer: int) -> list[int]:
    return [sum(shares.costs[shares.labels[layer][head]] for head in part) for part in shares.heads[layer]]


def least_possible(costs: Sequence[int], ranks: int) -> int:
    """What the slowest rank costs at best, of all ways to deal."""
    ways = product(range(ranks), repeat=len(costs))
    return min(max(sum(c for c, on in zip(costs, way, strict=True) if on == r) for r in range(ranks)) for way in ways)


@SEVERAL
@given(deals())
def test_every_head_is_with_one_rank_and_every_rank_has_one_in_each_layer(drawn: tuple[HeadShares, int]) -> None:
    shares, ranks = drawn
    for layer, types in enumerate(shares.labels):
        own = [shares.own(layer, rank) for rank in range(ranks)]
        assert sorted(head for part in own for head in part) == list(range(len(types)))
        assert all(part and part == tuple(sorted(part)) for part in own)
        for rank, part in enumerate(own):
            assert shares.labels_of(rank)[layer] == tuple(types[head] for head in part)


@settings(SEVERAL, max_examples=15)
@given(deals())
def test_the_slowest_rank_is_within_the_bound_of_dealing_the_dearest_first(drawn: tuple[HeadShares, int]) -> None:
    shares, ranks = drawn
    for layer, types in enumerate(shares.labels):
        least = least_possible([shares.costs[name] for name in types], ranks)
        assert max(loads(shares, layer)) <= (4 / 3 - 1 / (3 * ranks)) * least
    slowest = [max(loads(shares, layer)) for layer in range(len(shares.labels))]
    mean = [fmean(loads(shares, layer)) for layer in range(len(shares.labels))]
    assert shares.evenness() == pytest.approx(sum(mean) / sum(slowest))


def test_an_example_by_hand() -> None:
    types = ("memory", "local", "anchor", "local", "local")
    shares = deal((types,) * 2, {"local": 1, "anchor": 4, "memory": 15}, 3, 2)
    assert shares.heads == (((0,), (1, 2, 3, 4)), ((1, 2, 3, 4), (0,)))  # 18 against 19; then the other way round
    assert shares.evenness() == pytest.approx(18.5 / 19)


@pytest.mark.parametrize(("heads", "ranks"), [(12, 13), (1, 2), (3, 64)])
def test_more_ranks_than_heads_are_refused(heads: int, ranks: int) -> None:
    labels = (("memory",) * 12, ("memory",) * heads)
    with pytest.raises(ValueError, match=rf"{ranks} cards .* {heads} heads.* Use {heads} cards or fewer"):
        deal(labels, {"memory": 15}, 3, ranks)
    assert deal(labels, {"memory": 15}, 3, heads).own(1, heads - 1) == (heads - 1,)


def drawn_labels(seed: int) -> Labels:
    """As of the 1.3B model: 54 local, 90 anchor and 216 memory heads in any order."""
    heads = ["local"] * 54 + ["anchor"] * 90 + ["memory"] * 216
    random.Random(seed).shuffle(heads)
    return tuple(tuple(heads[HEADS * layer : HEADS * (layer + 1)]) for layer in range(LAYERS))


def plan_of(preset: str, labels: Labels) -> MemoryPlan:
    chunks = 7 if PRESETS[preset].keep_everything else 100
    return plan_memory(fit_policy(PRESETS[preset], 3, 21, 3 * chunks), labels, chunks)


DRAWS = [drawn_labels(seed) for seed in range(60)]


@pytest.mark.parametrize(("ranks", "mean", "worst"), [(2, 0.98, 0.97), (3, 0.95, 0.935), (4, 0.92, 0.89)])
def test_a_layer_is_attended_to_evenly(ranks: int, mean: float, worst: float) -> None:
    even = [dealt(plan_of("paper", labels), ranks).evenness() for labels in DRAWS]
    assert fmean(even) >= mean and min(even) >= worst


@pytest.mark.parametrize(("ranks", "even"), [(2, 1.05), (3, 1.09), (4, 1.15)])
@pytest.mark.parametrize("preset", PRESETS)
def test_memory_is_divided_by_the_number_of_ranks(preset: str, ranks: int, even: float) -> None:
    """What is kept after warm-up to 2 %, the most that is ever there less evenly: in warm-up it goes by the number of
    heads, which is uneven where costs are even."""
    for labels in DRAWS[:8]:
        plan = plan_of(preset, labels)
        shares = dealt(plan, ranks)
        plans = [shares.plan_of(plan, rank) for rank in range(ranks)]
        kept = [sum(plan.capacity[name] for layer in each.labels for name in layer) for each in plans]
        assert max(kept) <= 1.02 * fmean(kept)
        assert [each.capacity for each in plans] == [plan.capacity] * ranks
        most = [each.expected_bytes(FRAME) for each in plans]
        assert plan.expected_bytes(FRAME) <= 1.01 * sum(most)
        assert max(most) <= even * plan.expected_bytes(FRAME) / ranks
