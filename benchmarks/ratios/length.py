"""What length costs: seconds per chunk and peak memory early, at chunk 80 and at chunk 800, of two policies and of the
host's own AR sampler.

python dev.py run -- python benchmarks/ratios/length.py [--json FILE] [--labels FILE]

All rollouts stand at their chunks at once and take turns. See docs/performance.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.shared.host_process import enter_host, model_shape
from benchmarks.shared.own_sampler import OwnSamplerAt, OwnSamplerModel, own_kv_bytes
from benchmarks.shared.peak_memory import forget_peak, held_bytes, peak_bytes
from benchmarks.shared.stage import FOUR_STEPS, ONE_STEP, Rolling, RunsModel, Size, Stage, first_chunk_after_full_bank
from benchmarks.shared.stopwatch import Taken, in_turns, ratios
from benchmarks.shared.tables import Cell, Findings, Row, Target, add_common_options, counted, labels_from, say
from headforcing_core.policy.head_types import Labels
from headforcing_core.policy.presets import PRESETS

POLICIES = ("paper", "uniform_21")
OWN = "host's own"
OWN_EVERY = 5  # rounds in which the host's own sampler takes part
TIME, PEAK = "time, to first", "peak, to first"
TOLERANCE = 0.05
MEGABYTE = 1e6
GIGABYTE = 1e9
FLOAT32 = 4
PROBE = 200  # chunks in which the episodic bank has to fill


@dataclass(frozen=True)
class Part:
    """One half of the benchmark: a picture and a text, how rollouts come to their chunks, how many rounds are timed."""

    name: str
    size: Size
    text_tokens: int
    rolled: bool
    rounds: int

    def runs_model(self, marks: Sequence[int], rounds: int) -> RunsModel:
        """Every chunk is made by the model, or only those that are timed and the one before."""
        return lambda chunk: self.rolled or any(mark - 1 <= chunk < mark + rounds for mark in marks)


PARTS = (
    Part("rolled", Size(128, 96), 32, rolled=True, rounds=15),
    Part("prefilled", Size(416, 240), 512, rolled=False, rounds=5),
)


def main() -> None:
    """Measure, show, write."""
    given = _options()
    labels = labels_from(given.labels, given.layers, given.heads)
    host = enter_host(given.threads, given.kernel)
    settings: dict[str, Cell] = {
        "layers": len(labels),
        "heads": len(labels[0]),
        "labels": counted(labels),
        "kernel": given.kernel,
        "threads": torch.get_num_threads(),
        "own_sampler_limit_gb": given.own_gb,
    }
    say(", ".join(f"{name} {value}" for name, value in settings.items()))
    findings = Findings(given.json, settings)
    targets: list[Target] = []
    for part in (part for part in PARTS if part.name in given.parts):
        stage = Stage(host, labels, part.size, part.text_tokens, FOUR_STEPS)
        with stage.open():
            first = first_chunk_after_full_bank(stage, PRESETS["paper"], PROBE, part.runs_model((), 0))
            marks = (first, *given.chunks)
            rows = _times(stage, part, marks, given.repeats or part.rounds, given.own_gb)
        if not given.skip_memory:
            peaks = _peaks(part, labels, marks, given)
            rows = [row | peaks.get((str(row["what"]), int(row["chunk"] or 0)), {}) for row in rows]
        findings.add(part.name, f"{part.name}: {part.size}, {part.size.tokens} tokens per frame", rows)
        targets += _targets(part, rows)
    findings.judge(targets)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--chunks", type=int, nargs="+", default=[80, 800], help="where to measure, after the first")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], default=["rolled", "prefilled"])
    parser.add_argument("--own-gb", type=float, default=8.0, help="what K and V of the host's own sampler may take")
    parser.add_argument("--kernel", choices=("pytorch", "host"), default="pytorch", help="the host's attention")
    parser.add_argument("--skip-memory", action="store_true", help="time only")
    return parser.parse_args()


def _times(stage: Stage, part: Part, marks: Sequence[int], rounds: int, own_gb: float) -> list[Row]:
    """One row for each policy and mark, and for the host's own sampler at each mark."""
    rollouts: dict[tuple[str, int], Rolling] = {}
    for name in POLICIES:
        for mark in marks:
            rolling = Rolling(stage, PRESETS[name], max(marks) + rounds + 1, part.runs_model([mark], rounds))
            rolling.go_to(mark)
            rollouts[name, mark] = rolling
            say(f"  {part.name}: {name} stands at chunk {mark}")
    on = OwnSamplerModel(len(stage.labels), len(stage.labels[0]), part.size, part.text_tokens)
    fitting = [mark for mark in marks if _own_bytes(stage.labels, part, mark) <= own_gb * GIGABYTE]
    own = {(OWN, mark): OwnSamplerAt(on, mark) for mark in fitting}
    turns: dict[tuple[str, int], Callable[[], object]] = {
        **{place: rolling.next for place, rolling in rollouts.items()},
        **{place: at.make for place, at in own.items()},
    }
    taken = _all_rounds(part, turns, rounds)
    rows = [
        _row(place, taken, marks[0], rolling.memory.kv_bytes, rolling.memory.chunk_bytes)
        for place, rolling in rollouts.items()
    ]
    rows += [_row(place, taken, marks[0], at.kv_bytes, 0) for place, at in own.items()]
    rows += [_stopped(rows[0], stage.labels, part, mark, own_gb) for mark in marks if mark not in fitting]
    for rolling in rollouts.values():
        rolling.close()
    return rows


def _all_rounds(
    part: Part, turns: dict[tuple[str, int], Callable[[], object]], rounds: int
) -> dict[tuple[str, int], list[Taken]]:
    taken: dict[tuple[str, int], list[Taken]] = {place: [] for place in turns}
    for number in range(rounds):
        due = {place: make for place, make in turns.items() if place[0] != OWN or number % OWN_EVERY == 0}
        for place, runs in in_turns(due, 0, 1).items():
            taken[place] += runs
        say(f"  {part.name}: round {number + 1} of {rounds}")
    return taken


def _row(
    place: tuple[str, int], taken: dict[tuple[str, int], list[Taken]], first: int, kv_bytes: int, beside: int
) -> Row:
    name, mark = place
    found = ratios(taken[place], taken[name, first])
    return {
        "what": name,
        "chunk": mark,
        "seconds": median(run.clock for run in taken[place]),
        TIME: found.clock,
        "processor, to first": found.processor,
        "KV MB": kv_bytes / MEGABYTE,
        "beside MB": beside / MEGABYTE,
        "peak growth MB": None,
        PEAK: None,
        "note": "",
    }


def _stopped(like: Row, labels: Labels, part: Part, mark: int, own_gb: float) -> Row:
    needed = _own_bytes(labels, part, mark)
    last = int(own_gb * GIGABYTE * (mark + 1) / needed)
    note = f"stops: {own_gb:g} GB hold K and V of {last} chunks"
    return {**dict.fromkeys(like), "what": OWN, "chunk": mark, "KV MB": needed / MEGABYTE, "note": note}


def _own_bytes(labels: Labels, part: Part, mark: int) -> int:
    return own_kv_bytes(len(labels), model_shape(len(labels), len(labels[0])).dim, part.size, mark + 1, FLOAT32)


def _peaks(part: Part, labels: Labels, marks: tuple[int, ...], given: argparse.Namespace) -> dict[tuple[str, int], Row]:
    """Peak growth of a fresh process for each policy, read at the marks on the way; the host's own sampler gets one
    for each mark."""
    cases = [(name, marks) for name in POLICIES]
    cases += [(OWN, (mark,)) for mark in marks if _own_bytes(labels, part, mark) <= given.own_gb * GIGABYTE]
    growth: dict[tuple[str, int], int] = {}
    for name, read_at in cases:
        with ProcessPoolExecutor(1, get_context("spawn")) as child:
            measured = child.submit(_measure_peak, part, labels, name, read_at, given).result()
        growth |= {(name, mark): grown for mark, grown in measured.items()}
        say(f"  {part.name}: memory of {name}")
    return {
        (name, mark): {"peak growth MB": grown / MEGABYTE, PEAK: grown / growth[name, marks[0]]}
        for (name, mark), grown in growth.items()
    }


def _measure_peak(
    part: Part, labels: Labels, name: str, marks: tuple[int, ...], given: argparse.Namespace
) -> dict[int, int]:
    """In a process of its own: peak growth at each mark, counted from the model standing ready. Chunks have one step,
    which takes the memory of four."""
    host = enter_host(given.threads, given.kernel)
    if name == OWN:
        on = OwnSamplerModel(len(labels), len(labels[0]), part.size, part.text_tokens)
        OwnSamplerAt(on, 0).make()
        forget_peak()
        before = held_bytes()
        OwnSamplerAt(on, marks[0]).make()
        return {marks[0]: peak_bytes() - before}
    stage = Stage(host, labels, part.size, part.text_tokens, ONE_STEP)
    policy, peaks = PRESETS[name], {}
    with stage.open():
        first_pass = Rolling(stage, policy, 2, lambda chunk: True)
        first_pass.next()
        first_pass.close()
        forget_peak()
        before = held_bytes()
        rolling = Rolling(stage, policy, max(marks) + 2, part.runs_model(marks, 1))
        for mark in marks:
            rolling.go_to(mark + 1)
            peaks[mark] = peak_bytes() - before
        rolling.close()
    return peaks


def _targets(part: Part, rows: Sequence[Row]) -> list[Target]:
    """Ours are flat over length, in time and in memory."""
    return [
        Target(
            f"{part.name}, {row['what']}, chunk {row['chunk']}: {figure}", float(row[figure] or 0), least, 1 + TOLERANCE
        )
        for row in rows
        if row["what"] in POLICIES and row[TIME] != 1.0
        for figure, least in ((TIME, 1 - TOLERANCE), (PEAK, None))
        if row[figure] is not None
    ]


if __name__ == "__main__":
    main()
