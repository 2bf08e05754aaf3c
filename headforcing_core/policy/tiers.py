"""What one head type keeps: how many frames of each tier, and which they are (method.md section 3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tiers:
    """Frames of history that one head type keeps: sink, episodes and recent."""

    sink: int
    episodes: int
    recent: int

    @property
    def frames(self) -> int:
        """History frames in all three tiers together."""
        return self.sink + self.episodes + self.recent


@dataclass(frozen=True)
class KeptFrames:
    """What one head type holds: frame ids in time order, of which those from `recent_from` on are the recent tier, and
    those of `pinned` the chunk that began the shot."""

    frames: tuple[int, ...]
    recent_from: int
    sink_end: int
    pinned: range = range(0)

    def tier(self, frame: int) -> str:
        """Tier of a kept frame: recent, sink, pinned or episode."""
        if frame >= self.recent_from:
            return "recent"
        return "sink" if frame < self.sink_end else "pinned" if frame in self.pinned else "episode"

    def sink_before(self, first_frame: int) -> "KeptFrames":
        """The sink alone, as all that is kept before a chunk that starts at a frame."""
        end = min(self.sink_end, self.recent_from, first_frame)
        return replace(self, frames=tuple(frame for frame in self.frames if frame < end), recent_from=first_frame)

    def nearest(self, room: int) -> "KeptFrames":
        """What of it the first chunk of a shot reads when it can read so many frames: the sink, then the newest recent,
        then the newest of the episodes; none that are pinned. Recent are then those of which nothing is left out."""
        free = [frame for frame in self.frames if self.tier(frame) != "pinned"]
        first = sorted(free, key=lambda frame: (frame < self.sink_end, frame >= self.recent_from, frame), reverse=True)
        recent_from = max((frame + 1 for frame in first[room:] if frame >= self.recent_from), default=self.recent_from)
        return replace(self, frames=tuple(sorted(first[:room])), recent_from=recent_from)

    def without(self, frames: Collection[int]) -> "KeptFrames":
        """The same without some frames."""
        return replace(self, frames=tuple(frame for frame in self.frames if frame not in frames))


def kept_frames(
    tiers: Tiers, committed: int, episodes: Sequence[int], base: int = 0, floor: int = 0, pinned: range = range(0)
) -> KeptFrames:
    """What is kept once `committed` frames are there. Tiers are disjoint: recent first, then sink, then what is
    `pinned`, then episodes.

    The sink begins at frame `base`; the recent tier holds nothing before `floor`.
    """
    recent_from = max(floor, committed - tiers.recent)
    sink_end = base + tiers.sink
    older = {frame for frame in episodes if sink_end <= frame < recent_from} if tiers.episodes else set()
    older.update(range(base, min(sink_end, recent_from)), range(pinned.start, min(pinned.stop, recent_from)))
    return KeptFrames((*sorted(older), *range(recent_from, committed)), recent_from, sink_end, pinned)


def all_frames(committed: int, sink: int = 0) -> KeptFrames:
    """Nothing has been dropped yet: every committed frame counts as recent. The first `sink` will be the sink."""
    return KeptFrames(tuple(range(committed)), 0, sink)
