"""What several cards can gain at best, on paper: nothing is measured.

python dev.py run -- python benchmarks/cards/paper.py [--model 1.3B|14B] [--json FILE]

How evenly heads can be dealt, what a rank sends in a pass, how many times as fast a chunk is made over each kind of
link, and what each card holds. Policy paper, 832x480, chunks of 3 frames, 2 bytes a number, means over random labels
at the usual shares (90 anchor, 54 local, 216 memory of 360). See docs/performance.md.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.card.arithmetic import GIGA, TERA, Task
from benchmarks.cards.dealing import WAYS, Heads, by_cost, evenness, sent_numbers
from benchmarks.shared.host_process import HEAD_DIM, WanShape, model_shape
from benchmarks.shared.stage import CHUNK_FRAMES, Size
from benchmarks.shared.tables import Findings, Row, Target
from headforcing_core.cards.head_shares import HeadShares, deal
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.kv_memory.memory_plan import FrameOfHead, MemoryPlan
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.memory_size import plan_memory

POLICY, NUMBER_BYTES, CHUNKS = "paper", 2, 100
RANKS, EXACT_RANKS = (2, 3, 4, 6, 8), (2, 4, 8)
DRAWS = 20
MODELS = {"1.3B": model_shape(30, 12), "14B": WanShape(40 * HEAD_DIM, 40, 13824)}
TEXT_TOKENS, TEXT_DIM = 512, 4096
MEGA = 1e6
LEAST_EVEN, MOST_HALF = {2: 0.98, 4: 0.92}, 0.51


@dataclass(frozen=True)
class Link:
    """What cards talk over: bytes a second in one direction, and seconds before the first byte."""

    name: str
    rate: float
    latency: float


@dataclass(frozen=True)
class Place:
    """A kind of card, by the operations a second that it really does, and a link."""

    rate: float
    link: Link

    def __str__(self) -> str:
        return f"{self.rate / TERA:.0f} TFLOP/s, {self.link.name}"


NVLINK = Link("NVLink, 200 GB/s", 200e9, 15e-6)
PCIE4 = Link("PCIe4 x16, 20 GB/s", 20e9, 25e-6)
THROUGH_HOST = Link("PCIe through main memory, 6 GB/s", 6e9, 50e-6)
FAST_NETWORK = Link("100 GbE, 10 GB/s", 10e9, 40e-6)
TEN_GIGABIT = Link("10 GbE, 1.1 GB/s", 1.1e9, 80e-6)
GIGABIT = Link("1 GbE, 0.11 GB/s", 0.11e9, 100e-6)
PLACES = (
    *(Place(400e12, link) for link in (NVLINK, PCIE4)),
    *(Place(120e12, link) for link in (PCIE4, THROUGH_HOST, FAST_NETWORK, TEN_GIGABIT)),
    *(Place(40e12, link) for link in (PCIE4, THROUGH_HOST, TEN_GIGABIT, GIGABIT)),
)


@dataclass(frozen=True)
class Paper:
    """A model of a size, its heads drawn from a seed, and the pack's policy on it."""

    shape: WanShape
    size: Size
    seed: int = 0

    @cached_property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """At random, at the usual shares."""
        return label_heads(LabelRule("random", seed=self.seed), self.shape.layers, self.shape.heads, None)

    @cached_property
    def plan(self) -> MemoryPlan:
        """What one card alone holds."""
        fitted = fit_policy(PRESETS[POLICY], CHUNK_FRAMES, SELF_FORCING.trained_frames, CHUNKS * CHUNK_FRAMES)
        return plan_memory(fitted, self.labels, CHUNKS)

    @cached_property
    def heads(self) -> Heads:
        """For dealing."""
        return Heads(self.labels, self.plan.capacity, CHUNK_FRAMES)

    @property
    def task(self) -> Task:
        """The work of a pass."""
        return Task(self.shape, self.labels, self.size.tokens, TEXT_TOKENS, TEXT_DIM)

    def shares(self, ranks: int) -> HeadShares:
        """As the pack deals them."""
        return deal(self.labels, self.plan.capacity, CHUNK_FRAMES, ranks)

    @property
    def self_attention(self) -> float:
        """Operations of a pass in the attention that is dealt by heads."""
        to_text = 4 * self.task.rows * TEXT_TOKENS * self.shape.dim * self.shape.layers
        return self.task.work(POLICY).attention - to_text

    @property
    def of_every_rank(self) -> float:
        """Operations of a pass that every rank does for itself however tokens are shared: K and V of the text, and what
        brings the text to the model's width."""
        d = self.shape.dim
        return self.shape.layers * 4 * TEXT_TOKENS * d * d + 2 * TEXT_TOKENS * (TEXT_DIM + d) * d

    def sent_bytes(self, ranks: int, exact: bool) -> list[int]:
        """What each rank sends to the others in a pass, for attention."""
        sent = sent_numbers(self.shares(ranks), self.task.rows, exact)
        return [HEAD_DIM * NUMBER_BYTES * numbers for numbers in sent]

    def faster(self, ranks: int, exact: bool, even: float, place: Place | None = None) -> float:
        """One card's seconds over those of so many; without a place as if talk took no time."""
        whole = self.task.work(POLICY).total
        apart = self.self_attention / (ranks * even)
        rest, alone = whole - self.self_attention, self.of_every_rank
        work = apart + (rest if exact else alone + (rest - alone) / ranks)
        if place is None:
            return whole / work
        calls = self.shape.layers * (1 if exact else 2)
        talk = mean(self.sent_bytes(ranks, exact)) / place.link.rate + calls * place.link.latency
        return (whole / place.rate) / (work / place.rate + talk)

    def held_bytes(self, ranks: int) -> list[tuple[int, int]]:
        """Of each rank: the most that its K and V take with what lies beside them, and what they take after warm-up."""
        frame = FrameOfHead(self.size.tokens, HEAD_DIM, NUMBER_BYTES)
        plans = [self.shares(ranks).plan_of(self.plan, rank) for rank in range(ranks)]
        later = [replace(plan, warm_up_frames=0) for plan in plans]
        return [(a.expected_bytes(frame), b.expected_bytes(frame)) for a, b in zip(plans, later, strict=True)]


def main(words: Sequence[str] | None = None) -> Findings:
    """Reckon, show, write."""
    given = _options(words)
    size = Size(given.width, given.height)
    drawn = [Paper(MODELS[given.model], size, seed) for seed in range(given.draws)]
    findings = Findings(given.json, {"model": given.model, "size": str(size), "policy": POLICY, "draws": given.draws})
    even = {n: mean(evenness(each.heads, by_cost(each.heads, n)) for each in drawn) for n in RANKS}
    findings.add("evenness", "Mean load of a rank over that of the slowest, layer by layer", _even(drawn))
    findings.add("traffic", "MB that a rank sends in a pass (a chunk is five)", [_traffic(drawn, n) for n in RANKS])
    findings.add("gain", "Times as fast as one card", [_gain(drawn[0], even, place) for place in (None, *PLACES)])
    held = [_held(drawn, n) for n in (1, *RANKS)]
    findings.add("memory", "GB of K and V on each card, with what lies beside them", held)
    halves = mean(max(b for _, b in each.held_bytes(2)) / each.held_bytes(1)[0][1] for each in drawn)
    targets = [Target(f"{n} ranks, even by cost", even[n], least=least) for n, least in LEAST_EVEN.items()]
    findings.judge([*targets, Target("K and V of the fuller of two ranks over those of one", halves, most=MOST_HALF)])
    return findings


def _even(drawn: Sequence[Paper]) -> list[Row]:
    """A row for each number of ranks, a column for each way."""
    rows: list[Row] = []
    for ranks in RANKS:
        row: Row = {"ranks": ranks}
        for name, way in WAYS.items():
            dealt = [(each.heads, way(each.heads, ranks)) for each in drawn]
            known = [evenness(heads, parts) for heads, parts in dealt if parts is not None]
            row |= {name: mean(known) if known else None, f"least, {name}": min(known, default=None)}
        rows.append(row)
    return rows


def _traffic(drawn: Sequence[Paper], ranks: int) -> Row:
    shared, exact = ([each.sent_bytes(ranks, is_exact) for each in drawn] for is_exact in (False, True))
    paper, others = drawn[0], (ranks - 1) / ranks
    numbers = paper.shape.layers * paper.shape.dim * NUMBER_BYTES
    chunk, history = paper.task.rows * numbers, SELF_FORCING.trained_frames * paper.size.tokens * numbers
    return {
        "ranks": ranks,
        "tokens shared": mean(map(mean, shared)) / MEGA,
        "the rank that sends most": mean(map(max, shared)) / MEGA,
        "exact": mean(map(mean, exact)) / MEGA,
        "beside: weights divided (tensor parallel)": 6 * chunk * others / MEGA,
        "beside: a history of 21 frames sent, too": (2 * history + 2 * chunk) / ranks * others / MEGA,
    }


def _gain(paper: Paper, even: Mapping[int, float], place: Place | None) -> Row:
    row: Row = {"card and link": "talk takes no time" if place is None else str(place)}
    row |= {f"{n} cards": paper.faster(n, False, even[n], place) for n in RANKS}
    return row | {f"{n}, exact": paper.faster(n, True, even[n], place) for n in EXACT_RANKS}


def _held(drawn: Sequence[Paper], ranks: int) -> Row:
    held = [each.held_bytes(ranks) for each in drawn]
    row: Row = {"cards": ranks}
    for place, when in enumerate(("most, warm-up included", "after warm-up")):
        row[f"{when}, fullest"] = mean(max(rank[place] for rank in each) for each in held) / GIGA
        row[f"{when}, emptiest"] = mean(min(rank[place] for rank in each) for each in held) / GIGA
    return row


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--model", choices=tuple(MODELS), default="1.3B")
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--draws", type=int, default=DRAWS)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
