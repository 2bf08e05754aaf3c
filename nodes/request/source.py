"""The video that a run makes another one of: what it may be, how far the new one may go from it, how long it lasts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from comfy_api.latest import Input
from torch import Tensor

from ...headforcing_core.families.family import CONCAT, ROLLING
from ...headforcing_core.files.strict_json import Setting
from ...headforcing_core.geometry import VideoShape, pixel_frames_for
from ..host.chunk_encoder import ChunkEncoder
from ..video.source_latents import SourceLatents
from ..video.source_video import SourceVideo

if TYPE_CHECKING:
    from comfy.sd import VAE

    from .beginning import Beginning

USUAL_STRENGTH = 0.8
_COLOURS = (3, 4)


@dataclass(frozen=True)
class Source:
    """A video that can be encoded piece by piece, as `video` shows it at the run's size and speed: about
    `expected_pictures` are there of the `asked_pictures` that are to be made. With `goes_on` they come after those of
    another video."""

    video: SourceVideo
    vae: VAE
    strength: float
    fps: float
    sha256: str
    goes_on: bool
    expected_pictures: int
    asked_pictures: int

    @property
    def wanted_pictures(self) -> int:
        """Pictures that are made."""
        return min(self.asked_pictures, self.expected_pictures)

    def shortened(self, video: VideoShape) -> VideoShape:
        """The run's shape, no longer than the source."""
        return video if self._is_long_enough else replace(video, seconds=self.wanted_pictures / self.fps)

    def settings(self) -> dict[str, Setting]:
        """What of it decides about the result."""
        return {"source": self.sha256, "source_fps": self.fps, "strength": self.strength}

    def notes(self) -> list[str]:
        """Sentences for the report."""
        if self._is_long_enough:
            return []
        shown = self.wanted_pictures / self.fps
        return [
            f"The video that is connected has {shown:.2f} s at {self.fps:g} pictures a second, less than seconds asks "
            "for, so as much is made."
        ]

    @contextmanager
    def opened(self, notes: list[str]) -> Iterator[SourceLatents]:
        """Its latent. When it is closed, `notes` hear of a video that ended too early."""
        with closing(SourceLatents(self.video, self.vae, self.goes_on)) as latents:
            yield latents
        if latents.ended is not None and latents.pictures < self.wanted_pictures:
            notes.append(
                f"The video that is connected ended after {latents.pictures} pictures of the {self.expected_pictures} "
                f"that it should have, so the last one stays to the end. {latents.ended}".rstrip()
            )

    @property
    def _is_long_enough(self) -> bool:
        return self.expected_pictures >= self.asked_pictures


NO_SOURCE: dict[str, Setting] = {"source": None, "source_fps": None, "strength": None}
"""The settings of a run without one."""


def settle_source(
    given: Tensor | Input.Video | None, strength: float, beginning: Beginning, video: VideoShape
) -> Source | None:
    """Check the video that is connected; None where none is. ValueError for what a run cannot be made of, or where a
    family needs one; RuntimeError for a file that cannot be read."""
    family, vae = beginning.family, beginning.vae
    if given is None:
        if family.needs_video:
            raise ValueError(
                "video is not connected. The model was trained to make a video of another one, and makes none of noise "
                "alone. Connect Load Video, or load another checkpoint, such as Self-Forcing."
            )
        return None
    if family.solver == ROLLING:
        raise ValueError(
            f"video is connected, but the model makes {family.steps.count} chunks at once, each out of noise of its "
            "own level, and was never taught to begin with a picture in it. Load another checkpoint, such as "
            "Self-Forcing, or connect a latent to previous to go on from it."
        )
    if not 0 < strength <= 1:
        raise ValueError(
            f"strength is {strength:g}. It is how much noise is laid over video: from just above 0, which keeps it, to "
            "1, which ignores it. Set it within, for example to 0.8."
        )
    if beginning.start_image is not None and family.image != CONCAT:
        raise ValueError(
            "Both start_image and video are connected. What is made of a video begins as that does. Disconnect one of "
            "them."
        )
    if vae is None:
        raise ValueError(
            f"video is connected without vae. It cannot be encoded. Connect the {family.space.models} VAE "
            f"({family.space.vae_file})."
        )
    _check_pictures(given)
    ChunkEncoder(vae)
    source = SourceVideo(given, video.width, video.height, video.fps)
    return Source(
        source,
        vae,
        strength,
        video.fps,
        source.sha256(),
        beginning.previous is not None,
        source.expected_pictures(),
        pixel_frames_for(video.seconds, video.fps),
    )


def told_of_strength(given: Tensor | Input.Video | None, strength: float) -> list[str]:
    """A sentence when a strength is set that does nothing."""
    if given is not None or math.isclose(strength, USUAL_STRENGTH):
        return []
    return [f"strength is {strength:g}, but no video is connected, so it does nothing."]


def _check_pictures(given: Tensor | Input.Video) -> None:
    if isinstance(given, Tensor):
        if given.ndim != 4 or given.shape[-1] not in _COLOURS or 0 in given.shape:
            raise ValueError(
                f"video has shape {tuple(given.shape)}. Pictures are (pictures, height, width, 3 colours). Connect "
                "Load Video, or another node that gives a video or its pictures."
            )
    elif not isinstance(given, Input.Video):
        raise ValueError(
            f"video is a {type(given).__name__}, not a video or its pictures. Connect Load Video, or another node that "
            "gives one."
        )
