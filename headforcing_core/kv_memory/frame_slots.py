"""Frames of some heads of one layer in slots: how heads are picked from all of a layer, and how frames move."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_WORD = torch.int64

InTime = Callable[[Sequence[int]], Tensor]
"""(positions) -> rotation of the temporal pairs of frames there, float32 (1, frames * tokens, 1, pairs, 2, 2)."""


@dataclass(frozen=True)
class HeldFrames:
    """What was `stored` of frames, in main memory, with the `positions` that keys were turned to, where they were."""

    stored: tuple[Tensor, ...]
    positions: tuple[int | None, ...] = ()


class FrameSlots(ABC):
    """What is kept of frames, in slots: `heads` are theirs among those of the layer, None for every head in order."""

    heads: Tensor | None

    @property
    @abstractmethod
    def stored(self) -> tuple[Tensor, ...]:
        """Everything that is kept of a frame: (batch, slots, tokens per frame, heads, numbers) each."""

    @property
    def slots(self) -> int:
        """Frames that there is room for."""
        return self.stored[0].shape[1]

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """Frames of these heads in the model's type, whatever they hold: (batch, slots, tokens, heads, head_dim)."""

    @property
    @abstractmethod
    def frame_bytes(self) -> int:
        """Bytes of K and V of one frame."""

    @property
    @abstractmethod
    def beside_bytes(self) -> int:
        """Bytes of what is kept beside K and V."""

    @abstractmethod
    def write(self, at: int, k: Tensor, v: Tensor, unturned: Tensor | None, positions: Sequence[int]) -> None:
        """Put the chunk's frames of all heads, (batch, frames, tokens, all heads, head_dim), at a slot: K turned to
        these positions, and `unturned`, its temporal pairs before that. Without those the chunk can be read until the
        next one comes, and not be kept."""

    @abstractmethod
    def read(self, slots: Sequence[int], positions: Sequence[int], in_time: InTime) -> tuple[Tensor, Tensor]:
        """K, turned to these positions, and V of the frames in these slots, as attention reads them, where they lie if
        that is one piece: (batch, frames * tokens, heads * head_dim)."""

    def pick(self, x: Tensor) -> Tensor:
        """The heads of this buffer from a tensor of all heads, on the dimension before the last."""
        return x if self.heads is None else pick_heads(x, self.heads)

    def put_back(self, x: Tensor, out: Tensor) -> None:
        """The opposite of `pick`: this buffer's heads to their places among all heads of `out`."""
        assert self.heads is not None
        put_heads_back(x, self.heads, out)

    def arrange(self, slots: Sequence[int]) -> None:
        """Let the first slots hold what these held. Frames that only move down are moved where they lie, of others a
        copy is made on the way."""
        if all(source >= target for target, source in enumerate(slots)):
            for source, target, frames in _moves_down(slots):
                for place in self.stored:
                    place[:, target : target + frames] = place[:, source : source + frames]
        else:
            for place in self.stored:
                place[:, : len(slots)] = pieces_of(place, slots)

    def fill(self, other: "FrameSlots", slots: Sequence[int]) -> None:
        """Fill the first slots from another buffer of the same kind, which holds every head."""
        for target, source in enumerate(slots):
            for place, frames in zip(self.stored, other.stored, strict=True):
                self.put(frames[:, source], place[:, target])

    def bytes_of(self, frames: int) -> int:
        """Bytes of all that is kept of so many frames."""
        return frames * sum(place.nbytes for place in self.stored) // self.slots

    def taken(self, frames: int) -> HeldFrames:
        """What the first so many slots hold, as it lies there, for another buffer of the same kind and heads."""
        return HeldFrames(tuple(place[:, :frames].to("cpu", copy=True) for place in self.stored))

    def put_in(self, held: HeldFrames) -> None:
        """Let the first slots hold what those of another buffer held."""
        for place, frames in zip(self.stored, held.stored, strict=True):
            place[:, : frames.shape[1]] = frames

    def put(self, x: Tensor, place: Tensor) -> None:
        """This buffer's heads of a tensor of all heads, straight to where they belong."""
        if self.heads is None or x.dtype != place.dtype:
            place.copy_(self.pick(x))
        else:
            source, target = _in_words(x, place)
            torch.index_select(source, -2, self.heads, out=target)


def pick_heads(x: Tensor, heads: Tensor) -> Tensor:
    """These heads from a tensor of all heads, on the dimension before the last."""
    return _in_words(x)[0].index_select(-2, heads).view(x.dtype)


def put_heads_back(x: Tensor, heads: Tensor, out: Tensor) -> None:
    """The opposite of `pick_heads`: heads to these places among all heads of `out`."""
    source, target = _in_words(x, out)
    target.index_copy_(out.ndim - 2, heads, source)


def pieces_of(place: Tensor, slots: Sequence[int]) -> Tensor:
    """What lies in these slots, where it lies if that is one piece."""
    pieces = neighbours(tuple(slots))
    return place[:, pieces[0]] if len(pieces) == 1 else torch.cat([place[:, piece] for piece in pieces], dim=1)


def as_read(place: Tensor, slots: Sequence[int]) -> Tensor:
    """The same as attention reads it: (batch, frames * tokens, heads * numbers)."""
    return pieces_of(place, slots).flatten(3).flatten(1, 2)


def _in_words(*tensors: Tensor) -> list[Tensor]:
    """The same memory seen as words of 8 bytes, where heads are whole words in all of it: a card picks number by
    number, and takes as long for two bytes as for eight."""
    try:
        return [x.view(_WORD) for x in tensors]
    except RuntimeError:  # as PyTorch says where a number would lie across two words
        return [*tensors]


def _moves_down(slots: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of frames to move down so that slot i holds what `slots[i]` held: (source, target, frames).

    Example: of ten slots 0, 1, 2, 5, 8, 9 are kept. The first three are in place; 5 moves to 3, then 8 and 9 together
    to 4 and 5. A run is no longer than its shift, so it never overlaps its target: 3, 4, 5, 6 move as three and one.
    """
    moves: list[tuple[int, int, int]] = []
    for target, source in enumerate(slots):
        if source == target:
            continue
        if moves:
            last_source, last_target, frames = moves[-1]
            shift = last_source - last_target
            follows = source == last_source + frames and target == last_target + frames
            if follows and frames < shift:
                moves[-1] = (last_source, last_target, frames + 1)
                continue
        moves.append((source, target, 1))
    return moves


def runs(places: Iterable[tuple[int, int]], most: int | None = None) -> list[tuple[int, tuple[int, ...]]]:
    """Neighbouring slots of these (slot, position) together, so many at most: (first slot, positions)."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for slot, position in places:
        first, positions = found[-1] if found else (slot, ())
        if positions and slot == first + len(positions) and len(positions) != most:
            found[-1] = (first, (*positions, position))
        else:
            found.append((slot, (position,)))
    return found


@lru_cache
def neighbours(slots: tuple[int, ...]) -> tuple[slice, ...]:
    """Neighbouring slots as slices, in the order given."""
    pieces: list[slice] = []
    for slot in slots:
        if pieces and pieces[-1].stop == slot:
            pieces[-1] = slice(pieces[-1].start, slot + 1)
        else:
            pieces.append(slice(slot, slot + 1))
    return tuple(pieces)
