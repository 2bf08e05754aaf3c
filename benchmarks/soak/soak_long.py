"""Thousands of chunks in one run, twice in one process: memory, open files and threads on the way."""

from __future__ import annotations

import gc
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from benchmarks.shared.peak_memory import forget_peak, held_bytes, peak_bytes
from benchmarks.shared.tables import Cell, Findings, Row, Target, tell
from benchmarks.soak.soak_host import Film, Studio
from benchmarks.soak.soak_process import hearing

EARLY = 50
AT = (EARLY, 500, 1000)
MOST_GROWTH = 1.03
MOST_SECOND = 1.01  # of the first run: what the allocator's pages come to
MEGABYTE = 1e6
WAYS = {"not kept, latent alone": False, "kept, with video": True}


def prove_long(folder: Path, film: Film, findings: Findings) -> list[Target]:
    """Table: what the process holds at some chunks of a run, and of a second one."""
    rows: list[Row] = []
    for way, is_kept in WAYS.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found = process.submit(_two_runs, folder / way.split(",")[0], film, is_kept).result()
        rows += [{"way": way, **row} for row in found]
    title = f"{film.chunks} chunks of {film.size}, steps {len(film.sigmas or ()) - 1}, twice in one process"
    findings.add("long", title, rows)
    return [target for way in WAYS for target in _targets(way, film.chunks, [row for row in rows if row["way"] == way])]


def _targets(way: str, chunks: int, rows: list[Row]) -> list[Target]:
    first, second = ([row for row in rows if row["run"] == run] for run in (1, 2))
    open_files = {row["open files"] for row in rows if str(row["at"]).startswith("chunk")}
    before, after = first[0], second[-1]
    early, last = (next(row for row in first if row["at"] == f"chunk {at}") for at in (EARLY, chunks))
    return [
        Target(
            f"long, {way}: peak memory at the last chunk over chunk {EARLY}",
            _peak(last) / _peak(early),
            most=MOST_GROWTH,
        ),
        Target(f"long, {way}: the same with report and timeline", _peak(first[-1]) / _peak(early), most=MOST_GROWTH),
        Target(
            f"long, {way}: peak memory of the second run over the first",
            _peak(after) / _peak(first[-1]),
            most=MOST_SECOND,
        ),
        Target(f"long, {way}: different numbers of open files while it runs", len(open_files), most=1),
        Target(f"long, {way}: open files left", _more(before, after, "open files"), most=0),
        Target(f"long, {way}: threads left", _more(before, after, "threads"), most=0),
    ]


def _more(before: Row, after: Row, name: str) -> float:
    return float(str(after[name])) - float(str(before[name]))


def _peak(row: Row) -> float:
    return float(str(row["peak MB"]))


def _two_runs(folder: Path, film: Film, is_kept: bool) -> list[Row]:
    """In a process of its own."""
    logging.disable(logging.WARNING)
    folder.mkdir()
    studio = Studio(folder)
    return [row for run in (1, 2) for row in _one_run(studio, folder, film, is_kept, run)]


def _one_run(studio: Studio, folder: Path, film: Film, is_kept: bool, run: int) -> list[Row]:
    forget_peak()
    rows: list[Row] = []
    started = perf_counter()

    def note(at: str) -> None:
        rows.append({"run": run, **_state(at, perf_counter() - started)})
        tell(rows[-1])

    note("before")

    def at_chunk(chunk: int) -> None:
        if chunk + 1 in (*AT, film.chunks):
            note(f"chunk {chunk + 1}")

    unkept: dict[str, object] = {} if is_kept else {"run_name": "", "vae": None}
    with hearing(at_chunk):
        made = studio.make(film, folder / f"run_{run}", **unkept)
    note("its end")
    del made
    gc.collect()
    note("all let go")
    return rows


def _state(at: str, seconds: float) -> dict[str, Cell]:
    return {
        "at": at,
        "seconds": seconds,
        "held MB": held_bytes() / MEGABYTE,
        "peak MB": peak_bytes() / MEGABYTE,
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }
