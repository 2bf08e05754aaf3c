"""What a rollout holds at its end, from which another one goes on as one run of both would."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Generic

from torch import Tensor

from .history import History
from .segments import Segment, Text


@dataclass(frozen=True)
class Carried(Generic[Text]):
    """All that goes on from chunk to chunk, beside K and V: those are the memory's, which hands them over.

    The last chunk is not committed: `latent` is its own, `latents` are those of the chunks before it that may be
    committed again (float32, model space, on the CPU). `text_before` was in force when the newest segment began;
    `segments` are that one and the one before it, which count from the chunk that comes next. `chunks` were made until
    here, a prefix apart, and `committed` are the frames of each, those of a prefix and the last one among them;
    `recallable` are the latents of all that were committed and of the last one, where the policy
    recalls.
    """

    history: History
    committed: tuple[range, ...]
    segments: tuple[Segment[Text], ...]
    text_before: Text
    latent: Tensor
    latents: tuple[Tensor, ...]
    chunks: int
    recallable: tuple[Tensor, ...] = ()

    def own_history(self) -> History:
        """The history for one rollout, which changes it. Should that be stopped, another one goes on from here."""
        return deepcopy(self.history)

    @property
    def frames(self) -> int:
        """All frames of the video until here."""
        return self.committed[-1].stop


def newest(segments: Sequence[Segment[Text]], chunks: int) -> tuple[Segment[Text], ...]:
    """The last two segments that begin within so many chunks, counted from the chunk after those."""
    begun = [segment for segment in segments if segment.first_chunk < chunks]
    return tuple(replace(segment, first_chunk=segment.first_chunk - chunks) for segment in begun[-2:])
