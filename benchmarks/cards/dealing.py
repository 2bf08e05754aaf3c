"""Heads of every layer over ranks: as the pack deals them, and in the two ways that others do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headforcing_core.cards.head_shares import HeadShares, deal
from headforcing_core.cards.sharded_memory import token_shares
from headforcing_core.policy.head_types import Labels

Parts = Sequence[Sequence[int]]
"""Of one layer: the heads of every rank."""
BY_COST, EQUAL_COUNTS, IN_ORDER = "by cost, uneven", "by cost, equal counts", "in order, equal counts"


@dataclass(frozen=True)
class Heads:
    """The heads of a model, what each type keeps in frames, and the frames of a chunk."""

    labels: Labels
    frames: Mapping[str, int]
    chunk_frames: int

    def costs(self, layer: int) -> list[int]:
        """Frames that each head of a layer reads: what its attention costs."""
        return [self.frames[label] + self.chunk_frames for label in self.labels[layer]]


Way = Callable[[Heads, int], list[Parts] | None]
"""(heads, ranks) -> the parts of every layer; None where it cannot be done."""


def by_cost(heads: Heads, ranks: int) -> list[Parts]:
    """As the pack does."""
    return list(deal(heads.labels, heads.frames, heads.chunk_frames, ranks).heads)


def equal_counts(heads: Heads, ranks: int) -> list[Parts] | None:
    """The dearest heads first, to the ranks there and back and so on."""
    count = len(heads.labels[0])
    if count % ranks:
        return None
    every: list[Parts] = []
    for layer in range(len(heads.labels)):
        costs = heads.costs(layer)
        parts: list[list[int]] = [[] for _ in range(ranks)]
        for place, head in enumerate(sorted(range(count), key=lambda head: -costs[head])):
            turn, column = divmod(place, ranks)
            parts[column if turn % 2 == 0 else ranks - 1 - column].append(head)
        every.append(parts)
    return every


def in_order(heads: Heads, ranks: int) -> list[Parts] | None:
    """The first heads to the first rank and so on, whatever they cost."""
    count = len(heads.labels[0])
    if count % ranks:
        return None
    each = count // ranks
    return [[range(rank * each, (rank + 1) * each) for rank in range(ranks)] for _ in heads.labels]


WAYS: Mapping[str, Way] = {BY_COST: by_cost, EQUAL_COUNTS: equal_counts, IN_ORDER: in_order}


def evenness(heads: Heads, parts: Sequence[Parts]) -> float:
    """Mean load of a rank over that of the slowest, as time adds up: layers wait for their slowest one by one."""
    mean = slowest = 0.0
    for layer, part in enumerate(parts):
        costs = heads.costs(layer)
        loads = [sum(costs[head] for head in own) for own in part]
        mean += sum(loads) / len(loads)
        slowest += max(loads)
    return mean / slowest


def sent_numbers(shares: HeadShares, tokens: int, exact: bool) -> list[int]:
    """What each rank sends to the others for attention in a pass over so many tokens, in numbers a dimension of a head.

    Of its own tokens q, k and v in others' heads, and of its own heads the output for others' tokens; `exact` the
    output of its own heads for all tokens, to every other."""
    ranks = len(shares.heads[0])
    sent, own_tokens = [0] * ranks, token_shares(tokens, ranks)
    for parts in shares.heads:
        every = sum(map(len, parts))
        for rank, own in enumerate(map(len, parts)):
            others = 3 * own_tokens[rank] * (every - own) + (tokens - own_tokens[rank]) * own
            sent[rank] += tokens * own * (ranks - 1) if exact else others
    return sent
