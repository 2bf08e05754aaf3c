"""A run on its way to a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...headforcing_core.families.family import ROLLING
from ..request.past import NOBODY_GOES_ON, ON_CARDS, ROLLS

if TYPE_CHECKING:
    from ..cards.spread import Spread
    from ..keeping.run import Run
    from ..request.run_request import RunRequest
    from ..status.node_status import NodeStatus
    from ..video.growing_video import VideoStream


@dataclass(frozen=True)
class VideoJob:
    """A run on its way: what is wanted, what it is made into, the video that grows with it, where it is shown, and
    which cards make it, if not one alone; and whether its memory `hands_on`, to a sampler that goes on from it."""

    request: RunRequest
    run: Run
    stream: VideoStream | None
    status: NodeStatus
    spread: Spread | None = None
    hands_on: bool = False

    @property
    def why_not_kept(self) -> str:
        """Why nothing can go on from the memory that the run has at its end; empty if something will."""
        if not self.hands_on:
            return NOBODY_GOES_ON
        if self.spread is not None:
            return ON_CARDS
        return ROLLS if self.request.rollout.solver == ROLLING else ""
