"""K and V of the heads of one type in one layer, in 8 bits a number: codes with a scale for each token and head.

K is coded with its rotation in space and without that in time, and turned whenever it is read. So nothing adds up when
positions change, and no second copy of its temporal pairs is needed. A layer's past is raised to the model's type where
all layers do, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .frame_slots import FrameSlots, InTime, as_read, runs
from .rope import rotate_in_place, temporal_pairs

LARGEST = 127
SCALE_BYTES = 4
_AT_ONCE = 8  # frames that are raised together, of whose K a third lies in float32 meanwhile


def code(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, int8, and scales, float32 (..., 1), of numbers (..., head_dim): the nearest of 255 steps between plus and
    minus the largest of them."""
    numbers = x.float()
    scales = numbers.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    return (numbers / scales).round_().to(torch.int8), scales


class Workspace:
    """Where the layers of one group read, one after the other: K and V of all slots in the model's type. It is there
    from the first use on: at the end of warm-up the groups that begin would lie beside the one that ends."""

    def __init__(self, like: Tensor, slots: int, most_heads: int) -> None:
        batch, _, tokens, _, head_dim = like.shape
        self._shape = (batch, slots, tokens)
        self._head_dim = head_dim
        self._most = batch * slots * tokens * most_heads * head_dim
        self._numbers = like.new_empty((2, 0))

    @property
    def nbytes(self) -> int:
        """Bytes of it, once it is there."""
        return 2 * self._most * self._numbers.itemsize

    def kv(self, heads: int) -> tuple[Tensor, Tensor]:
        """Places for K and V of a layer that has so many heads in this group."""
        if self._numbers.shape[1] < self._most:
            self._numbers = self._numbers.new_empty((2, self._most))
        shape = (*self._shape, heads, self._head_dim)
        k, v = (each[: torch.Size(shape).numel()].view(shape) for each in self._numbers)
        return k, v


class CodedBuffer(FrameSlots):
    """K and V of some heads of one layer, `k` and `v` in codes, their two `scales` beside them. What is read, and the
    chunk while it is made, lies in the workspace. A single head that is `one_of_several`, whose others lie elsewhere,
    comes out as it would among them."""

    def __init__(
        self, heads: Tensor | None, slots: int, like: Tensor, workspace: Workspace, one_of_several: bool
    ) -> None:
        self.heads = heads
        batch, _, tokens, all_heads, head_dim = like.shape
        count = all_heads if heads is None else len(heads)
        self.k = like.new_empty((batch, slots, tokens, count, head_dim), dtype=torch.int8)
        self.v = torch.empty_like(self.k)
        self.scales = like.new_empty((batch, slots, tokens, count, 2), dtype=torch.float32)
        self._workspace = workspace
        self._twice = count == 1 and one_of_several
        self._chunk_at = 0

    @property
    def stored(self) -> tuple[Tensor, ...]:
        return self.k, self.v, self.scales

    @property
    def like(self) -> Tensor:
        return self._raised[0]

    @property
    def frame_bytes(self) -> int:
        return sum(place.nbytes for place in self.stored) // self.slots

    @property
    def beside_bytes(self) -> int:
        return 0

    def write(self, at: int, k: Tensor, v: Tensor, unturned: Tensor | None, positions: Sequence[int]) -> None:
        self._chunk_at, own = at, slice(at, at + len(positions))
        places = [place[:, own] for place in self._raised]
        for frames, place in zip((k, v), places, strict=True):
            self.put(frames, place)
        if unturned is None:
            return
        turned, values = places
        keys = torch.cat((self.pick(unturned), turned[..., unturned.shape[-1] :]), dim=-1)
        for which, (numbers, codes) in enumerate(((keys, self.k), (values, self.v))):
            codes[:, own], self.scales[:, own, ..., which : which + 1] = code(numbers)

    def read(self, slots: Sequence[int], positions: Sequence[int], in_time: InTime) -> tuple[Tensor, Tensor]:
        places = zip(slots, positions, strict=True)
        for start, run in runs(((slot, at) for slot, at in places if slot < self._chunk_at), _AT_ONCE):
            self._raise(slice(start, start + len(run)), in_time(run))
        k, v = self._raised
        return as_read(k, slots), as_read(v, slots)

    @property
    def _raised(self) -> tuple[Tensor, Tensor]:
        return self._workspace.kv(self.k.shape[3])

    def _raise(self, own: slice, in_time: Tensor) -> None:
        k, v = (place[:, own] for place in self._raised)
        k_scale, v_scale = self.scales[:, own].split(1, dim=-1)
        torch.mul(self.v[:, own], v_scale, out=v)
        turned = 2 * temporal_pairs(k.shape[-1])
        codes = self.k[:, own]
        torch.mul(codes[..., turned:], k_scale, out=k[..., turned:])
        pairs = codes[..., :turned] * k_scale
        if self._twice:  # a processor turns the pairs of one head by itself in longer runs, to other last bits
            pairs = torch.cat((pairs, pairs), dim=3)
        rotate_in_place(pairs.flatten(1, 2), in_time)
        k[..., :turned] = pairs[..., : k.shape[3], :]
