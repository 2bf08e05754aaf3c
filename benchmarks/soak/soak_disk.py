"""Disks that fill up while a run is kept on them: a limit on the size of files, and a small disk of its own."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.host_process import REPOSITORY
from benchmarks.shared.tables import Findings, Row, Target, others, say, tell, yes
from benchmarks.soak.soak_host import Film, Studio, folder_of
from benchmarks.soak.soak_process import Child, Found, describe, files_of, hearing, made_in_child

sys.path.insert(0, str(REPOSITORY / "tests" / "core"))

from damaged_runs import is_sentence  # noqa: E402

SEED = 21
DISK_BYTES = 4 * 2**20
BALLAST = "ballast"


@dataclass(frozen=True)
class Case:
    """A disk that has so little room from a chunk on: `most_bytes` a file, or `free_bytes` in all."""

    what: str
    at_chunk: int
    most_bytes: int | None = None
    free_bytes: int | None = None
    stops: bool = True  # False where the run goes on without its video


def prove_disk(studio: Studio, folder: Path, film: Film, findings: Findings) -> list[Target]:
    """Table: what each full disk did to a run, and what the run came to afterwards."""
    whole = made_in_child(studio, folder, film, folder / "unbroken")
    run = folder_of(folder / "unbroken")
    chunk_bytes = (run / "chunk_00000.safetensors").stat().st_size
    record_bytes, video_bytes = ((run / name).stat().st_size for name in ("journal.jsonl", "video.mp4"))
    say(f"  a chunk {chunk_bytes} bytes, journal at the end {record_bytes}, video.mp4 {video_bytes}")
    early, late = film.chunks // 4, film.chunks // 2
    limits = [
        Case("no file above 1 kB from the start", 0, most_bytes=1000),
        Case("no file above half a chunk", early, most_bytes=chunk_bytes // 2),
        Case("no file above two thirds of the journal", early, most_bytes=max(chunk_bytes, record_bytes * 2 // 3)),
        Case("no file above half of the video", early, most_bytes=video_bytes // 2, stops=False),
    ]
    generator = random.Random(SEED)
    frees = [0, 100, chunk_bytes // 2, chunk_bytes + 100, 3 * chunk_bytes, 8 * chunk_bytes]
    fills = [Case(f"{free} bytes left on the disk", generator.randint(1, late), free_bytes=free) for free in frees]
    rows = [_row(studio, folder, folder / f"limit_{number}", film, case, whole) for number, case in enumerate(limits)]
    disk = folder / "disk"
    with _small_disk(disk) as refused:
        if refused:
            say(f"  a small disk cannot be mounted here ({refused}): left out")
        else:
            rows.append(_too_small(studio, folder, disk, film, DISK_BYTES // chunk_bytes))
            rows += [_row(studio, folder, disk / str(number), film, case, whole) for number, case in enumerate(fills)]
    findings.add("disk", f"{film.chunks} chunks of {film.size} on a full disk", rows)
    return [
        Target("disk: cases without a clear error", others(rows, "clear"), most=0),
        Target("disk: cases that touched a finished chunk", others(rows, "finished chunks intact"), most=0),
        Target("disk: runs that did not end in the unbroken one's bits", others(rows, "resumed equal"), most=0),
        Target("disk: cases on a small disk", sum("bytes left" in str(row["case"]) for row in rows), least=6),
    ]


def _row(studio: Studio, folder: Path, output: Path, film: Film, case: Case, whole: Found) -> Row:
    output.mkdir(parents=True)
    found = _on_full_disk(studio, folder, film, output, case)
    run = folder_of(output)
    kept = {name: bits for name, bits in files_of(run).items() if name.startswith("chunk_")}
    temporaries = [path.name for path in run.glob(".*.tmp")]
    (output.parent / BALLAST).unlink(missing_ok=True)
    notes = " ".join(str(note) for note in _list(found.get("notes")))
    told = str(found["error"]) or notes
    expected = "The video stopped after" if not case.stops else "the disk is full"
    again = made_in_child(studio, folder, film, output)
    row: Row = {
        "case": case.what,
        "from chunk": case.at_chunk,
        "ended": "stopped" if found["error"] else "went on",
        "clear": yes(expected in told and (not found["error"] or is_sentence(told))),
        "chunks kept": len(kept),
        "finished chunks intact": yes(
            len(kept) >= case.at_chunk and kept.items() <= files_of(folder_of(folder / "unbroken")).items()
        ),
        "half-written files": len(temporaries),
        "made again": int(str(again.get("made", -1))),
        "resumed equal": yes((again.get("latent"), again.get("video")) == (whole["latent"], whole["video"])),
        "said": told if found["error"] else told[told.find("The video stopped") :],
    }
    tell(row)
    return row


def _on_full_disk(studio: Studio, folder: Path, film: Film, output: Path, case: Case) -> Found:
    def fill() -> None:
        if case.most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.most_bytes, resource.RLIM_INFINITY))
        if case.free_bytes is not None:
            _fill_disk(output.parent, case.free_bytes)

    def work() -> Found:
        if not case.at_chunk:
            fill()
        with hearing(lambda chunk: fill() if chunk == case.at_chunk else None):
            found = describe(studio, film, output)
        if case.most_bytes is not None:  # the answer itself is a file
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return found

    found = Child(folder, work).wait()
    assert found is not None
    return found


def _fill_disk(disk: Path, free_bytes: int) -> None:
    with (disk / BALLAST).open("wb", buffering=0) as file:
        size = 2**20
        while size:
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
            size //= 2
        file.truncate(max(0, file.tell() - free_bytes))


def _too_small(studio: Studio, folder: Path, disk: Path, film: Film, chunks: int) -> Row:
    """A run that could not fit is refused before its first step."""
    longer = Film(chunks, film.width, film.height)
    found = made_in_child(studio, folder, longer, disk / "small")
    told = str(found["error"])
    return {
        "case": f"a disk of {DISK_BYTES} bytes, {longer.chunks} chunks",
        "from chunk": 0,
        "ended": "refused before the first step",
        "clear": yes("chunks still to be made take" in told and is_sentence(told)),
        "chunks kept": 0,
        "finished chunks intact": yes(not list(disk.rglob("*.safetensors"))),
        "half-written files": 0,
        "made again": 0,
        "resumed equal": "yes",
        "said": told,
    }


@contextmanager
def _small_disk(place: Path) -> Iterator[str]:
    """A disk of DISK_BYTES in memory, mounted while the block lasts; gives why not, when it cannot be."""
    place.mkdir()
    try:
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
        done = subprocess.run(mounting, capture_output=True, text=True, check=False)
        refused = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        refused = str(error)
    try:
        yield refused
    finally:
        if not refused:
            subprocess.run(["umount", str(place)], check=True)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
