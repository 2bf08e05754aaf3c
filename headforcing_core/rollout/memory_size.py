"""What the KV memory of a rollout is to hold, by its policy, heads and length (method.md section 3)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, takewhile

from ..geometry import prefix_chunks
from ..kv_memory.memory_plan import MemoryPlan
from ..kv_memory.rollout_memory import RolloutMemory
from ..policy.fitting import FittedPolicy
from ..policy.head_types import HEAD_TYPES
from .layout import PREFIX
from .recall import captured_layers


def plan_memory(
    policy: FittedPolicy,
    labels: Sequence[Sequence[str]],
    chunks: int,
    prefix_frames: int = 0,
    made_before: int | None = None,
) -> MemoryPlan:
    """What is held for heads with these labels, (layers, heads), while so many chunks are made after a prefix, or after
    what is carried over from a rollout that made so many before, the last of which is still to be committed."""
    used = {label for layer in labels for label in layer}
    capacity = {head_type: policy.capacity(head_type) for head_type in HEAD_TYPES if head_type in used}
    warm_up = _warm_up_frames(policy, chunks, prefix_frames, made_before)
    capture = captured_layers(policy, len(labels)) if policy.episodes else ()
    return MemoryPlan(labels, capacity, warm_up, policy.chunk_frames + policy.ahead, capture, policy.kv_precision)


def _warm_up_frames(policy: FittedPolicy, chunks: int, prefix_frames: int, made_before: int | None) -> int:
    """The most history that any chunk reads before compression."""
    n = policy.chunk_frames
    if policy.keep_everything and chunks:
        return prefix_frames + n * (chunks - 1)
    if made_before is None:
        before, first = [(PREFIX, own.start) for own in prefix_chunks(prefix_frames, n)], 0
    else:
        before, first = [(made_before - 1, prefix_frames - n)], made_before
    made = ((first + chunk, prefix_frames + n * chunk) for chunk in range(chunks))
    warming = takewhile(lambda start: policy.warms_up(*start), chain(before, made))  # a later one warms up no more
    return max((first for _, first in warming), default=0)


def check_memory(memory: RolloutMemory, needed: MemoryPlan, committed: int) -> None:
    """ValueError for a memory that was planned for something else, or is empty where frames are `committed` before."""
    given = memory.plan
    if replace(given, capture=needed.capture) != needed or not set(needed.capture) <= set(given.capture):
        raise ValueError(
            f"The KV memory was planned for another rollout ({given}); this one needs {needed}. What does not fit into "
            "its buffers would be lost. Make it by the memory_plan of the rollout's own plan."
        )
    if committed and not any(memory.held(group) for group in memory.groups):
        raise ValueError(
            f"The KV memory is empty, but {committed} frames are carried over with this rollout. Let it take over what "
            "the memory of the rollout before handed over."
        )
