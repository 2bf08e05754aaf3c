"""Runs that are kept, in output/head_forcing/NAME, and runs that are not: the same verbs for both."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...headforcing_core.files.disk_room import reason_of
from ...headforcing_core.files.strict_json import Setting
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.rollout.loop import Chunk
from ...headforcing_core.rollout.plan import FinishedChunks, Segment
from ...headforcing_core.run_store.folder import STRIP_FILE
from ...headforcing_core.run_store.store import RunStore
from ...headforcing_core.run_store.strip_file import StripFile
from ..request.run_scenes import recorded
from ..status.node_status import NodeStatus
from ..video.latent_video import temporary_video
from .output_folder import runs_folder
from .wanted_run import FolderRequest, run_profile, run_spec

if TYPE_CHECKING:
    from ..request.run_request import RunRequest
    from ..sockets import Conditioning
    from ..video.growing_video import VideoStream

_VIDEO_HASH = "video sha256"  # in timeline.png


class RunSummary(NamedTuple):
    """What is told of a whole run: the report as JSON text, and a picture of what was read."""

    report: str
    timeline: Image.Image


class Run(Protocol):
    """What a run is made into, under the `name` that was asked for. `finished` chunks are there already; `notes` are
    sentences for the report; `video_path` is where its video grows or lies; `told` what is told of it, when nothing is
    to be made, and `has_video` whether its video is whole, then and once it is settled; `strip` keeps its strip, if
    anything does."""

    name: str
    strip: StripFile | None
    finished: FinishedChunks
    notes: list[str]
    told: RunSummary | None
    has_video: bool

    @property
    def video_path(self) -> Path: ...

    def seed_for(self, chunk: int) -> int:
        """The seed of a chunk."""
        ...

    def note_profile(self, profile: HeadProfile | None) -> None:
        """The profile that the chunks to come are made with, if it had to be measured first."""
        ...

    def note_segments(self, segments: Sequence[Segment[Conditioning]]) -> None:
        """The segments as they stand now, of which one, whose prompt was just typed, begins with the next chunk."""
        ...

    def add_chunk(self, chunk: Chunk) -> None:
        """Take a chunk, made or finished before."""
        ...

    def settle_video(self, stream: VideoStream) -> list[str]:
        """The video is closed, whole or not. Sentences on what failed, which is not raised."""
        ...

    def tell(self, told: RunSummary) -> None:
        """All chunks are made, and the video if there is one: take what is told of them. RuntimeError when it cannot be
        kept."""
        ...


class UnkeptRun:
    """A run of which only the outputs are left."""

    def __init__(self, seed: int) -> None:
        self.name = ""
        self.strip: StripFile | None = None
        self.finished = FinishedChunks()
        self.notes: list[str] = []
        self.told: RunSummary | None = None
        self.has_video = False
        self._seed = seed
        self._video_path: Path | None = None

    @property
    def video_path(self) -> Path:
        self._video_path = self._video_path or temporary_video()
        return self._video_path

    def seed_for(self, chunk: int) -> int:
        return self._seed

    def note_profile(self, profile: HeadProfile | None) -> None:
        """Nothing is kept."""

    def note_segments(self, segments: Sequence[Segment[Conditioning]]) -> None:
        """Nothing is kept."""

    def add_chunk(self, chunk: Chunk) -> None:
        """Nothing is kept."""

    def settle_video(self, stream: VideoStream) -> list[str]:
        """It is where it was written."""
        self.has_video = stream.is_whole
        return []

    def tell(self, told: RunSummary) -> None:
        """Nothing is kept."""


class KeptRun:
    """A run in its folder, open. A video that is there stays until the one that grows beside it has as much, and for
    good while more is kept than was asked for."""

    def __init__(self, store: RunStore, video: VideoShape, name: str) -> None:
        self.name = name
        listed = [store.finished_chunk(chunk) for chunk in range(store.finished)]
        decisions = {decision.frame: decision for chunk in listed for decision in chunk.decisions}
        choices = {number: chunk.choice for number, chunk in enumerate(listed) if chunk.choice is not None}
        self.finished = FinishedChunks(store.finished, store.read, decisions, choices, store.read_window)
        self.notes = store.notes
        self._store = store
        self._least_pictures = video.pixel_frames_after(store.finished)
        self.told = self._read({"chunks": video.chunks, "pixel_frames": video.pixel_frames, "fps": video.fps})
        self.has_video = self.told is not None and self._is_video_of(self.told)
        place = store.folder / STRIP_FILE
        grows = not store.has_more and (self.told is None or place.exists())  # whole runs of older versions stay so
        self.strip: StripFile | None = StripFile(place, store.finished, grows)
        self._video_path: Path | None = None
        self._video_hash: str | None = None  # of a video that was made whole and is in its place

    @property
    def video_path(self) -> Path:
        if self._video_path is None:
            self._video_path = self._place()
        return self._video_path

    def seed_for(self, chunk: int) -> int:
        return self._store.seed_for(chunk)

    def note_profile(self, profile: HeadProfile | None) -> None:
        self._store.note_profile(run_profile(profile))

    def note_segments(self, segments: Sequence[Segment[Conditioning]]) -> None:
        self._store.note_segments(recorded(segments, are_written=True))

    def add_chunk(self, chunk: Chunk) -> None:
        decisions = (*chunk.prefix_decisions, *chunk.decisions)
        if chunk.index >= self.finished.chunks:
            self._store.append(chunk.latent, decisions, chunk.choice, chunk.window)
        elif decisions:
            self._store.add_decisions(chunk.index, decisions)

    def settle_video(self, stream: VideoStream) -> list[str]:
        path, place, beside = self.video_path, self._store.video_path, self._store.next_video_path
        self.has_video = stream.is_whole
        if path == beside and stream.pixel_frames >= max(1, self._least_pictures):
            try:
                os.replace(beside, place)
            except OSError as error:
                return [
                    f"The new video could not take the place of {place.name} ({reason_of(error)}), so it is "
                    f"{beside.name} for now. Close the program that has {place.name} open, and run again."
                ]
            path = self._video_path = place
        if path != place or not stream.is_whole or stream.failure is not None:
            return []  # made again by the next run, since no hash of it is kept
        try:
            self._video_hash = _file_hash(place)
        except OSError as error:
            self.has_video = False
            return [
                f"{place.name} could not be read ({reason_of(error)}), so the video output decodes the latent. Close "
                "the program that has it open, and run again."
            ]
        try:
            if self.told is not None:
                self.tell(self.told)
        except Exception as error:
            return [f"{reason_of(error)}."]
        return []

    def tell(self, told: RunSummary) -> None:
        if self._store.has_more:
            return
        data, beside = io.BytesIO(), PngInfo()
        if self._video_hash is not None:
            beside.add_text(_VIDEO_HASH, self._video_hash)
        told.timeline.save(data, "PNG", pnginfo=beside)
        self._store.write_report(told.report, data.getvalue())

    def _is_video_of(self, told: RunSummary) -> bool:
        path, kept = self._store.video_path, told.timeline.info.get(_VIDEO_HASH)
        try:
            return kept is not None and path.exists() and kept == _file_hash(path)
        except OSError:
            return False  # made again

    def _place(self) -> Path:
        if self.has_video:
            return self._store.video_path
        if self._store.has_more:
            return temporary_video()
        return self._store.next_video_path if self.told or self._store.video_path.exists() else self._store.video_path

    def _read(self, settings: dict[str, Setting]) -> RunSummary | None:
        found = self._store.read_report(settings) if self.finished.chunks == self._store.chunks else None
        if found is None:
            return None
        try:
            return RunSummary(found[0], Image.open(io.BytesIO(found[1]), formats=("PNG",)).convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError):
            return None  # drawn again


@contextmanager
def open_run(request: RunRequest, folder: FolderRequest, status: NodeStatus) -> Iterator[Run]:
    """Open the run's folder, if it has a name. Errors as of RunStore.open."""
    if not folder.name:
        yield UnkeptRun(request.seed)
        return
    spec = run_spec(request)
    with RunStore.open(
        runs_folder(), folder.name, spec, folder.on_existing, folder.from_chunk, status.checked
    ) as store:
        yield KeptRun(store, request.video, folder.name)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
