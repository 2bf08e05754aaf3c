"""The folder in which a long run is kept, so that no finished chunk can be lost: saved as it is made, checked when it
is read, gone on with after an interrupt, begun anew from any chunk (method.md section 8; docs/files.md).

    NAME/run.json                     what decided about the chunks, and the SHA-256 of each (run_record.py)
         chunk_00000.safetensors ...  the chunks (chunk_file.py)
         video.mp4  report.json  timeline.png    what was made of them
         lock                         held while the run is open
    NAME_take_1/ ...                  the run as it was before chunks were made anew (run_takes.py)

Every file is written under a temporary name and then renamed, a chunk's file before the run.json that lists it. Killed
at any moment, a run stands as it was after its last finished chunk.
"""

import errno
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from filelock import FileLock
from torch import Tensor

from . import run_folder
from .chunk_file import most_bytes, pack_chunk, unpack_chunk
from .disk_room import check_disk, disk_errors
from .episodes import Decision
from .names import check_plain_name
from .report import Setting
from .run_folder import (
    MADE_FILES,
    NEXT_VIDEO_FILE,
    ON_EXISTING,
    REPORT_FILE,
    RUN_FILE,
    TIMELINE_FILE,
    VIDEO_FILE,
    check_place,
    chunk_file,
    chunks_from,
)
from .run_match import check_from_chunk, check_same_run, differing, first_difference, wanted_seeds
from .run_record import (
    MOST_BYTES,
    ChunkRecord,
    RunProfile,
    RunRecord,
    RunSegment,
    RunSpec,
    Seeds,
    begin_record,
    dump_record,
    parse_record,
    unreadable,
)
from .run_takes import keep_take, remove_unfinished
from .safe_files import read_file, write_file
from .strict_json import parse_json

OnCheck = Callable[[int, int], None]
"""(chunks checked, chunks to check); whatever it raises ends the opening."""


def kept_run(root: Path, name: str) -> RunRecord | None:
    """What a run that is there was made with, before it is opened. ValueError for a name that is not plain,
    RuntimeError for a run.json that cannot be read."""
    check_plain_name("run_name", name)
    folder = root / name
    if not folder.exists():
        return None
    check_place(folder)
    return _read_record(folder) if RUN_FILE in run_folder.own_files(folder) else None


class RunStore:
    """One run, open and locked. Close it, or use it in a `with`; `finished` chunks are there, the rest are to be
    appended in order. `notes` are sentences for the report."""

    def __init__(self, folder: Path, spec: RunSpec, lock: FileLock) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._spec = spec
        self._lock = lock
        self._record = begin_record(spec)
        self._finished = 0

    @classmethod
    def open(
        cls,
        root: Path,
        name: str,
        spec: RunSpec,
        on_existing: str = "resume",
        from_chunk: int = -1,
        on_check: OnCheck = lambda done, chunks: None,
    ) -> Self:
        """Open the run `name` in the folder `root`, or begin it.

        `on_existing` says what happens when it is there: `resume` goes on with it, `new` takes the next free name,
        `replace` deletes it. With `from_chunk` 0 or more it is resumed, and chunks from there on may have another seed
        and other scenes: the first one that does is begun anew, and the run as it was is kept as NAME_take_1.

        ValueError for a name that is not plain, a run made with other settings, labels, beginning, seed or scenes, or
        a `from_chunk` that cannot be; RuntimeError for a run that is in use, damaged in its run.json, of a newer
        version, behind a link, or larger than the disk. After an error all chunks are as they were.
        """
        check_plain_name("run_name", name)
        begin_record(spec)
        is_there = (root / name).exists()
        _check_choice(name, on_existing, from_chunk, is_there)
        if on_existing == "new" or not is_there:
            check_disk(root, spec.chunks, most_bytes(spec.chunk_shape))
        with disk_errors(root, f"The run {name!r} could not be opened", "Nothing of it was lost."):
            folder = run_folder.place_for(root, name, on_existing)
            lock = run_folder.lock_folder(folder)
            try:
                store = cls(folder, spec, lock)
                store._begin_or_go_on(on_existing, from_chunk, on_check)
            except BaseException:
                lock.release()
                raise
        if store.name != name:
            store.notes.append(f"The run {name!r} was there already, so this one is kept as {store.name!r}.")
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another run have the folder."""
        self._lock.release()

    @property
    def name(self) -> str:
        """The run's name; another one than was asked for when that was taken."""
        return self.folder.name

    @property
    def finished(self) -> int:
        """How many chunks are there and good, of those that the video has."""
        return self._finished

    @property
    def chunks(self) -> int:
        """How many chunks the video has."""
        return self._spec.chunks

    @property
    def has_more(self) -> bool:
        """Whether more chunks are kept than the video has."""
        return len(self._record.chunks) > self.chunks

    @property
    def video_path(self) -> Path:
        """Where the video is."""
        return self.folder / VIDEO_FILE

    @property
    def next_video_path(self) -> Path:
        """Where a video grows that is to take the place of the one that is there; removed at the next opening."""
        return self.folder / NEXT_VIDEO_FILE

    @property
    def report_path(self) -> Path:
        """Where the report is."""
        return self.folder / REPORT_FILE

    @property
    def timeline_path(self) -> Path:
        """Where the timeline is."""
        return self.folder / TIMELINE_FILE

    def seed_for(self, chunk: int) -> int:
        """The seed of a chunk, finished or to be made."""
        return self._record.seed_at(chunk)

    def decisions(self, chunk: int) -> tuple[Decision, ...]:
        """The episodic decisions of a finished chunk's commit pass."""
        return self._finished_chunk(chunk).decisions

    def read(self, chunk: int) -> Tensor:
        """A finished chunk (1, channels, frames, height, width): float32, model space, on the CPU. RuntimeError when
        its file was changed since the run was opened."""
        sha256 = self._finished_chunk(chunk).sha256
        try:
            return self._load(chunk, sha256)
        except (ValueError, OSError) as error:
            raise RuntimeError(
                f"{chunk_file(chunk)} of the run {self.name!r} was changed while the run was open ({error}). The "
                "chunks after it depend on it. Run again: the run goes on from the last good chunk."
            ) from error

    def append(self, latent: Tensor, decisions: Sequence[Decision]) -> None:
        """Keep the next chunk. RuntimeError for one that is not finite, or when it cannot be written, for example on a
        full disk; the chunks before it stay. ValueError for another shape, or beyond the last chunk."""
        chunk = self._finished
        latent = latent.detach().to("cpu", torch.float32)
        self._check_chunk(latent)
        data = pack_chunk(latent)
        entry = ChunkRecord(hashlib.sha256(data).hexdigest(), tuple(decisions))
        record = replace(self._record, chunks=(*self._record.chunks[:chunk], entry))
        failed = f"Chunk {chunk} of the run {self.name!r} could not be kept"
        safe = f"The finished chunks ({chunk}) are safe: run again with on_existing_run resume to go on from there."
        try:
            described = dump_record(record)
        except ValueError as error:
            raise RuntimeError(f"{failed}: {error}. run.json could not be read again with it. {safe}") from error
        with disk_errors(self.folder, failed, safe):
            write_file(self.folder / chunk_file(chunk), data)
            write_file(self.folder / RUN_FILE, described)
        self._record, self._finished = record, chunk + 1

    def note_segments(self, segments: Sequence[RunSegment]) -> None:
        """Write down the scenes as they stand now; those that begin before the next chunk stay as they are."""
        self._note(replace(self._record, segments=tuple(segments)), "The new scene")

    def note_profile(self, profile: RunProfile | None) -> None:
        """Write down the labels that the chunks are made with, when the run was opened without. RuntimeError for a run
        that has chunks, which were made with others."""
        if profile == self._record.profile:
            return
        if self._finished:
            raise RuntimeError(
                f"The run {self.name!r} has {self._finished} chunks, made with other head labels. The chunks still to "
                "be made would not go together with them. Connect the profile of that run."
            )
        self._note(replace(self._record, profile=profile), "The profile")

    def add_decisions(self, chunk: int, decisions: Sequence[Decision]) -> None:
        """Give a finished chunk without decisions those of its commit pass, which the last chunk of a video did not
        have until the video became longer. They are written with the next chunk."""
        entry = self._finished_chunk(chunk)
        if entry.decisions or self._finished == self.chunks:
            return
        chunks = list(self._record.chunks)
        chunks[chunk] = replace(entry, decisions=tuple(decisions))
        self._record = replace(self._record, chunks=tuple(chunks))

    def write_report(self, text: str, timeline: bytes) -> None:
        """Keep the report (JSON text) and the timeline (a PNG) of a whole video. RuntimeError when they cannot be
        written."""
        with disk_errors(
            self.folder, f"The report of the run {self.name!r} could not be kept", "All its chunks are safe."
        ):
            write_file(self.timeline_path, timeline)
            write_file(self.report_path, text.encode("utf-8"))

    def read_report(self, settings: Mapping[str, Setting]) -> tuple[str, bytes] | None:
        """The report and the timeline, when they are there and of a video with these settings."""
        try:
            text, timeline = (read_file(path, MOST_BYTES) for path in (self.report_path, self.timeline_path))
            report = parse_json(text)
        except (OSError, ValueError):
            return None  # never written, or damaged: what they tell is made again
        found = report.get("settings") if isinstance(report, dict) else None
        told = isinstance(found, dict) and all(found.get(name) == value for name, value in settings.items())
        return (text.decode(), timeline) if told else None

    def _note(self, record: RunRecord, what: str) -> None:
        failed = f"{what} of the run {self.name!r} could not be written down"
        with disk_errors(self.folder, failed, "The finished chunks are safe: run again to go on from there."):
            write_file(self.folder / RUN_FILE, dump_record(record))
        self._record = record

    def _begin_or_go_on(self, on_existing: str, from_chunk: int, on_check: OnCheck) -> None:
        files = run_folder.own_files(self.folder)
        if RUN_FILE in files and on_existing == "resume":
            self._go_on(files, from_chunk, on_check)
            return
        _check_choice(self.name, on_existing, from_chunk, RUN_FILE in files)
        self._check_disk(files)
        self._clean_up()
        write_file(self.folder / RUN_FILE, dump_record(self._record))
        self._remove_chunks(files, 0)
        for name in MADE_FILES:
            (self.folder / name).unlink(missing_ok=True)

    def _go_on(self, files: Mapping[str, int], from_chunk: int, on_check: OnCheck) -> None:
        kept = _read_record(self.folder)
        wanted = replace(self._record, seeds=self._seeds(kept, from_chunk))
        if kept.chunks:
            check_same_run(self.name, kept, wanted)
        check_from_chunk(self.name, kept, self._spec.seed, from_chunk, self.chunks)
        shared = min(len(kept.chunks), self.chunks)
        difference = first_difference(kept, wanted, shared)
        if difference is not None and (from_chunk < 0 or difference.chunk < from_chunk):
            raise differing(self.name, len(kept.chunks), difference, from_chunk)
        if difference is not None:
            shared = difference.chunk
        self._finished = self._good_chunks(kept, shared, on_check)
        is_complete = self._finished == self.chunks
        self._record = kept if is_complete else replace(wanted, chunks=kept.chunks[: self._finished])
        if is_complete:
            self._note_unused(kept)
        else:
            self._check_disk(files if difference is None else {})
        self._clean_up()
        if difference is not None:
            self._cut(files, len(kept.chunks))

    def _seeds(self, kept: RunRecord, from_chunk: int) -> Seeds:
        """A run that is not whole goes on with its own seed: the page draws another one each time Run is pressed."""
        seed, last = self._spec.seed, kept.seeds[-1][1]
        if from_chunk >= 0 or not kept.chunks or (seed != last and len(kept.chunks) >= self.chunks):
            return wanted_seeds(kept.seeds, seed, from_chunk)
        if seed != last:
            self.notes.append(
                f"The run {self.name!r} went on with its seed {last}, not with {seed}. Set from_chunk to make chunks "
                "anew with another seed."
            )
        return kept.seeds

    def _cut(self, files: Mapping[str, int], listed: int) -> None:
        unlisted = chunks_from(listed, files)
        take = keep_take(self.folder, {name: size for name, size in files.items() if name not in unlisted})
        self.notes.append(f"Chunks from {self._finished} on are made anew; the take before is kept as {take!r}.")
        write_file(self.folder / RUN_FILE, dump_record(self._record))
        self._remove_chunks(files, self._finished)

    def _good_chunks(self, kept: RunRecord, chunks: int, on_check: OnCheck) -> int:
        for chunk in range(chunks):
            try:
                self._load(chunk, kept.chunks[chunk].sha256)
            except ValueError as error:
                after = chunks - chunk - 1
                also = f", and the {after} chunks after it are made again" if after else ""
                self.notes.append(f"{chunk_file(chunk)} is damaged: {error}. The run goes on from chunk {chunk}{also}.")
                return chunk
            on_check(chunk + 1, chunks)
        return chunks

    def _load(self, chunk: int, sha256: str) -> Tensor:
        try:
            data = read_file(self.folder / chunk_file(chunk), most_bytes(self._spec.chunk_shape))
        except FileNotFoundError:
            raise ValueError("it is missing") from None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise ValueError(f"the disk cannot read it ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"its {len(data)} bytes are not those that were written")
        return unpack_chunk(data, self._spec.chunk_shape)

    def _check_chunk(self, latent: Tensor) -> None:
        chunk, chunks = self._finished, self.chunks
        if chunk >= chunks:
            raise ValueError(
                f"The run {self.name!r} has all of its {chunks} chunks. There is no further one to keep. Open it with "
                "more chunks."
            )
        if tuple(latent.shape) != self._spec.chunk_shape:
            raise ValueError(
                f"Chunk {chunk} has shape {tuple(latent.shape)}, those of the run {self.name!r} have "
                f"{self._spec.chunk_shape}. They would not make one video. Open the run with that shape."
            )
        if not torch.isfinite(latent).all():
            raise RuntimeError(
                f"Chunk {chunk} of the run {self.name!r} holds numbers that are not finite, so it was not kept. The "
                f"model overflowed; the finished chunks ({chunk}) are safe. Use another weight_dtype or seed."
            )

    def _check_disk(self, files: Mapping[str, int]) -> None:
        again = sum(files[name] for name in chunks_from(self._finished, files))
        check_disk(self.folder, self.chunks - self._finished, most_bytes(self._spec.chunk_shape), again)

    def _clean_up(self) -> None:
        run_folder.remove_temporaries(self.folder)
        remove_unfinished(self.folder)

    def _remove_chunks(self, files: Mapping[str, int], first: int) -> None:
        for name in chunks_from(first, files):
            (self.folder / name).unlink(missing_ok=True)

    def _note_unused(self, kept: RunRecord) -> None:
        if len(kept.chunks) > self._finished:
            self.notes.append(
                f"The run {self.name!r} has {len(kept.chunks)} chunks; the first {self._finished} are used, the others "
                "stay."
            )

    def _finished_chunk(self, chunk: int) -> ChunkRecord:
        if not 0 <= chunk < self._finished:
            raise ValueError(
                f"The run {self.name!r} has no finished chunk {chunk}. It has {self._finished}, counted from 0. Append "
                "it first."
            )
        return self._record.chunks[chunk]


def _read_record(folder: Path) -> RunRecord:
    try:
        data = read_file(folder / RUN_FILE, MOST_BYTES)
    except ValueError as error:
        raise unreadable(folder.name, str(error)) from error
    return parse_record(data, folder.name)


def _check_choice(name: str, on_existing: str, from_chunk: int, is_there: bool) -> None:
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
