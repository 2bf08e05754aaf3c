"""Where everything stands for one chunk, and what it reads."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..kv_memory.rollout_memory import RolloutMemory
from ..policy.positions import history_positions, moved_on
from ..policy.tiers import KeptFrames

PREFIX = LAST_BEFORE = -1
"""Numbers of chunks of a prefix, and of the last one of a video that goes on."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands for one chunk: its own frames and, per group, what is read. `far` puts the history at
    the far end of the trained range, as for the first chunk after a cut; at each of the `shots`, by its first frame,
    all that follows moves on by `gap`."""

    first_frame: int
    chunk_frames: int
    position: int
    rope: str
    groups: Mapping[str, KeptFrames]
    far: bool = False
    shots: tuple[int, ...] = ()
    gap: int = 0

    @property
    def own_frames(self) -> range:
        """Ids of the chunk's frames."""
        return range(self.first_frame, self.first_frame + self.chunk_frames)

    def begin(self, memory: RolloutMemory, context: str, keeps: bool = True) -> None:
        """Let the next passes read this: everything, or with context `recent` the recent tier alone. Without `keeps`
        nothing of their chunk is kept."""
        history = {}
        for group, kept in self.groups.items():
            first = kept.recent_from if context == "recent" else 0
            places = zip(kept.frames, self.positions(kept), strict=True)
            history[group] = {frame: position for frame, position in places if frame >= first}
        memory.begin(range(self.position, self.position + self.chunk_frames), history, keeps)

    def positions(self, kept: KeptFrames) -> list[int]:
        """Temporal position of every frame that is read."""
        if self.far:
            return list(range(len(kept.frames)))
        at = [moved_on(frame, self.shots, self.gap) for frame in (*kept.frames, kept.recent_from, self.first_frame)]
        return history_positions(self.rope, at[:-2], at[-2], at[-1], self.position)

    def seen(self, kept: KeptFrames) -> tuple[tuple[int, int, str], ...]:
        """(frame, position, tier) of every frame that is read, in time order."""
        places = zip(kept.frames, self.positions(kept), strict=True)
        return tuple((frame, position, kept.tier(frame)) for frame, position in places)
