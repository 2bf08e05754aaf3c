"""Which rank has which heads. A layer ends when its slowest rank has attended, so the heads of each layer are dealt by
what they cost there, in whatever numbers come out even."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from ..kv_memory.memory_plan import MemoryPlan

Heads = tuple[int, ...]


@dataclass(frozen=True)
class HeadShares:
    """Every head of every layer with one rank, every rank with a head in each layer: `heads` by layer and rank, in
    order. `labels` are the types of all heads; `costs` the frames that a head of each type reads, chunk included."""

    labels: Sequence[Sequence[str]]
    costs: Mapping[str, int]
    heads: tuple[tuple[Heads, ...], ...]

    def own(self, layer: int, rank: int) -> Heads:
        """A rank's heads in a layer."""
        return self.heads[layer][rank]

    def labels_of(self, rank: int) -> tuple[tuple[str, ...], ...]:
        """The types of a rank's own heads, (layers, heads)."""
        return tuple(
            tuple(types[head] for head in parts[rank]) for types, parts in zip(self.labels, self.heads, strict=True)
        )

    def plan_of(self, plan: MemoryPlan, rank: int) -> MemoryPlan:
        """What a rank holds of what is held in all."""
        return replace(plan, labels=self.labels_of(rank), of=self.labels)

    def evenness(self) -> float:
        """The share of time in which all ranks attend: what a rank costs on average over what the slowest one does,
        layer after layer."""
        loads = [
            [sum(self.costs[types[head]] for head in part) for part in parts]
            for types, parts in zip(self.labels, self.heads, strict=True)
        ]
        return sum(map(fmean, loads)) / sum(map(max, loads))


def deal(labels: Sequence[Sequence[str]], frames: Mapping[str, int], chunk_frames: int, ranks: int) -> HeadShares:
    """Deal the heads of every layer. `frames` of history are kept by each head type that occurs, and read with a chunk.

    In a layer the dearest head goes first, each to the part that costs least so far. Which rank gets which part goes by
    what it keeps so far, so that memory comes out even over the layers. Example: heads memory, local, anchor, local,
    local keep 15, 1, 4, 1, 1 frames and read 3 more. One rank gets the first, 18 frames, the other all others, 19.
    ValueError for more ranks than heads.
    """
    fewest = min(map(len, labels))
    if ranks > fewest:
        raise ValueError(
            f"{ranks} cards are to share a model whose layers have {fewest} heads. Each card needs a head of every "
            f"layer at least. Use {fewest} cards or fewer."
        )
    costs = {name: kept + chunk_frames for name, kept in frames.items()}
    kept, dealt = [0] * ranks, []
    for types in labels:
        parts = _parts([costs[name] for name in types], ranks)
        keeping = [sum(frames[types[head]] for head in part) for part in parts]
        largest_first = sorted(range(ranks), key=lambda part: -keeping[part])
        least_first = sorted(range(ranks), key=lambda rank: kept[rank])
        part_of = dict(zip(least_first, largest_first, strict=True))
        for rank, part in part_of.items():
            kept[rank] += keeping[part]
        dealt.append(tuple(parts[part_of[rank]] for rank in range(ranks)))
    return HeadShares(labels, costs, tuple(dealt))


def _parts(costs: Sequence[int], parts: int) -> list[Heads]:
    """Heads in parts that cost about the same. Of equal parts the one with the fewest heads gets the next."""
    cost, heads = [0] * parts, [[] for _ in range(parts)]
    for head in sorted(range(len(costs)), key=lambda head: -costs[head]):
        part = min(range(parts), key=lambda part: (cost[part], len(heads[part])))
        heads[part].append(head)
        cost[part] += costs[head]
    return [tuple(sorted(each)) for each in heads]
