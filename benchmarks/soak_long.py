"""Thousands of chunks in one run, twice in one process: memory, open files and threads on the way."""

from __future__ import annotations

import gc
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from torch import Tensor

from benchmarks.soak_host import Film, Studio, module
from benchmarks.tables import Cell, Row, Target
from benchmarks.workbench import Findings

EARLY = 50
AT = (EARLY, 500, 1000, 2000)
MOST_GROWTH = 1.03
MOST_SECOND = 1.01  # of the first run: what the allocator's pages come to
KILOBYTES_PER_MB = 1e6 / 1024
WAYS = {"kept, with video": True, "not kept, latent alone": False}


def prove_long(folder: Path, film: Film, findings: Findings) -> list[Target]:
    """Table: what the process holds at some chunks of a run, and of a second one."""
    rows: list[Row] = []
    for way, is_kept in WAYS.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found = process.submit(_two_runs, folder / way.split(",")[0], film, is_kept).result()
        rows += [{"way": way, **row} for row in found]
    title = f"{film.chunks} chunks of {film.size}, steps {len(film.sigmas or ()) - 1}, twice in one process"
    findings.add("long", title, rows)
    return [target for way in WAYS for target in _targets(way, [row for row in rows if row["way"] == way])]


def _targets(way: str, rows: list[Row]) -> list[Target]:
    first, second = ([row for row in rows if row["run"] == run] for run in (1, 2))
    open_files = {row["open files"] for row in rows if row["at"] != "before"}
    before, after = first[0], second[-1]
    return [
        Target(
            f"long, {way}: peak memory at the end over chunk {EARLY}",
            _peak(first[-1]) / _peak(first[1]),
            most=MOST_GROWTH,
        ),
        Target(
            f"long, {way}: peak memory of the second run over the first",
            _peak(after) / _peak(first[-1]),
            most=MOST_SECOND,
        ),
        Target(f"long, {way}: different numbers of open files during the runs", len(open_files), most=1),
        Target(f"long, {way}: threads left", float(str(after["threads"])) - float(str(before["threads"])), most=0),
    ]


def _peak(row: Row) -> float:
    return float(str(row["peak MB"]))


def _two_runs(folder: Path, film: Film, is_kept: bool) -> list[Row]:
    """In a process of its own."""
    logging.disable(logging.WARNING)
    folder.mkdir()
    studio = Studio(folder)
    return [row for run in (1, 2) for row in _one_run(studio, folder, film, is_kept, run)]


def _one_run(studio: Studio, folder: Path, film: Film, is_kept: bool, run: int) -> list[Row]:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    rows: list[Row] = [{"run": run, **_state("before", 0.0)}]
    started = perf_counter()
    progress = module("nodes.progress").StepProgress
    picture = progress.picture

    def noting(self: object, chunk: int, latent: Tensor) -> None:
        picture(self, chunk, latent)
        if chunk + 1 in AT:
            rows.append({"run": run, **_state(f"chunk {chunk + 1}", perf_counter() - started)})

    progress.picture = noting
    try:
        unkept: dict[str, object] = {} if is_kept else {"run_name": "", "vae": None}
        made = studio.make(film, folder / f"run_{run}", **unkept)
    finally:
        progress.picture = picture
    rows.append({"run": run, **_state("its end", perf_counter() - started)})
    del made
    gc.collect()
    rows.append({"run": run, **_state("all let go", perf_counter() - started)})
    return rows


def _state(at: str, seconds: float) -> dict[str, Cell]:
    return {
        "at": at,
        "seconds": seconds,
        "held MB": _held("VmRSS"),
        "peak MB": _held("VmHWM"),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def _held(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / KILOBYTES_PER_MB
