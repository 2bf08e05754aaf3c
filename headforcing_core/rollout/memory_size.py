"""What the KV memory of a rollout is to hold, by its policy, heads and length (method.md section 3)."""

from collections.abc import Sequence
from itertools import chain, takewhile

from ..geometry import prefix_chunks
from ..kv_memory.memory_plan import MemoryPlan
from ..policy.fitting import FittedPolicy
from ..policy.head_types import HEAD_TYPES
from .layout import PREFIX
from .recall import captured_layers


def plan_memory(
    policy: FittedPolicy, labels: Sequence[Sequence[str]], chunks: int, prefix_frames: int = 0
) -> MemoryPlan:
    """What is held for heads with these labels, (layers, heads), while so many chunks are made after a prefix."""
    used = {label for layer in labels for label in layer}
    capacity = {head_type: policy.capacity(head_type) for head_type in HEAD_TYPES if head_type in used}
    warm_up = _warm_up_frames(policy, chunks, prefix_frames)
    capture = captured_layers(policy, len(labels)) if policy.episodes else ()
    return MemoryPlan(labels, capacity, warm_up, policy.chunk_frames + policy.ahead, capture, policy.kv_precision)


def _warm_up_frames(policy: FittedPolicy, chunks: int, prefix_frames: int) -> int:
    """The most history that any chunk reads before compression."""
    n = policy.chunk_frames
    if policy.keep_everything and chunks:
        return prefix_frames + n * (chunks - 1)
    before = ((PREFIX, own.start) for own in prefix_chunks(prefix_frames, n))
    made = ((chunk, prefix_frames + n * chunk) for chunk in range(chunks))
    warming = takewhile(lambda start: policy.warms_up(*start), chain(before, made))  # a later one warms up no more
    return max((first for _, first in warming), default=0)
