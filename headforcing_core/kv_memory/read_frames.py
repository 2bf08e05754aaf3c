"""Which of the frames that a group holds a pass reads, and the slots that they lie in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class ReadFrames:
    """What a group reads with a chunk, whose own frames lie behind the `held` ones: the frames in these slots, at these
    positions, the chunk's own last."""

    held: int
    slots: tuple[int, ...]
    positions: tuple[int, ...]

    @classmethod
    def of(cls, held: Sequence[int], read: Mapping[int, int], chunk_positions: Sequence[int]) -> Self:
        """Of the frames `held`, those that are `read`, each with its position, and a chunk."""
        own = range(len(held), len(held) + len(chunk_positions))
        return cls(len(held), (*slots_of(held, tuple(read)), *own), (*read.values(), *chunk_positions))


def slots_of(available: Sequence[int], frames: Sequence[int]) -> list[int]:
    """Where these frames lie among the available ones; of two that are there, the first."""
    place = {frame: slot for slot, frame in reversed([*enumerate(available)])}
    return [place[frame] for frame in frames]
