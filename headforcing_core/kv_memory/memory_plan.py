"""What a KV memory is to hold, in frames and in bytes, before anything is allocated (method.md section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .rope import temporal_pairs


@dataclass(frozen=True)
class MemoryPlan:
    """How much a KVMemory holds, and of which heads.

    `labels` gives each layer's head types; `capacity` the history frames of every head type that occurs;
    `warm_up_frames` the most history that is read before compression; `chunk_frames` the longest chunk; `capture` the
    layers whose raw keys are wanted.
    """

    labels: Sequence[Sequence[str]]
    capacity: Mapping[str, int]
    warm_up_frames: int
    chunk_frames: int
    capture: tuple[int, ...] = ()

    def expected_bytes(self, frame_head_bytes: int, head_dim: int) -> int:
        """The most that the buffers take: history in warm-up or after it, whichever is more, the chunk's slots, and of
        all of them the temporal pairs of K a second time. `frame_head_bytes` is K and V of one frame in one head."""
        heads = sum(map(len, self.labels))
        compressed = sum(self.capacity[label] for layer in self.labels for label in layer)
        kv = (max(compressed, heads * self.warm_up_frames) + heads * self.chunk_frames) * frame_head_bytes
        return kv + kv * temporal_pairs(head_dim) // head_dim
