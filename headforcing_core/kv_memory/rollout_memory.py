"""What a rollout, and the model that it runs on, ask of a memory, wherever the heads of that lie."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from .memory_plan import MemoryPlan


class RolloutMemory(Protocol):
    """The history of a rollout: `KVMemory`, which says what each of these does, or what one of several ranks has."""

    @property
    def plan(self) -> MemoryPlan:
        """What is held in all, of the heads of all ranks."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups in use."""
        ...

    @property
    def kv_bytes(self) -> int:
        """Bytes of history K and V that lie here."""
        ...

    @property
    def chunk_bytes(self) -> int:
        """Bytes that lie here beside those."""
        ...

    @property
    def missed_layers(self) -> tuple[int, ...]:
        """Layers whose attention has not come by since `begin`."""
        ...

    def held(self, group: str) -> tuple[int, ...]:
        """Ids of the frames that a group holds, in time order."""
        ...

    def begin(
        self, chunk_positions: Sequence[int], history: Mapping[str, Mapping[int, int]], keeps: bool = True
    ) -> None:
        """Say what the next passes read."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Self-attention of one layer over history and chunk; its output and the rotated queries."""
        ...

    def turn_in_place(self, k: Tensor, rotation: Tensor) -> Tensor:
        """The chunk's keys as the plain model turns them."""
        ...

    def keep(self, kept: Mapping[str, Sequence[int]], chunk: Sequence[int] = ()) -> None:
        """Keep exactly these frames of the history and of the chunk."""
        ...

    def captured_keys(self, layer: int) -> Tensor:
        """The chunk's keys of all heads in a captured layer, as the last pass computed them, before any rotation."""
        ...

    def agreed(self, x: Tensor) -> Tensor:
        """What the first of all ranks has for this."""
        ...

    def release(self) -> None:
        """Drop every buffer."""
        ...
