"""A finished chunk, as a rollout gives it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .episodes import Decision
from .recall import Choice


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: its latent (model space, float32, on the CPU), what every head type saw, what was decided.
    `seconds` is 0 for a chunk that was made before.

    `seen` gives, per head type, (frame, position, tier) of the history in time order. `prefix_decisions`, of the first
    chunk alone, were made while the prefix was committed. `choice` says what is recalled from here on, if that was
    chosen here. `window` are the noisy chunks that stand behind it, float32 on the CPU, where the solver leaves any.
    """

    index: int
    frames: tuple[int, int]
    position: int
    latent: Tensor
    seen: Mapping[str, tuple[tuple[int, int, str], ...]]
    decisions: tuple[Decision, ...]
    kv_bytes: int
    seconds: float
    prefix_decisions: tuple[Decision, ...] = ()
    choice: Choice | None = None
    window: Tensor | None = None
