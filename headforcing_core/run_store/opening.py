"""How a kept run is opened: begun, gone on with, or begun anew from a chunk on (method.md section 8)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..files.disk_room import check_disk
from ..files.plain_names import check_plain_name
from .choosing import settled
from .chunk_file import most_bytes, read_chunk
from .folder import (
    JOURNAL_FILE,
    MADE_FILES,
    ON_EXISTING,
    RUN_FILE,
    STRIP_FILE,
    check_place,
    chunk_file,
    chunks_from,
    own_files,
    remove_temporaries,
)
from .ledger import Ledger, read_record
from .matching import check_from_chunk, check_same_run, differing, first_difference, wanted_seeds
from .record import RunRecord, RunSpec, Seeds
from .record_json import begin_record
from .strip_file import copy_first
from .takes import keep_take, remove_unfinished

OnCheck = Callable[[int, int], None]
"""(chunks checked, chunks to check); whatever it raises ends the opening."""


class OpenedRun(NamedTuple):
    """A run as it was found or begun: what is written down of it, its record from now on, how many chunks are good, and
    sentences for the report."""

    ledger: Ledger
    record: RunRecord
    finished: int
    notes: list[str]


def kept_run(root: Path, name: str) -> RunRecord | None:
    """What a run that is there was made with, before it is opened. ValueError for a name that is not plain,
    RuntimeError for a run.json that cannot be read."""
    check_plain_name("run_name", name)
    folder = root / name
    with settled(root, name):
        if not folder.exists():
            return None
        check_place(folder)
        return read_record(folder) if RUN_FILE in own_files(folder) else None


def check_choice(name: str, on_existing: str, from_chunk: int, is_there: bool) -> None:
    """ValueError for a way to open a run that cannot be."""
    if on_existing not in ON_EXISTING:
        raise ValueError(f"on_existing_run is {on_existing!r}. Known are {', '.join(ON_EXISTING)}. Choose one of them.")
    if from_chunk >= 0 and on_existing != "resume":
        raise ValueError(
            f"from_chunk is {from_chunk}, but on_existing_run is {on_existing}, which begins at chunk 0. Only a run "
            "that is there can be made anew from a chunk on. Set on_existing_run to resume, or from_chunk to -1."
        )
    if from_chunk >= 0 and not is_there:
        raise ValueError(
            f"from_chunk is {from_chunk}, but there is no run {name!r} yet. Only a run that is there can be made anew "
            "from a chunk on. Check run_name, or set from_chunk to -1 to begin."
        )


def open_folder(folder: Path, spec: RunSpec, on_existing: str, from_chunk: int, on_check: OnCheck) -> OpenedRun:
    """Begin the run in a folder, or go on with the one that is there. Only under the run's lock. Errors as of
    RunStore.open; OSError when the disk is at fault."""
    files = own_files(folder)
    if RUN_FILE in files and on_existing == "resume":
        return _go_on(folder, spec, files, from_chunk, on_check)
    check_choice(folder.name, on_existing, from_chunk, RUN_FILE in files)
    record = begin_record(spec)
    _check_disk(folder, spec, 0, files)
    _clean_up(folder)
    _remove(folder, MADE_FILES)  # first, since somebody may hold the video open
    ledger = Ledger.begin(folder, record)
    _remove(folder, chunks_from(0, files))
    return OpenedRun(ledger, record, 0, [])


def _go_on(folder: Path, spec: RunSpec, files: Mapping[str, int], from_chunk: int, on_check: OnCheck) -> OpenedRun:
    name, notes = folder.name, list[str]()
    ledger = Ledger.read(folder)
    kept, listed = ledger.record, len(ledger.chunks)
    if ledger.is_torn:
        notes.append(
            f"The last line of {JOURNAL_FILE} was cut short, as by a crash or a full disk. It counts for nothing: "
            f"chunk {listed} is made again."
        )
    elif len(unlisted := chunks_from(listed, files)) > 1:  # one is what a crash leaves before its line is written
        notes.append(
            f"{len(unlisted)} files of chunks from {listed} on are not listed in {JOURNAL_FILE}. They are not used, "
            "and are written over as the run goes on."
        )
    wanted = replace(begin_record(spec), seeds=_seeds(ledger, spec, from_chunk, notes))
    if listed:
        check_same_run(name, kept, spec)
    check_from_chunk(name, kept, listed, spec, from_chunk)
    shared = min(listed, spec.chunks)
    difference = first_difference(kept, wanted, shared)
    if difference is not None and (from_chunk < 0 or difference.chunk < from_chunk):
        schedule = spec.written(kept.segments) if spec.written is not None else ""
        raise differing(name, listed, difference, from_chunk, schedule)
    if difference is not None:
        shared = difference.chunk
    finished, damage = _good_chunks(ledger, folder, spec, shared, on_check)
    notes += damage
    is_complete = finished == spec.chunks
    record = kept if is_complete else wanted
    if is_complete:
        notes += _unused(name, listed, finished)
    else:
        _check_disk(folder, spec, finished, files if difference is None else {})
    _clean_up(folder)
    if difference is not None:
        notes.append(_cut(folder, ledger, record, finished, files))
    return OpenedRun(ledger, record, finished, notes)


def _seeds(ledger: Ledger, spec: RunSpec, from_chunk: int, notes: list[str]) -> Seeds:
    """A run that is not whole goes on with its own seed: the page draws another one each time Run is pressed."""
    kept, listed = ledger.record, len(ledger.chunks)
    seed, last = spec.seed, kept.seeds[-1][1]
    if from_chunk >= 0 or not listed or (seed != last and listed >= spec.chunks):
        return wanted_seeds(kept.seeds, seed, from_chunk)
    if seed != last:
        notes.append(
            f"The run {ledger.name!r} went on with its seed {last}, not with {seed}. Set from_chunk to make chunks "
            "anew with another seed."
        )
    return kept.seeds


def _good_chunks(ledger: Ledger, folder: Path, spec: RunSpec, chunks: int, on_check: OnCheck) -> tuple[int, list[str]]:
    """How many of the first `chunks` chunks are as they were written, and a sentence when one is not."""
    for chunk in range(chunks):
        path, sha256 = folder / chunk_file(chunk), ledger.chunks[chunk].sha256
        try:
            read_chunk(path, sha256, spec.chunk_shape, spec.window_frames)
        except ValueError as error:
            after = chunks - chunk - 1
            also = f", and the {after} chunks after it are made again" if after else ""
            return chunk, [f"{chunk_file(chunk)} is damaged: {error}. The run goes on from chunk {chunk}{also}."]
        on_check(chunk + 1, chunks)
    return chunks, []


def _cut(folder: Path, ledger: Ledger, record: RunRecord, finished: int, files: Mapping[str, int]) -> str:
    unlisted = chunks_from(len(ledger.chunks), files)
    take = keep_take(folder, {name: size for name, size in files.items() if name not in unlisted})
    ledger.settle(record, finished)
    _remove(folder, chunks_from(finished, files))
    copy_first(folder.with_name(take) / STRIP_FILE, folder / STRIP_FILE, finished)
    return f"Chunks from {finished} on are made anew; the take before is kept as {take!r}."


def _check_disk(folder: Path, spec: RunSpec, finished: int, files: Mapping[str, int]) -> None:
    again = sum(files[name] for name in chunks_from(finished, files))
    check_disk(folder, spec.chunks - finished, most_bytes(spec.chunk_shape, spec.window_frames), again)


def _clean_up(folder: Path) -> None:
    remove_temporaries(folder)
    remove_unfinished(folder)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _unused(name: str, listed: int, finished: int) -> list[str]:
    if listed == finished:
        return []
    return [f"The run {name!r} has {listed} chunks; the first {finished} are used, the others stay."]
