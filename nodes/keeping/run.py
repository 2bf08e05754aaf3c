"""What a run is made into, whether it is kept or not, and one that is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from PIL import Image

from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.rollout.loop import Chunk
from ...headforcing_core.rollout.plan import FinishedChunks, Segment
from ...headforcing_core.run_store.strip_file import StripFile
from ..video.latent_video import temporary_video

if TYPE_CHECKING:
    from ..sockets import Conditioning
    from ..video.growing_video import VideoStream


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

    def give_sound(self, metadata: Mapping[str, str]) -> None:
        """A video that is whole but for its sound, of which there was another one or none, gets the one that is asked
        for, and metadata as a new one would."""
        ...

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

    def give_sound(self, metadata: Mapping[str, str]) -> None:
        """There is no video yet."""

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
