"""The stretches of a video under one text each, and how they take over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..policy.fitting import FittedPolicy
from .transitions import TRANSITIONS, check_transition

Text = TypeVar("Text")


@dataclass(frozen=True)
class Segment(Generic[Text]):
    """The stretch of chunks from `first_chunk` to the next segment, under one text, and how it takes over. `prompt` is
    what an artist wrote; `live` says that it was typed while the video was made. `first_text` is that of the first
    chunk of a shot, which has one of its own."""

    first_chunk: int
    text: Text
    transition: str = "soft"
    soft_chunks: int = 1
    prompt: str = ""
    live: bool = False
    first_text: Text | None = None

    @property
    def settles_at(self) -> int:
        """The first chunk under the whole text: where the segment begins, or where its fade ends."""
        fade = self.soft_chunks if TRANSITIONS[self.transition].fades else 1
        return self.first_chunk + max(fade, 1) - 1


def with_segment(segments: Sequence[Segment[Text]], segment: Segment[Text]) -> tuple[Segment[Text], ...]:
    """These segments and one more, on a chunk on which none begins."""
    return tuple(sorted([*segments, segment], key=lambda each: each.first_chunk))


def check_transitions(segments: Sequence[Segment[Text]], policy: FittedPolicy) -> None:
    """ValueError for a segment that cannot take over as it is to under such a policy."""
    for segment in segments[1:]:
        check_transition(segment.transition, policy)
