"""What telling heads apart saves: the policy paper against uniform_21, at the real number of tokens and head size.

python dev.py run -- python benchmarks/ratios/policy.py [--json FILE] [--labels FILE]

Both policies stand at the same chunk with full tiers and take turns on one model. See docs/performance.md.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.shared.host_process import enter_host
from benchmarks.shared.parts import MODEL, WORK, watched
from benchmarks.shared.stage import (
    CHUNK_FRAMES,
    FOUR_STEPS,
    ONE_STEP,
    Rolling,
    Size,
    Stage,
    first_chunk_after_full_bank,
)
from benchmarks.shared.stopwatch import Stopwatch, Taken, ratios, take
from benchmarks.shared.tables import Cell, Findings, Row, Target, add_common_options, counted, labels_from, say
from headforcing_core.kv_memory.attention import Attention, dense_attention
from headforcing_core.policy.head_types import Labels
from headforcing_core.policy.presets import PRESETS

POLICIES = ("paper", "uniform_21")
LEAST_SPEEDUP = 1.25
MOST_OVERHEAD = 0.10
TOLERANCE = 0.05
TEXT_TOKENS = 512  # what the text encoder pads to
LONGEST = 400  # chunks that a rollout could make


@dataclass
class CountedAttention:
    """An attention function that counts the multiply-adds of the shapes it is given."""

    attention: Attention
    multiply_adds: int = 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        self.multiply_adds += 2 * q.shape[0] * q.shape[1] * k.shape[1] * q.shape[2]
        return self.attention(q, k, v, heads)


def main() -> None:
    """Measure, show, write."""
    given = _options()
    labels = labels_from(given.labels, given.layers, given.heads)
    stage = Stage(enter_host(given.threads, "host"), labels, Size(given.width, given.height), TEXT_TOKENS, ONE_STEP)
    kernels: dict[str, Attention] = {"sdpa": dense_attention, "host": stage.backbone.attention}
    kernels = {name: kernels[name] for name in given.attention}
    start = first_chunk_after_full_bank(stage, PRESETS["paper"], LONGEST, lambda chunk: False)
    settings: dict[str, Cell] = {
        "size": str(stage.size),
        "tokens_per_frame": stage.size.tokens,
        "layers": len(labels),
        "heads": len(labels[0]),
        "labels": counted(labels),
        "chunk": start,
        "threads": torch.get_num_threads(),
        "rounds": given.repeats,
    }
    say(", ".join(f"{name} {value}" for name, value in settings.items()))
    findings = Findings(given.json, settings)
    with stage.open():
        work, timed = _side_by_side(stage, start, kernels, given.repeats)
        parts = _profile(stage, start)
    targets = [*_work_targets(work, labels), *_time_targets(timed), _overhead_target(parts)]
    for name, rows in {"work": work, "time": timed, "profile": parts}.items():
        findings.add(name, _TITLES[name], rows)
    findings.judge(targets)


_TITLES = {
    "work": "Multiply-adds of self-attention in one pass, from the shapes that the attention function received",
    "time": "Seconds of one chunk of one step and its commit pass (medians), and uniform_21 over paper, round by round",
    "profile": "Where the time of one chunk of four steps and its commit pass goes, policy paper, SDPA",
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.set_defaults(repeats=3)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--attention", nargs="+", choices=("sdpa", "host"), default=("sdpa", "host"))
    return parser.parse_args()


def _side_by_side(stage: Stage, start: int, kernels: dict[str, Attention], rounds: int) -> tuple[list[Row], list[Row]]:
    """Tables of work and of time. The first chunk of each rollout is counted and not timed."""
    rollouts = {name: Rolling(stage, PRESETS[name], LONGEST, lambda chunk: chunk >= start) for name in POLICIES}
    work: list[Row] = []
    for name, rolling in rollouts.items():
        rolling.go_to(start)
        counting = rolling.attention = CountedAttention(dense_attention)
        rolling.next()
        passes = len(stage.sigmas)
        work.append({"policy": name, "multiply-adds": counting.multiply_adds // passes})
        say(f"  {name}: stands at chunk {rolling.chunk}")
    taken: dict[tuple[str, str], list[Taken]] = {(kernel, name): [] for kernel in kernels for name in POLICIES}
    for number in range(rounds):
        for kernel, name in taken:
            rollouts[name].attention = kernels[kernel]
            taken[kernel, name].append(take(rollouts[name].next))
        say(f"  round {number + 1} of {rounds}: " + ", ".join(f"{runs[-1].clock:.1f} s" for runs in taken.values()))
    for rolling in rollouts.values():
        rolling.close()
    return work, [_time_row(kernel, taken) for kernel in kernels]


def _time_row(kernel: str, taken: dict[tuple[str, str], list[Taken]]) -> Row:
    ours, theirs = (taken[kernel, name] for name in POLICIES)
    found = ratios(theirs, ours)
    return {
        "attention": kernel,
        "paper s": median(run.clock for run in ours),
        "uniform_21 s": median(run.clock for run in theirs),
        "ratio": found.clock,
        "least": found.least,
        "greatest": found.greatest,
        "processor ratio": found.processor,
    }


def _profile(stage: Stage, start: int) -> list[Row]:
    """Table of one chunk's time by what it was spent on."""
    rolling = Rolling(stage, PRESETS["paper"], LONGEST, lambda chunk: chunk >= start, FOUR_STEPS)
    rolling.go_to(start)
    rolling.attention = dense_attention
    watch = Stopwatch()
    with watched(watch, stage, rolling):
        rolling.next()
    rolling.close()
    whole = sum(watch.seconds.values())
    rows = sorted(watch.seconds.items(), key=lambda item: -item[1])
    return [
        {"part": name, "whose": _whose(name), "seconds": seconds, "percent": 100 * seconds / whole}
        for name, seconds in rows
    ]


def _whose(part: str) -> str:
    if part in WORK:
        return "model, not overhead"
    return "model" if part == MODEL else "ours"


def _work_targets(work: Sequence[Row], labels: Labels) -> list[Target]:
    ours, theirs = (float(row["multiply-adds"] or 0) for row in work)
    expected = _frames_read("paper", labels) / _frames_read("uniform_21", labels)
    least, most = expected * (1 - TOLERANCE), expected * (1 + TOLERANCE)
    name = f"attention work, paper over uniform_21 (arithmetic: {expected:.4f})"
    return [Target(name, ours / theirs, round(least, 4), round(most, 4))]


def _frames_read(policy: str, labels: Labels) -> int:
    return sum(PRESETS[policy].tiers(label).frames + CHUNK_FRAMES for layer in labels for label in layer)


def _time_targets(timed: Sequence[Row]) -> list[Target]:
    return [
        Target(f"time, uniform_21 over paper, {row['attention']}", float(row["ratio"] or 0), LEAST_SPEEDUP)
        for row in timed
    ]


def _overhead_target(parts: Sequence[Row]) -> Target:
    share = sum(float(row["percent"] or 0) for row in parts if row["part"] not in WORK) / 100
    return Target("share of a chunk outside linear layers and attention", share, most=MOST_OVERHEAD)


if __name__ == "__main__":
    main()
