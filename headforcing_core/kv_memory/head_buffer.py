"""Where K and V of the heads of one type lie in one layer (method.md section 3), and how K is turned to new positions
(section 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .frame_slots import FrameSlots, HeldFrames, InTime, as_read, neighbours, runs
from .rope import rotate, temporal_pairs


class HeadBuffer(FrameSlots):
    """K and V of some heads of one layer as the model computes them.

    K is rotated in space and in time, to the temporal position in `positions`; `unturned` has its temporal pairs
    without a rotation, (batch, slots, tokens per frame, heads, 2 * pairs).
    """

    def __init__(self, heads: Tensor | None, slots: int, like: Tensor) -> None:
        self.heads = heads
        batch, _, tokens, all_heads, head_dim = like.shape
        count = all_heads if heads is None else len(heads)
        self.k = like.new_empty((batch, slots, tokens, count, head_dim))
        self.v = torch.empty_like(self.k)
        self.unturned = like.new_empty((batch, slots, tokens, count, 2 * temporal_pairs(head_dim)))
        self.positions: list[int | None] = [None] * slots
        # where the last chunk was written and what was read with it: the same at each of its passes
        self._own, self._places = slice(0, 0), self.stored
        self._slots: Sequence[int] = ()
        self._lying = (self.k, self.v)

    @property
    def stored(self) -> tuple[Tensor, ...]:
        return self.k, self.v, self.unturned

    @property
    def like(self) -> Tensor:
        return self.k

    @property
    def frame_bytes(self) -> int:
        return 2 * self.k.nbytes // self.k.shape[1]

    @property
    def beside_bytes(self) -> int:
        return self.unturned.nbytes

    def write(self, at: int, k: Tensor, v: Tensor, unturned: Tensor | None, positions: Sequence[int]) -> None:
        own = slice(at, at + len(positions))
        if own != self._own:
            self._own, self._places = own, tuple(place[:, own] for place in self.stored)
        for place, frames in zip(self._places, (k, v, unturned), strict=True):
            if frames is not None:
                self.put(frames, place)
        self.positions[own] = positions

    def read(self, slots: Sequence[int], positions: Sequence[int], in_time: InTime) -> tuple[Tensor, Tensor]:
        self.turn(slots, positions, in_time)
        if slots != self._slots:
            found = as_read(self.k, slots), as_read(self.v, slots)
            if len(neighbours(tuple(slots))) > 1:
                return found
            self._slots, self._lying = slots, found
        return self._lying

    def arrange(self, slots: Sequence[int]) -> None:
        super().arrange(slots)
        self.positions[: len(slots)] = [self.positions[slot] for slot in slots]

    def fill(self, other: FrameSlots, slots: Sequence[int]) -> None:
        assert isinstance(other, HeadBuffer)
        super().fill(other, slots)
        self.positions[: len(slots)] = [other.positions[slot] for slot in slots]

    def taken(self, frames: int) -> HeldFrames:
        return HeldFrames(super().taken(frames).stored, tuple(self.positions[:frames]))

    def put_in(self, held: HeldFrames) -> None:
        super().put_in(held)
        self.positions[: len(held.positions)] = held.positions

    def turn(self, slots: Sequence[int], positions: Sequence[int], in_time: InTime) -> None:
        """Let the frames in these slots stand at these positions; those that do are not touched."""
        places = zip(slots, positions, strict=True)
        for start, run in runs((slot, at) for slot, at in places if self.positions[slot] != at):
            stop = start + len(run)
            turned = rotate(self.unturned[:, start:stop].flatten(1, 2), in_time(run))
            self.k[:, start:stop, ..., : turned.shape[-1]] = turned.unflatten(1, (len(run), -1))
            self.positions[start:stop] = run
