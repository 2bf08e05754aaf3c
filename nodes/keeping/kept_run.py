"""A run that is kept, in output/head_forcing/NAME; opening one, or one that is not kept."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

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
from ..video.mp4_writer import finish_video
from .output_folder import runs_folder
from .run import Run, RunSummary, UnkeptRun
from .video_mark import VideoMark, file_sha256
from .wanted_run import FolderRequest, run_profile, run_spec

if TYPE_CHECKING:
    from ..request.run_request import RunRequest
    from ..sockets import Conditioning
    from ..video.growing_video import VideoStream
    from ..video.sound import Sound


class KeptRun:
    """A run in its folder, open. A video that is there stays until the one that grows beside it has as much, and for
    good while more is kept than was asked for."""

    def __init__(self, store: RunStore, video: VideoShape, name: str, sound: Sound | None) -> None:
        self.name = name
        listed = [store.finished_chunk(chunk) for chunk in range(store.finished)]
        decisions = {decision.frame: decision for chunk in listed for decision in chunk.decisions}
        choices = {number: chunk.choice for number, chunk in enumerate(listed) if chunk.choice is not None}
        self.finished = FinishedChunks(store.finished, store.read, decisions, choices, store.read_window)
        self.notes = store.notes
        self._store = store
        self._least_pictures = video.pixel_frames_after(store.finished)
        self.told = self._read({"chunks": video.chunks, "pixel_frames": video.pixel_frames, "fps": video.fps})
        mark = VideoMark(None, None) if self.told is None else VideoMark.of(self.told.timeline)
        self._sound, self._mark = sound, VideoMark(None, None if sound is None else sound.sha256())
        self._has_pictures = mark.is_of(store.video_path)
        self.has_video = self._has_pictures and mark.sound == self._mark.sound
        place = store.folder / STRIP_FILE
        grows = not store.has_more and (self.told is None or place.exists())  # whole runs of older versions stay so
        self.strip: StripFile | None = StripFile(place, store.finished, grows)
        self._video_path: Path | None = None

    @property
    def video_path(self) -> Path:
        if self._video_path is None:
            self._video_path = self._place()
        return self._video_path

    def give_sound(self, metadata: Mapping[str, str]) -> None:
        place = self._store.video_path
        if self.has_video or not self._has_pictures:
            return
        try:
            finish_video(place, place, metadata, self._sound)
        except Exception as error:
            self.notes.append(f"{reason_of(error)}. Its sound is another one; with a vae it is made anew.")
            return
        self.has_video = True
        self.notes += self._mark_video()

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
        return self._mark_video()

    def _mark_video(self) -> list[str]:
        """The video is in its place: what is told of it says so from now on. Sentences on what failed."""
        place = self._store.video_path
        try:
            self._mark = self._mark._replace(video=file_sha256(place))
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
        self._store.write_report(told.report, self._mark.put_into(told.timeline))

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
        yield KeptRun(store, request.video, folder.name, request.sound)
