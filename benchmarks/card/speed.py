"""Seconds of a chunk: of the policies, side by side; where they go; over length; and of the host's own sampler."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from statistics import median
from typing import TypeVar

import torch

from benchmarks.card.arithmetic import PIXEL_FRAMES
from benchmarks.card.ways import ways, within
from benchmarks.card.workbench import IN_8_BITS, POLICIES, Workbench
from benchmarks.shared.own_sampler import OwnSamplerAt, OwnSamplerModel
from benchmarks.shared.parts import ATTENTION, LINEAR, PARTS, TEXT, WORK, watched
from benchmarks.shared.stage import CHUNK_FRAMES, Rolling
from benchmarks.shared.stopwatch import Stopwatch, Taken, in_turns, ratios, take
from benchmarks.shared.tables import Row, say
from headforcing_core.families.self_forcing import SELF_FORCING

WARM = 3
LENGTH_POLICY = WAYS_POLICY = "paper"
OWN_ROUNDS = 2
PART_CHUNKS = 3
GIGA = 1e9
Place = TypeVar("Place")


def measure_speed(bench: Workbench) -> None:
    """Table: the policies at one chunk with full tiers, taking turns, and `paper` by other ways to the same chunk."""
    with bench.stage.open():
        rollouts = {name: bench.at(name, bench.chunk) for name in (*POLICIES, IN_8_BITS)}
        for name, rolling in rollouts.items():
            made = rolling.next()
            if not torch.isfinite(made.latent).all() or not rolling.fills_bank(made):
                raise RuntimeError(
                    f"Chunk {made.index} of {name} has NaN, or its episodic bank is not full. Its time would not be "
                    "that of a long video. Choose a later --chunk."
                )
        turns = {name: rolling.next for name, rolling in rollouts.items()}
        for way, inside in ways(rollouts[WAYS_POLICY]).items():
            turns[f"{WAYS_POLICY}, {way}"] = within(inside, rollouts[WAYS_POLICY].next)
        taken = in_turns(turns, WARM - 1, bench.rounds)
    rows: list[Row] = []
    for name, runs in taken.items():
        policy, seconds = name.split(",")[0], median(run.clock for run in runs)
        bench.findings.figures[f"seconds, {name}"] = seconds
        rows.append(
            {
                "what": name,
                "chunk": bench.chunk,
                "seconds": seconds,
                "least": min(run.clock for run in runs),
                "greatest": max(run.clock for run in runs),
                "pixel fps": PIXEL_FRAMES / seconds,
                "uniform_21 over it": ratios(taken["uniform_21"], runs).clock,
                "share of bound": _share(bench.bound(bench.task.work(policy)), seconds),
                "by fastest kernel": _share(bench.bound(bench.task.work(policy), "fastest attention"), seconds),
                "KV GB": rollouts[policy].memory.kv_bytes / GIGA,
                "beside GB": rollouts[policy].memory.chunk_bytes / GIGA,
            }
        )
    bench.findings.figures["uniform_21 over paper"] = ratios(taken["uniform_21"], taken["paper"]).clock
    bench.findings.figures["KV, paper"] = float(rollouts["paper"].memory.kv_bytes)
    bench.findings.add("speed", "A chunk of four steps and its commit pass, full tiers (medians)", rows)


def measure_parts(bench: Workbench) -> None:
    """Table: where the seconds of a chunk go, for each policy the medians of three chunks of its own."""
    rows: list[Row] = []
    with bench.stage.open():
        for name in POLICIES:
            rolling = bench.at(name, bench.chunk)
            chunks = [_parts(bench, rolling) for _ in range(1 + PART_CHUNKS)][1:]
            parts = {part: median(chunk.get(part, 0.0) for chunk in chunks) for part in PARTS}
            whole = sum(parts.values())
            outside = sum(seconds for part, seconds in parts.items() if part not in WORK) / whole
            bench.findings.figures[f"outside, {name}"] = outside
            work = bench.task.work(name)
            rates = {
                "linear TFLOP/s": sum(work.linear.values()) / parts[LINEAR],
                "attention TFLOP/s": work.attention / (parts[ATTENTION] + parts[TEXT]),
            }
            rows.append(
                {
                    "what": name,
                    **parts,
                    "sum": whole,
                    "outside products and attention": outside,
                    **{rate: len(bench.stage.sigmas) * flop / 1e12 for rate, flop in rates.items()},
                }
            )
    bench.findings.add(
        "parts",
        f"Where the seconds of a chunk go, medians of {PART_CHUNKS} chunks (measured apart: marks cost time)",
        rows,
    )


def _parts(bench: Workbench, rolling: Rolling) -> dict[str, float]:
    watch = Stopwatch(bench.on_card)
    with watched(watch, bench.stage, rolling):
        rolling.next()
    return watch.seconds


def measure_length(bench: Workbench) -> None:
    """Table: one policy at its first chunk with a full bank, at chunk 80, and at a late one."""
    marks = sorted({bench.first_full(LENGTH_POLICY), 80, bench.late_chunk})
    with bench.stage.open():
        rollouts = {mark: bench.at(LENGTH_POLICY, mark) for mark in marks}
        taken = in_turns({mark: rolling.next for mark, rolling in rollouts.items()}, 1, bench.rounds)
    rows: list[Row] = []
    for mark, runs in taken.items():
        found = ratios(runs, taken[marks[0]])
        rows.append(
            {
                "what": LENGTH_POLICY,
                "chunk": mark,
                "seconds": median(run.clock for run in runs),
                "to first": found.clock,
                "processor, to first": found.processor,
                "least": found.least,
                "greatest": found.greatest,
                "KV GB": rollouts[mark].memory.kv_bytes / GIGA,
            }
        )
    found = ratios(taken[marks[-1]], taken[marks[0]])
    bench.findings.figures["length"] = found.clock if bench.on_card else found.processor
    bench.findings.figures["length, chunk"] = marks[-1]
    bench.findings.add("length", "Length", rows)


def measure_own_sampler(bench: Workbench) -> None:
    """Table: the host's own sampler on the first 21 frames, next to the pack in warm-up, when every head reads all."""
    task = bench.task
    say("  building the host's own model")
    on = OwnSamplerModel(task.shape.layers, task.shape.heads, bench.size, task.text_tokens, task.text_dim)
    chunks = SELF_FORCING.trained_frames // CHUNK_FRAMES
    theirs: list[list[Taken]] = []
    for chunk in range(chunks):
        at = OwnSamplerAt(on, chunk)
        theirs.append(in_turns({"": at.make}, 1, OWN_ROUNDS)[""])
        del at
    del on
    gc.collect()
    ours = _warm_up(bench, chunks)
    rows: list[Row] = []
    for chunk, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        seconds = median(run.clock for run in their)
        rows.append(
            {
                "chunk": chunk,
                "host's own, seconds": seconds,
                "pack, warm-up, seconds": median(run.clock for run in our),
                "own over pack": seconds / median(run.clock for run in our),
                "share of bound, own": _share(bench.bound(task.own_work(chunk)), seconds),
            }
        )
    means = [sum(float(row[name] or 0) for row in rows) / chunks for name in list(rows[0])[1:3]]
    bench.findings.figures["seconds, host's own"] = means[0]
    rows.append(
        {
            "chunk": "mean",
            **dict(zip(list(rows[0])[1:3], means, strict=True)),
            "own over pack": means[0] / means[1],
            "share of bound, own": None,
        }
    )
    title = f"The first 21 frames: the host's own sampler, {PIXEL_FRAMES / means[0]:.2f} pixel frames a second"
    bench.findings.add("own", title, rows)


def _warm_up(bench: Workbench, chunks: int) -> Sequence[list[Taken]]:
    taken: list[list[Taken]] = [[] for _ in range(chunks)]
    with bench.stage.open():
        for number in range(1 + OWN_ROUNDS):
            rolling = bench.rolling("uniform_21", 0, lambda chunk: True)
            for runs in taken:
                run = take(rolling.next)
                if number:
                    runs.append(run)
            rolling.close()
    return taken


def _share(bound: float | None, seconds: float) -> float | None:
    return None if bound is None else bound / seconds
