"""K and V on their way from one rollout to the next, in main memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from .frame_slots import HeldFrames


@dataclass(frozen=True)
class CarriedKV:
    """All that a memory held: per group the ids of its frames, and per layer and group what lay there of them."""

    held: Mapping[str, tuple[int, ...]]
    layers: list[dict[str, HeldFrames]]
