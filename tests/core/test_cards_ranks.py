"""What ranks send each other, that they stay together, go on from each other's chunks, and end together."""

import random
from dataclasses import replace

import pytest
import torch
from cards_on_threads import Group, TinyShare, alone, check_same, dealt
from hypothesis import given, settings
from hypothesis import strategies as st
from side_by_side import Case, planned
from test_cards_rollout import FEW_OF_A_TYPE, MIXED, NEAR, SETTINGS, case_of, model_of, rolling
from test_rolling import first
from tiny_model import Attend, wan_rotation
from torch import Tensor

from headforcing_core.cards.exchange import Exchange, Threads
from headforcing_core.cards.sharded_memory import ShardedMemory, token_shares
from headforcing_core.kv_memory.attention import Attention, dense_attention
from headforcing_core.kv_memory.memory import EVERY_HEAD, KVMemory
from headforcing_core.kv_memory.memory_plan import FrameOfHead, MemoryPlan
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.head_types import HEAD_TYPES, Labels

HEAD_DIM, NUMBER = 24, 4  # bytes of a number


def film(preset: str, labels: Labels = MIXED) -> Case:
    """Nine chunks with changes of prompt."""
    setting = next(each for each in SETTINGS if each.preset == preset)
    return case_of(setting._replace(labels=labels, prefix_frames=0))


# What travels


@st.composite
def passes(draw: st.DrawFn) -> tuple[int, Labels, int, int, bool]:
    """Ranks, labels of one layer, frames and rows of a chunk, and the design."""
    ranks = draw(st.integers(2, 4))
    heads = draw(st.integers(ranks, 7))
    types = draw(st.tuples(*[st.sampled_from(HEAD_TYPES)] * heads))
    return ranks, (types,), draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.booleans())


@settings(derandomize=True, deadline=None, max_examples=25)
@given(passes())
def test_a_pass_sends_its_chunk_once_there_and_once_back(drawn: tuple[int, Labels, int, int, bool]) -> None:
    """Of rank r with n tokens of T and h heads of H: 3 n (H - h) heads of tokens before attention and (T - n) h after
    it; T h to each of the others where all is exact. Keys for descriptors are sent where they are not there already."""
    ranks, labels, frames, rows, exact = drawn
    plan = MemoryPlan(labels, dict.fromkeys(HEAD_TYPES, 5), 6, frames, capture=(0,))
    shares, heads = dealt(plan, ranks), len(labels[0])
    tokens = frames * rows * 3
    draw = torch.Generator().manual_seed(tokens)
    q, k, v = torch.randn(3, 1, tokens, heads, HEAD_DIM, generator=draw)
    rotation = wan_rotation(range(frames), rows, 3, HEAD_DIM)
    one = KVMemory(plan, dense_attention, rotate)
    one.begin(range(frames), {EVERY_HEAD: {}})
    out = one.attend(0, q, k, v, rotation)[0]

    def on_rank(exchange: Exchange) -> None:
        memory, rank = ShardedMemory(plan, shares, exchange, exact, dense_attention, rotate), exchange.rank
        memory.begin(range(frames), {EVERY_HEAD: {}})
        own = [memory.own_tokens(x) for x in (q, k, v)]
        made, _ = memory.attend(0, *own, rotation)
        n, h = own[0].shape[1], len(shares.own(0, rank))
        assert n == (tokens if exact else token_shares(tokens, ranks)[rank])
        sent = (tokens * h * (ranks - 1)) if exact else (3 * n * (heads - h) + (tokens - n) * h)
        assert exchange.sent_bytes == sent * HEAD_DIM * NUMBER
        torch.testing.assert_close(made, memory.own_tokens(out), rtol=0, atol=0 if exact else 1e-6)
        assert memory.captured_keys(0).equal(one.captured_keys(0))
        assert memory.captured_keys(0).equal(one.captured_keys(0))
        sent += 0 if exact else tokens * h * (ranks - 1)
        assert exchange.sent_bytes == sent * HEAD_DIM * NUMBER
        turned = memory.turn_in_place(own[1], rotation)
        assert turned.equal(memory.own_tokens(one.turn_in_place(k, rotation)))

    Threads(ranks).run(on_rank)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tokens"])
def test_a_film_sends_what_the_formula_says_however_long_its_past_is(ranks: int, exact: bool) -> None:
    """With even heads and tokens 4 T W (N - 1) / N^2 numbers a layer and pass; T W (N - 1) / N where all is exact."""
    labels: Labels = (("memory",) * 12,) * 2
    case, model = film("uniform", labels), model_of(labels)
    made = Group(case, model, ranks, exact).made()
    tokens, width = 18, 12 * HEAD_DIM
    layer = tokens * width * (ranks - 1) // ranks if exact else 4 * tokens * width * (ranks - 1) // ranks**2
    gathered = 0 if exact else tokens // ranks * width * (ranks - 1)
    picture = case.chunk_shape[1] * case.chunk_frames * 4 * 6 * (ranks - 1)
    uneven = tokens % ranks and not exact
    for rank, each in enumerate(made):
        expected = each.passes * (len(labels) * layer + gathered + (0 if rank else picture)) * NUMBER
        assert uneven or each.sent_bytes == expected
    if uneven:  # all ranks together, for shares of 5, 5, 4 and 4 tokens
        blocks = sum(3 * n * 9 + (tokens - n) * 3 for n in token_shares(tokens, ranks)) * HEAD_DIM * len(labels)
        assert sum(each.sent_bytes for each in made) == made[0].passes * NUMBER * (
            blocks + tokens * width * (ranks - 1) + picture
        )


# What lies where


def drawn_labels(layers: int) -> Labels:
    heads = ["local"] * 3 * layers + ["anchor"] * 2 * layers + ["memory"] * 7 * layers
    random.Random(1).shuffle(heads)
    return tuple(tuple(heads[12 * layer : 12 * layer + 12]) for layer in range(layers))


@pytest.mark.parametrize(("preset", "rel"), [("paper", 0.06), ("tiny", 0.1)])
def test_each_of_two_ranks_holds_half_the_past_and_no_more_than_was_told_before(preset: str, rel: float) -> None:
    """In 8 bits there is room beside it for the layer that has most heads, which is less even."""
    labels = drawn_labels(3)
    case, model = film(preset, labels), model_of(labels)
    Weighed.most.clear()
    made = Group(case, model, 2, exact=True, memory=Weighed).made()
    plan = planned(case, model).memory_plan(labels)
    shares = dealt(plan, 2)
    whole = [chunk.kv_bytes for chunk in alone(case, model)]
    told = plan.expected_bytes(FrameOfHead(6, HEAD_DIM, NUMBER))
    for rank, each in enumerate(made):
        assert [2 * chunk.kv_bytes for chunk in each.chunks] == pytest.approx(whole, rel=0.06)
        most = shares.plan_of(plan, rank).expected_bytes(FrameOfHead(6, HEAD_DIM, NUMBER))
        assert 0.5 * most < Weighed.most[rank] <= most and 2 * most == pytest.approx(told, rel=rel)


class Weighed(ShardedMemory):
    """Knows the most that was ever there."""

    most: dict[int, int] = {}

    def keep(self, *args: object, **kwargs: object) -> None:
        self.most[self._exchange.rank] = max(self.most.get(self._exchange.rank, 0), self.kv_bytes + self.chunk_bytes)
        super().keep(*args, **kwargs)


def test_the_films_of_few_heads_of_a_type_have_ranks_without_one_in_all_layers() -> None:
    shares = dealt(MemoryPlan(FEW_OF_A_TYPE, {"local": 1, "anchor": 4, "memory": 15}, 6, 3), 4)
    found = [{name for types in shares.labels_of(rank) for name in types} for rank in range(4)]
    assert sorted(map(sorted, found)) == [["anchor", "local"], ["local"], ["local"], ["local", "memory"]]


# Staying together


class OwnRoundings(TinyShare):
    """A rank whose card rounds in its own way."""

    def clean(self, *args: object, **kwargs: object) -> Tensor:
        return super().clean(*args, **kwargs) + 1e-4 * self.memory._exchange.rank


class OwnKeys(ShardedMemory):
    """The same where descriptors are made."""

    def captured_keys(self, layer: int) -> Tensor:
        keys = super().captured_keys(layer)
        return keys + 0.05 * self._exchange.rank * torch.arange(keys.shape[-1])


@pytest.mark.parametrize("preset", ["paper", "recall"])
def test_ranks_whose_roundings_differ_make_one_film_by_the_same_decisions(preset: str) -> None:
    case, model = replace(film(preset), changes=((7, "recache", 1),)), model_of(MIXED)
    one = alone(case, model)
    if preset == "recall":
        assert any(chunk.choice and chunk.choice.candidates > 2 for chunk in one)
    else:
        assert any(each.novelty < 1 for chunk in one for each in chunk.decisions)
    check_same(one, Group(case, model, 3, exact=True, memory=OwnKeys, share=OwnRoundings).made())


@pytest.mark.parametrize(("name", "exact"), [("paper", True), ("recall", False), ("tiny", True), ("rolling", False)])
def test_a_run_goes_on_with_any_number_of_ranks(name: str, exact: bool) -> None:
    case = rolling("paper") if name == "rolling" else film(name)
    model, near = model_of(MIXED), 0.0 if exact else NEAR
    whole = alone(case, model)
    begun = Group(case, model, 2, exact).made()
    gone_on = alone(case, model, first(begun[1].chunks, 3))
    back = Group(case, model, 3, exact).made(first(gone_on, 6))
    for chunks in (gone_on, *(each.chunks for each in back)):
        for chunk, expected in zip(chunks, whole, strict=True):
            assert (chunk.latent - expected.latent).abs().max() <= near
            assert chunk.seen == expected.seen
            assert [(d.frame, d.admitted, d.dropped) for d in chunk.decisions] == [
                (d.frame, d.admitted, d.dropped) for d in expected.decisions
            ]
            assert (chunk.choice and chunk.choice.frames) == (expected.choice and expected.choice.frames)


# Ending together


class Seen(ShardedMemory):
    """Can be looked at when all is over."""

    all: list["Seen"] = []

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.all.append(self)


@pytest.mark.parametrize("call", [1, 30])
def test_an_error_on_one_rank_ends_all_with_that_error(call: int) -> None:
    Seen.all.clear()

    def attention_of(exchange: Exchange) -> Attention:
        calls = 0

        def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
            nonlocal calls
            calls += 1
            if (exchange.rank, calls) == (1, call):
                raise torch.OutOfMemoryError("card 1 is full")
            return dense_attention(q, k, v, heads)

        return attention

    case, model = film("paper"), model_of(MIXED)
    with pytest.raises(torch.OutOfMemoryError, match="card 1 is full"):
        Group(case, model, 3, exact=False, memory=Seen, attention=attention_of).made()
    assert [memory.kv_bytes for memory in Seen.all] == [0, 0, 0]


class PastTheMemory(TinyShare):
    """Leaves a layer's attention out, as caches do."""

    def through(self, tokens: Tensor, condition: Tensor, attend: Attend) -> Tensor:
        return super().through(tokens, condition, lambda at, q, k, v: attend(at, q, k, v) if at != 1 else v.flatten(2))


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "tokens"])
def test_a_layer_that_does_not_come_by_ends_all(exact: bool) -> None:
    group = Group(film("paper"), model_of(MIXED), 2, exact, share=PastTheMemory)
    with pytest.raises(RuntimeError, match="1 of 2 layers, the first is layer 1"):
        group.made()


def test_ranks_that_part_end() -> None:
    def another(exchange: Exchange) -> object:
        return exchange.any(False) if exchange.rank else exchange.broadcast(torch.zeros(2))

    def fewer(exchange: Exchange) -> object:
        return None if exchange.rank == 1 else exchange.any(True)

    def other_sizes(exchange: Exchange) -> object:
        return exchange.all_gather(torch.zeros(2), [2, 2 + exchange.rank, 2])

    for parting in (another, fewer, other_sizes):
        with pytest.raises(RuntimeError, match="The ranks have parted"):
            Threads(3).run(parting)


def test_one_vote_is_enough() -> None:
    def votes(exchange: Exchange) -> list[bool]:
        return [exchange.any(exchange.rank == who) for who in (0, 1, 2, 3)]

    assert Threads(3).run(votes) == [[True, True, True, False]] * 3
