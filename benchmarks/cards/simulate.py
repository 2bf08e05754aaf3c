"""Several ranks on one processor: what they send is counted, what each computes is timed in turn. No card is used.

python dev.py run -- python benchmarks/cards/simulate.py [--layers N] [--ranks N ...] [--json FILE]

Ranks are threads, so every byte that travels between them is counted as it travels. For the times each rank's share of
a layer is computed by itself, with the pack's own KV memory over full tiers, and a layer takes as long as its slowest
rank; talk takes no time. Processor time, so ratios are what counts. See docs/performance.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from benchmarks.cards.dealing import IN_ORDER, WAYS, Heads, sent_numbers
from benchmarks.cards.differences import differences
from benchmarks.shared.host_process import HEAD_DIM, model_shape
from benchmarks.shared.stage import CHUNK_FRAMES, Size
from benchmarks.shared.tables import Findings, Row, Target, counted, labels_from, others, say, yes
from headforcing_core.cards.exchange import Exchange, Threads
from headforcing_core.cards.head_shares import deal
from headforcing_core.cards.sharded_memory import ShardedMemory, token_shares
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import EVERY_HEAD, KVMemory
from headforcing_core.kv_memory.memory_plan import MemoryPlan
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.memory_size import plan_memory

POLICY = "paper"
RANKS = (2, 3, 4, 8)
COUNTED_TOKENS = 15  # of a chunk; 2, 4 and 8 ranks share them unevenly
LEAST_SHARED, LEAST_EXACT = 1.6, 1.1  # times as fast, 2 ranks


def main(words: Sequence[str] | None = None) -> Findings:
    """Count, time, compare, show, write."""
    given = _options(words)
    torch.set_num_threads(given.threads)
    labels, size = labels_from(given.labels, 30, given.heads), Size(given.width, given.height)
    plan = _plan(labels)
    findings = Findings(
        given.json,
        {"marked": "counted and simulated on a processor, no card", "labels": counted(labels), "size": str(size)},
    )
    say(", ".join(f"{name} {value}" for name, value in findings.settings.items()))
    with torch.inference_mode():
        findings.add("counted", "Bytes sent in a pass, counted beside the formula", _counted(plan, given.ranks))
        findings.add("alone", "One rank against the others", _simulated(plan, size, given))
    findings.add("differences", "Difference to one rank: a small random model, policy paper", differences(given.ranks))
    rows = {row["ranks"]: row for row in findings.tables["alone"]}
    targets = [Target("bytes that the formula does not say", others(findings.tables["counted"], "as reckoned"), most=0)]
    if 2 in rows:
        targets += [
            Target("2 ranks, tokens shared", float(rows[2]["tokens shared"] or 0), least=LEAST_SHARED),
            Target("2 ranks, exact", float(rows[2]["exact"] or 0), least=LEAST_EXACT),
        ]
    findings.judge(targets)
    return findings


def _plan(labels: Sequence[Sequence[str]]) -> MemoryPlan:
    chunks = 100
    fitted = fit_policy(PRESETS[POLICY], CHUNK_FRAMES, SELF_FORCING.trained_frames, chunks * CHUNK_FRAMES)
    return replace(plan_memory(fitted, labels, chunks), capture=())


def _counted(plan: MemoryPlan, ranks: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    for count, exact in product(ranks, (False, True)):
        sent, expected = bytes_counted(plan, count, exact), bytes_reckoned(plan, count, exact)
        row: Row = {"ranks": count, "way": "exact" if exact else "tokens shared"}
        row |= {"least": min(sent), "most": max(sent), "all": sum(sent)}
        rows.append(row | {"as reckoned": yes(sent == expected)})
    return rows


def bytes_reckoned(plan: MemoryPlan, ranks: int, exact: bool) -> list[int]:
    """What each rank should send in a pass of a small chunk, 4 bytes a number."""
    shares = deal(plan.labels, plan.capacity, CHUNK_FRAMES, ranks)
    return [4 * HEAD_DIM * numbers for numbers in sent_numbers(shares, COUNTED_TOKENS, exact)]


def bytes_counted(plan: MemoryPlan, ranks: int, exact: bool) -> list[int]:
    """What each of these threads sends in that pass."""
    shares = deal(plan.labels, plan.capacity, CHUNK_FRAMES, ranks)
    rotation = _rotation(COUNTED_TOKENS)

    def on_rank(exchange: Exchange) -> int:
        memory = ShardedMemory(plan, shares, exchange, exact, _nothing, _unturned)
        memory.begin(range(CHUNK_FRAMES), {EVERY_HEAD: {}})
        x = memory.own_tokens(torch.zeros(1, COUNTED_TOKENS, len(plan.labels[0]), HEAD_DIM))
        for layer in range(len(plan.labels)):
            memory.attend(layer, x, x, x, rotation)
        return exchange.sent_bytes

    return Threads(ranks).run(on_rank)


def _nothing(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    return q


def _unturned(x: Tensor, rotation: Tensor) -> Tensor:
    return x


def _rotation(tokens: int) -> Tensor:
    return torch.eye(2).expand(1, tokens, 1, HEAD_DIM // 2, 2, 2).contiguous()


@dataclass(frozen=True)
class _Alone:
    """What ranks compute, each by itself: `layers` of all the plan's, spread evenly."""

    plan: MemoryPlan
    layers: Sequence[int]
    tokens: int
    rounds: int

    @property
    def heads(self) -> Heads:
        """Of those layers."""
        return Heads(tuple(tuple(self.plan.labels[layer]) for layer in self.layers), self.plan.capacity, CHUNK_FRAMES)

    def attention(self, layer: int, own: Sequence[int]) -> float:
        """Seconds of the KV memory in one layer of one rank: heads in and out, turning and attention."""
        labels = self.plan.labels[self.layers[layer]]
        memory = _filled(replace(self.plan, labels=(tuple(labels[head] for head in own),)), self.tokens)
        x = torch.randn(1, CHUNK_FRAMES * self.tokens, len(own), HEAD_DIM)
        rotation = _rotation(CHUNK_FRAMES * self.tokens)
        return self._least(lambda: memory.attend(0, x, x, x, rotation))

    def linear(self, rows: int) -> float:
        """Seconds of the linear layers of a block over so many tokens."""
        shape = model_shape(1, len(self.plan.labels[0]))
        square, up = torch.randn(shape.dim, shape.dim), torch.randn(shape.dim, shape.ffn_dim)
        x, wide = torch.randn(rows, shape.dim), torch.randn(rows, shape.ffn_dim)

        def block() -> None:
            for _ in range(6):  # q, k, v and out; q and out to the text
                torch.mm(x, square)
            torch.mm(x, up)
            torch.mm(wide, up.T)

        return self._least(block)

    def _least(self, work: Callable[[], object]) -> float:
        work()
        found: list[float] = []
        for _ in range(self.rounds):
            started = process_time()
            work()
            found.append(process_time() - started)
        return min(found)


def _filled(plan: MemoryPlan, tokens: int) -> KVMemory:
    """The memory of one layer, its tiers full, that is to read its next chunk."""
    computes = [False]

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        return dense_attention(q, k, v, heads) if computes[0] else q

    memory = KVMemory(replace(plan, warm_up_frames=0), attention, rotate)
    held: dict[str, tuple[int, ...]] = {}
    used = {label for layer in plan.labels for label in layer}
    x = torch.randn(1, CHUNK_FRAMES * tokens, len(plan.labels[0]), HEAD_DIM)
    rotation = _rotation(CHUNK_FRAMES * tokens)
    for chunk in range(SELF_FORCING.trained_frames // CHUNK_FRAMES + 1):
        own = range(chunk * CHUNK_FRAMES, (chunk + 1) * CHUNK_FRAMES)
        groups = held or {EVERY_HEAD: ()}
        memory.begin(own, {name: {frame: frame for frame in frames} for name, frames in groups.items()})
        if chunk == SELF_FORCING.trained_frames // CHUNK_FRAMES:
            break
        memory.attend(0, x, x, x, rotation)
        held = {name: (*held.get(name, ()), *own)[-plan.capacity[name] :] for name in sorted(used)}
        memory.keep(held, own)
    computes[0] = True
    return memory


def _simulated(plan: MemoryPlan, size: Size, given: argparse.Namespace) -> list[Row]:
    """A row for one rank, and one for each number of ranks."""
    layers = [number * len(plan.labels) // given.layers for number in range(given.layers)]
    alone = _Alone(plan, layers, size.tokens, given.repeats or 1)
    chunk, every = CHUNK_FRAMES * size.tokens, range(len(plan.labels[0]))
    whole = sum(alone.attention(layer, every) for layer in range(given.layers))
    linear = given.layers * alone.linear(chunk)
    rows: list[Row] = [{"ranks": 1, "attention s": whole, "linear s": linear} | dict.fromkeys(_COLUMNS)]
    for ranks in given.ranks:
        slowest: dict[str, float] = {}
        for name, way in WAYS.items():
            parts = way(alone.heads, ranks)
            if parts is not None:
                slowest[name] = sum(
                    max(alone.attention(layer, own) for own in part) for layer, part in enumerate(parts)
                )
        dealt, share = slowest[next(iter(WAYS))], given.layers * alone.linear(max(token_shares(chunk, ranks)))
        in_order = slowest.get(IN_ORDER)
        found = (whole + linear) / (dealt + share), (whole + linear) / (dealt + linear)
        last = None if in_order is None else (whole + linear) / (in_order + share)
        rows.append(
            {"ranks": ranks, "attention s": dealt, "linear s": share}
            | dict(zip(_COLUMNS, (whole / dealt, *found, last), strict=True))
        )
        say(f"  {ranks} ranks: {found[0]:.2f}")
    return rows


_COLUMNS = ("attention, times", "tokens shared", "exact", "tokens shared, heads in order")


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="head labels as CSV; default: random, seeded")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--layers", type=int, default=3, help="layers whose shares are timed")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=416)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds that are timed; the least counts")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
