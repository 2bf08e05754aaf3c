"""The folder in which a long run is kept, so that no finished chunk can be lost: saved as it is made, checked when it
is read, gone on with after an interrupt, begun anew from any chunk (method.md section 8; docs/files.md).

    NAME/run.json                     what decided about the chunks (record_json.py)
         journal.jsonl                the finished chunks, a line each, with the SHA-256 of their files (journal.py)
         chunk_00000.safetensors ...  the chunks (chunk_file.py)
         video.mp4  report.json  timeline.png  strip.jsonl    what was made of them
         lock                         held while the run is open
    NAME_take_1/ ...                  the run as it was before chunks were made anew (takes.py); to choose it, the two
                                      change places (choosing.py)

The journal grows by a line a chunk; every other file is written under a temporary name and then renamed, a chunk's file
before the line that lists it. Killed at any moment, a run stands as it was after its last finished chunk.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from filelock import FileLock
from torch import Tensor

from ..files.disk_room import check_disk, disk_errors
from ..files.plain_names import check_plain_name
from ..files.safe_files import read_file, write_file
from ..files.strict_json import Setting, parse_json
from ..rollout.episodes import Decision
from ..rollout.plan import Segment
from ..rollout.recall import Choice
from .choosing import settled
from .chunk_checks import check_chunk
from .chunk_file import most_bytes, pack_chunk, read_chunk, read_window
from .chunk_json import dump_chunk
from .folder import NEXT_VIDEO_FILE, REPORT_FILE, TIMELINE_FILE, VIDEO_FILE, chunk_file, place_for
from .lock import lock_folder
from .opening import OnCheck, OpenedRun, check_choice, open_folder
from .record import ChunkRecord, RunProfile, RunRecord, RunSpec
from .record_json import MOST_BYTES, begin_record


class RunStore:
    """One run, open and locked. Close it, or use it in a `with`. The video has `chunks`; `finished` of them are there
    and good, the rest are to be appended in order. `notes` are sentences for the report."""

    def __init__(self, folder: Path, spec: RunSpec, lock: FileLock, opened: OpenedRun) -> None:
        self.folder = folder
        self.notes = opened.notes
        self._spec = spec
        self._lock = lock
        self._ledger = opened.ledger
        self._record = opened.record
        self.finished = opened.finished
        self.chunks = spec.chunks

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
        with disk_errors(root, f"The run {name!r} could not be opened", "Nothing of it was lost."):
            with settled(root, name):
                is_there = (root / name).exists()
                check_choice(name, on_existing, from_chunk, is_there)
                if on_existing == "new" or not is_there:
                    check_disk(root, spec.chunks, most_bytes(spec.chunk_shape, spec.window_frames))
                folder = place_for(root, name, on_existing)
                lock = lock_folder(folder)
            try:
                store = cls(folder, spec, lock, open_folder(folder, spec, on_existing, from_chunk, on_check))
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
    def has_more(self) -> bool:
        """Whether more chunks are kept than the video has."""
        return len(self._ledger.chunks) > self.chunks

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

    def finished_chunk(self, chunk: int) -> ChunkRecord:
        """What is written down of a finished chunk. ValueError for one that is not finished."""
        if not 0 <= chunk < self.finished:
            raise ValueError(
                f"The run {self.name!r} has no finished chunk {chunk}. It has {self.finished}, counted from 0. Append "
                "it first."
            )
        return self._ledger.chunks[chunk]

    def read(self, chunk: int) -> Tensor:
        """A finished chunk (1, channels, frames, height, width): float32, model space, on the CPU. RuntimeError when
        its file was changed since the run was opened."""
        return self._read(chunk, read_chunk)

    def read_window(self, chunk: int) -> Tensor:
        """The noisy chunks that stood behind a finished one, likewise. Errors as there."""
        return self._read(chunk, read_window)

    def _read(self, chunk: int, part: Callable[[Path, str, tuple[int, ...], int], Tensor]) -> Tensor:
        sha256, spec = self.finished_chunk(chunk).sha256, self._spec
        try:
            return part(self.folder / chunk_file(chunk), sha256, spec.chunk_shape, spec.window_frames)
        except (ValueError, OSError) as error:
            raise RuntimeError(
                f"{chunk_file(chunk)} of the run {self.name!r} was changed while the run was open ({error}). The "
                "chunks after it depend on it. Run again: the run goes on from the last good chunk."
            ) from error

    def append(
        self,
        latent: Tensor,
        decisions: Sequence[Decision],
        choice: Choice | None = None,
        window: Tensor | None = None,
    ) -> None:
        """Keep the next chunk, and the window behind it. RuntimeError for one that is not finite, or when it cannot be
        written, for example on a full disk; the chunks before it stay. ValueError for another shape, or beyond the last
        chunk."""
        chunk = self.finished
        latent = latent.detach().to("cpu", torch.float32)
        check_chunk(self.name, chunk, self._spec, latent, window)
        data = pack_chunk(latent, window)
        entry = ChunkRecord(hashlib.sha256(data).hexdigest(), tuple(decisions), choice)
        failed = f"Chunk {chunk} of the run {self.name!r} could not be kept"
        safe = f"The finished chunks ({chunk}) are safe: run again with on_existing_run resume to go on from there."
        try:
            dump_chunk(entry)
        except ValueError as error:
            raise RuntimeError(f"{failed}: {error}. The journal could not be read again with it. {safe}") from error
        with disk_errors(self.folder, failed, safe):
            self._ledger.settle(self._record, chunk)
            write_file(self.folder / chunk_file(chunk), data)
            self._ledger.append(entry)
        self.finished = chunk + 1

    def note_segments(self, segments: Sequence[Segment[str]]) -> None:
        """Write down the scenes as they stand now; those that begin before the next chunk stay as they are."""
        self._note(replace(self._record, segments=tuple(segments)), "The new scene")

    def note_profile(self, profile: RunProfile | None) -> None:
        """Write down the labels that the chunks are made with, when the run was opened without. RuntimeError for a run
        that has chunks, which were made with others."""
        before = self._record.profile
        if profile == before or (profile is not None and before is not None and profile.labels == before.labels):
            return
        if self.finished:
            raise RuntimeError(
                f"The run {self.name!r} has {self.finished} chunks, made with other head labels. The chunks still to "
                "be made would not go together with them. Connect the profile of that run."
            )
        self._note(replace(self._record, profile=profile), "The profile")

    def add_decisions(self, chunk: int, decisions: Sequence[Decision]) -> None:
        """Give a finished chunk without decisions those of its commit pass, which the last chunk of a video did not
        have until the video became longer. They are written with the next chunk."""
        entry = self.finished_chunk(chunk)
        if entry.decisions or self.finished == self.chunks:
            return
        self._ledger.change(chunk, replace(entry, decisions=tuple(decisions)))

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
            self._ledger.settle(record, self.finished)
        self._record = record
