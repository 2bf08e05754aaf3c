"""A run on its way to a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..cards.spread import Spread
    from ..keeping.run import Run
    from ..request.run_request import RunRequest
    from ..status.node_status import NodeStatus
    from ..video.growing_video import VideoStream


@dataclass(frozen=True)
class VideoJob:
    """A run on its way: what is wanted, what it is made into, the video that grows with it, where it is shown, and
    which cards make it, if not one alone."""

    request: RunRequest
    run: Run
    stream: VideoStream | None
    status: NodeStatus
    spread: Spread | None = None
