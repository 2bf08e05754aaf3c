"""Runs that are killed by SIGKILL, at moments of a seeded random generator, and gone on with."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from av.error import FFmpegError

from benchmarks.shared.tables import Findings, Row, Target, others, say, tell
from benchmarks.soak.soak_host import Film, Studio, folder_of, pictures_of
from benchmarks.soak.soak_process import (
    APPEND,
    BETWEEN,
    DECODE,
    PHASES,
    RENAME,
    WRITE,
    Child,
    Found,
    Watch,
    describe,
    made_in_child,
)

SEED = 20
TWICE_EVERY = 4  # every such run is killed again while it is resumed
BY_CLOCK = 0.5  # share of the moments that are drawn from the whole run; the others from one phase
AIMED = (DECODE, APPEND, WRITE, RENAME, RENAME)


@dataclass(frozen=True)
class Moment:
    """When to kill: after `seconds`; or so long after a `phase` was entered for the `count`th time. At a rename, before
    it when `count` is odd and after it when it is even, the process kills itself: nobody else is quick enough."""

    seconds: float
    phase: int = BETWEEN
    count: int = 0

    @property
    def how(self) -> str:
        """In words."""
        if self.phase == BETWEEN:
            return f"after {self.seconds:.2f} s"
        where = f"{PHASES[self.phase]} {self.count}"
        return where if self.phase == RENAME else f"{where} + {1000 * self.seconds:.1f} ms"


@dataclass(frozen=True)
class Whole:
    """The unbroken run: how long it takes, what it makes, and how long and often it is in each phase."""

    seconds: float
    found: Found
    watch: Watch


def prove_killed(studio: Studio, folder: Path, film: Film, kills: int, findings: Findings) -> list[Target]:
    """Table: every kill, and what became of the run."""
    whole = _unbroken(studio, folder, film)
    say(f"  the unbroken run takes {whole.seconds:.1f} s")
    generator = random.Random(SEED)
    moments = _moments(generator, kills, whole)
    rows: list[Row] = []
    run = 0
    while len(rows) < kills:
        run += 1
        output = folder / f"killed_{run}"
        for again in range(2 if run % TWICE_EVERY == 0 and len(rows) < kills - 1 else 1):
            row = _killed(studio, folder, film, output, moments[len(rows)], again)
            if row is None:  # it was whole before its time came
                moments[len(rows)] = Moment(generator.uniform(0.05, 0.4) * whole.seconds)
                break
            rows.append({"kill": len(rows) + 1, "run": run, **row})
            tell(rows[-1])
        _judge(rows, run, made_in_child(studio, folder, film, output), whole.found)
    findings.add("killed", f"Killed {kills} times while making {film.chunks} chunks of {film.size}", rows)
    return [
        Target("killed: runs that ended in other bits than the unbroken one", others(rows, "latents equal"), most=0),
        Target(
            "killed: videos that did not decode to their end after the kill",
            others(rows, "what is there plays"),
            most=0,
        ),
        Target("killed: resumed videos other than the unbroken run's", others(rows, "video equal"), most=0),
        Target(
            "killed: phases that were hit, of 6",
            len({row["killed in"] for row in rows} - {"between"}),
            least=5 if kills >= 20 else 1,
        ),
    ]


def _unbroken(studio: Studio, folder: Path, film: Film) -> Whole:
    watch = Watch()
    started = time.perf_counter()

    def work() -> Found:
        watch.follow()
        return describe(studio, film, folder / "unbroken")

    found = Child(folder, work).wait()
    if found is None or found["error"] or found["pictures"] != film.pictures:
        raise RuntimeError(f"The unbroken run failed: {found}. Nothing can be compared with it. Run the tests first.")
    return Whole(time.perf_counter() - started, found, watch)


def _moments(generator: random.Random, kills: int, whole: Whole) -> list[Moment]:
    by_clock = round(BY_CLOCK * kills)
    clock = [Moment(generator.uniform(0.01, 0.99) * whole.seconds) for _ in range(by_clock)]
    aimed: list[Moment] = []
    for number in range(kills - by_clock):
        phase = AIMED[number % len(AIMED)]
        count = generator.randint(1, whole.watch.count(phase))
        aimed.append(Moment(generator.uniform(0, 0.7) * whole.watch.mean_seconds(phase), phase, count))
    moments = [*clock, *aimed]
    generator.shuffle(moments)
    return moments


def _killed(studio: Studio, folder: Path, film: Film, output: Path, moment: Moment, again: int) -> Row | None:
    watch = Watch()

    def work() -> Found:
        if moment.phase == RENAME:
            _die_at_rename(moment)
        watch.follow()
        return describe(studio, film, output)

    before = chunks_listed(output)
    child = Child(folder, work)
    _wait_for(moment, watch, lambda: child.has_ended)
    child.kill()
    if child.wait() is not None:
        return None
    count, what_is_there = plays(folder_of(output))
    return {
        "moment": moment.how,
        "while": "resuming" if again else "making",
        "killed in": PHASES[watch.phase],
        "chunks kept": chunks_listed(output),
        "chunks before": before,
        "half-written files": len(list(folder_of(output).glob(".*.tmp"))) if folder_of(output).exists() else 0,
        "pictures": count,
        "what is there plays": what_is_there,
    }


def _wait_for(moment: Moment, watch: Watch, has_ended: Callable[[], bool]) -> None:
    if moment.phase == BETWEEN:
        end = time.monotonic() + moment.seconds
        while time.monotonic() < end and not has_ended():
            time.sleep(min(0.02, max(0.0, end - time.monotonic())))
        return
    if moment.phase == RENAME:
        while not has_ended():
            time.sleep(0.02)
        return
    while watch.count(moment.phase) < moment.count and not has_ended():
        time.sleep(0.0002)
    time.sleep(moment.seconds)


def _die_at_rename(moment: Moment) -> None:
    rename, made = os.replace, 0

    def replace(source: Path, target: Path) -> None:
        nonlocal made
        made += 1
        if made == moment.count and moment.count % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if made == moment.count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


def chunks_listed(output: Path) -> int:
    """How many chunks a film's journal lists, without a line that was cut short; 0 when there is none."""
    path = folder_of(output) / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def plays(run: Path) -> tuple[int, str]:
    """How many pictures the video in a folder has, and whether all that is there plays."""
    try:
        growing = pictures_of(run / "video_next.mp4").count
        return max(growing, pictures_of(run / "video.mp4").count), "yes"
    except FFmpegError as error:
        return 0, f"NO: {error}"


def _judge(rows: list[Row], run: int, found: Found, whole: Found) -> None:
    for row in rows:
        if row["run"] == run:
            row["latents equal"] = "yes" if found.get("latent") == whole["latent"] else f"NO: {found['error']}"
            row["resumed to"] = int(str(found.get("pictures", 0)))
            row["video equal"] = "yes" if found.get("video") == whole["video"] else "NO"
