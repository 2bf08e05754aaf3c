"""What benchmarks/cards reckons on paper is what the core deals, holds and sends."""

from statistics import mean

import pytest
import torch

from benchmarks.cards.dealing import WAYS, by_cost, evenness
from benchmarks.cards.paper import LEAST_EVEN, MODELS, NUMBER_BYTES, POLICY, RANKS, Paper
from benchmarks.cards.simulate import bytes_counted, bytes_reckoned
from benchmarks.shared.host_process import HEAD_DIM
from benchmarks.shared.stage import Size

SEEDS = range(5)
SIZE = Size(832, 480)


def drawn(model: str = "1.3B") -> list[Paper]:
    """Some random profiles of a model at full size."""
    return [Paper(MODELS[model], SIZE, seed) for seed in SEEDS]


def test_labels_are_drawn_at_the_usual_shares() -> None:
    flat = [label for layer in drawn()[3].labels for label in layer]
    assert [flat.count(name) for name in ("anchor", "local", "memory")] == [90, 54, 216]


@pytest.mark.parametrize("ranks", RANKS)
def test_heads_are_dealt_as_evenly_as_the_core_says(ranks: int) -> None:
    even = [evenness(each.heads, by_cost(each.heads, ranks)) for each in drawn()]
    assert even == pytest.approx([each.shares(ranks).evenness() for each in drawn()])
    assert mean(even) >= LEAST_EVEN.get(ranks, 0.75)
    for way in WAYS.values():
        dealt = [way(each.heads, ranks) for each in drawn()]
        assert all(parts is None or sorted(h for part in parts[0] for h in part) == [*range(12)] for parts in dealt)
        known = [evenness(each.heads, parts) for each, parts in zip(drawn(), dealt, strict=True) if parts is not None]
        assert not known or mean(known) <= mean(even)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_sends_what_the_formulas_say(model: str, ranks: int) -> None:
    paper = Paper(MODELS[model], SIZE)
    every = paper.shape.layers * paper.task.rows * paper.shape.dim * NUMBER_BYTES * (ranks - 1)
    assert mean(paper.sent_bytes(ranks, exact=False)) == pytest.approx(4 * every / ranks**2)
    assert mean(paper.sent_bytes(ranks, exact=True)) == pytest.approx(every / ranks)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_what_travels_between_threads_is_what_was_reckoned(ranks: int, exact: bool) -> None:
    plan = drawn()[1].plan
    with torch.inference_mode():
        assert bytes_counted(plan, ranks, exact) == bytes_reckoned(plan, ranks, exact)


@pytest.mark.parametrize("ranks", (1, *RANKS))
def test_ranks_hold_together_what_one_card_holds(ranks: int) -> None:
    for paper in drawn():
        held, task = paper.held_bytes(ranks), paper.task
        later = task.kv_bytes(POLICY, NUMBER_BYTES) + task.beside_bytes(POLICY, NUMBER_BYTES)
        most = task.warm_up_bytes(POLICY, NUMBER_BYTES)
        assert sum(after for _, after in held) == later
        assert max(after for _, after in held) <= later / ranks * (1.01 if ranks == 2 else 1.05)
        assert sum(warm for warm, _ in held) >= most > later  # a rank peaks in warm-up or after it
        heads = [sum(map(len, paper.shares(ranks).labels_of(rank))) for rank in range(ranks)]
        assert max(warm for warm, _ in held) == most * max(heads) // sum(heads)


def test_gains_end_where_work_that_is_not_divided_says() -> None:
    paper = drawn()[0]
    work = paper.task.work(POLICY)
    divided = paper.self_attention / work.total
    assert divided == pytest.approx(17.696 / 29.997, abs=1e-3)  # docs/performance.md
    assert paper.faster(10**6, True, 1.0) == pytest.approx(1 / (1 - divided), rel=1e-4)
    assert paper.faster(2, False, 1.0) == pytest.approx(2 / (1 + paper.of_every_rank / work.total))
    assert HEAD_DIM * paper.shape.heads == paper.shape.dim
