"""What a KV memory is to hold, in frames and in bytes, before anything is allocated (method.md section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .coded_buffer import SCALE_BYTES
from .rope import temporal_pairs

MODEL, INT8 = "model", "int8"
PRECISIONS = (MODEL, INT8)


@dataclass(frozen=True)
class FrameOfHead:
    """One frame in one head: its tokens, and the numbers of each in K and in V, in the model's type."""

    tokens: int
    head_dim: int
    number_bytes: int

    def kv_bytes(self, precision: str = MODEL) -> int:
        """Bytes of its K and V."""
        coded = self.head_dim + SCALE_BYTES
        return 2 * self.tokens * (coded if precision == INT8 else self.head_dim * self.number_bytes)

    @property
    def unturned_bytes(self) -> int:
        """Bytes of the temporal pairs of its K."""
        return 2 * temporal_pairs(self.head_dim) * self.tokens * self.number_bytes


@dataclass(frozen=True)
class MemoryPlan:
    """How much a KVMemory holds, and of which heads.

    `labels` gives each layer's head types; `capacity` the history frames of every head type that occurs;
    `warm_up_frames` the most history that is read before compression; `chunk_frames` those of the longest pass;
    `capture` the layers whose raw keys are wanted. `precision` is that of what is kept: the model's own, or int8.
    `of` gives the types of all heads of a model, where these are some of them.
    """

    labels: Sequence[Sequence[str]]
    capacity: Mapping[str, int]
    warm_up_frames: int
    chunk_frames: int
    capture: tuple[int, ...] = ()
    precision: str = MODEL
    of: Sequence[Sequence[str]] | None = None

    def most_heads(self, head_type: str) -> int:
        """Heads of a type in the layer that has most of them."""
        return max(list(layer).count(head_type) for layer in self.labels)

    def expected_bytes(self, frame: FrameOfHead) -> int:
        """The most that the buffers take, in warm-up or after it, whichever is more: history, the chunk's slots, and
        what is kept beside K and V. Not in it: where warm-up ends one layer lies there twice for a moment."""
        heads = sum(map(len, self.labels))
        warm = self.warm_up_frames + self.chunk_frames
        compressed = sum(self.capacity[label] + self.chunk_frames for layer in self.labels for label in layer)
        if self.precision == MODEL:
            return max(heads * warm, compressed) * (frame.kv_bytes() + frame.unturned_bytes)
        # and what one layer after the other reads
        read_warm = max(map(len, self.labels)) * warm
        read = sum(self.most_heads(name) * (frames + self.chunk_frames) for name, frames in self.capacity.items())
        coded, raised = frame.kv_bytes(self.precision), frame.kv_bytes()
        return max(heads * warm * coded + read_warm * raised, compressed * coded + read * raised)
