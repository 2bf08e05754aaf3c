"""What the KV memory of a rollout will hold: frames and bytes, before anything is allocated (method.md section 3)."""

from collections.abc import Mapping, Sequence
from itertools import chain, takewhile

from ..kv_memory.rope import temporal_pairs
from ..policy.fitting import FittedPolicy
from ..policy.head_types import HEAD_TYPES
from .layout import PREFIX
from .plan import prefix_chunks


def capacities(policy: FittedPolicy, labels: Sequence[Sequence[str]]) -> dict[str, int]:
    """History frames of every head type that occurs."""
    used = {label for layer in labels for label in layer}
    return {head_type: policy.tiers(head_type).frames for head_type in HEAD_TYPES if head_type in used}


def warm_up_frames(policy: FittedPolicy, chunks: int, prefix_frames: int = 0) -> int:
    """The most history that any chunk reads before compression."""
    n = policy.chunk_frames
    if policy.keep_everything and chunks:
        return prefix_frames + n * (chunks - 1)
    before = ((PREFIX, own.start) for own in prefix_chunks(prefix_frames, n))
    made = ((chunk, prefix_frames + n * chunk) for chunk in range(chunks))
    warming = takewhile(lambda start: policy.warms_up(*start), chain(before, made))  # a later one warms up no more
    return max((first for _, first in warming), default=0)


def kv_bytes(labels: Sequence[Sequence[str]], capacity: Mapping[str, int], frame_head_bytes: int) -> int:
    """Arithmetic of the history after warm-up: K and V bytes of one head and frame times the frames each head keeps."""
    return sum(capacity[label] * frame_head_bytes for layer in labels for label in layer)


def expected_bytes(
    labels: Sequence[Sequence[str]],
    capacity: Mapping[str, int],
    warm_up_frames: int,
    chunk_frames: int,
    frame_head_bytes: int,
    head_dim: int,
) -> int:
    """The most that a KVMemory will hold: history in warm-up or after it, whichever is more, the chunk's slots, and of
    all of them the temporal pairs of K a second time."""
    heads = sum(map(len, labels)) * frame_head_bytes
    kv = max(kv_bytes(labels, capacity, frame_head_bytes), heads * warm_up_frames) + heads * chunk_frames
    return kv + kv * temporal_pairs(head_dim) // head_dim
