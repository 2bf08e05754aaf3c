"""A film strip as the page reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import folder_paths
from typing_extensions import override

from ...headforcing_core.files.strict_json import Json
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.rollout.plan import Segment
from ...headforcing_core.run_store.folder import VIDEO_FILE
from ...headforcing_core.run_store.strip_entry import StripEntry, StripHeader, told_entry
from ..video.new_part import NewPartStream

if TYPE_CHECKING:
    from ..video.growing_video import VideoStream

    Text = TypeVar("Text")

NO_STRIP: dict[str, Json] = {
    "run": None,
    "chunks": 0,
    "made": 0,
    "fps": 0,
    "scenes": [],
    "video": None,
    "entries": [],
}


class _NewPartHeader(StripHeader):
    """Of a run whose video is its new part alone: its pictures are counted from there."""

    @override
    def pixel_frames_before(self, chunk: int) -> int:
        return super().pixel_frames_before(chunk) - super().pixel_frames_before(0)


def header_of(video: VideoShape, stream: VideoStream | None) -> StripHeader:
    """What is the same for all chunks of a run."""
    kind = _NewPartHeader if isinstance(stream, NewPartStream) else StripHeader
    return kind(video.chunks, video.fps, video.chunk_frames, video.prefix_frames, video.pixel_frames)


def told_of_entries(header: StripHeader, entries: Iterable[StripEntry]) -> list[Json]:
    """Chunks, with the seconds of the video at which they begin."""
    return [{**told_entry(entry), "second": header.second(entry.chunk)} for entry in entries]


def told_of_scenes(header: StripHeader, segments: Sequence[Segment[Text]]) -> list[Json]:
    """The scenes of a video, each with how it takes over from the one before."""
    return [
        {
            "chunk": segment.first_chunk,
            "second": header.second(segment.first_chunk),
            "prompt": segment.prompt,
            "transition": segment.transition if segment.first_chunk else None,
            "live": segment.live,
        }
        for segment in segments
    ]


def told_of_kept_video(folder: Path, header: StripHeader, chunks: int) -> Json:
    """As told_of_video, of a kept run that has so many chunks."""
    return told_of_video(folder / VIDEO_FILE, header.pixel_frames_of(chunks))


def told_of_video(path: Path, pictures: int) -> Json:
    """A video file with so many pictures, as the host's GET /view is asked for it; null if there is nothing to see, or
    it lies where that does not look."""
    folders = {"output": folder_paths.get_output_directory(), "temp": folder_paths.get_temp_directory()}
    for kind, folder in folders.items():
        if pictures > 0 and path.is_relative_to(folder) and path.is_file():
            below = path.parent.relative_to(folder)
            subfolder = "" if below == Path() else below.as_posix()
            return {"filename": path.name, "subfolder": subfolder, "type": kind, "pictures": pictures}
    return None
