"""Where K and V of the heads of one type lie in one layer (method.md section 3), and how K is turned to new positions
(section 5)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .rope import rotate, temporal_pairs

_WORD = torch.int64


class HeadBuffer:
    """K and V of some heads of one layer: (batch, slots, tokens per frame, heads, head_dim) each.

    K is rotated in space and in time, to the temporal position in `positions`; `unturned` has its temporal pairs
    without a rotation, (batch, slots, tokens per frame, heads, 2 * pairs).
    """

    def __init__(self, heads: Tensor | None, slots: int, like: Tensor) -> None:
        self.heads = heads  # None: every head of the layer, in order
        batch, _, tokens, all_heads, head_dim = like.shape
        count = all_heads if heads is None else len(heads)
        self.k = like.new_empty((batch, slots, tokens, count, head_dim))
        self.v = torch.empty_like(self.k)
        self.unturned = like.new_empty((batch, slots, tokens, count, 2 * temporal_pairs(head_dim)))
        self.positions: list[int | None] = [None] * slots

    def pick(self, x: Tensor) -> Tensor:
        """The heads of this buffer from a tensor of all heads, on the dimension before the last."""
        return x if self.heads is None else _in_words(x)[0].index_select(-2, self.heads).view(x.dtype)

    def put_back(self, x: Tensor, out: Tensor) -> None:
        """The opposite of `pick`: this buffer's heads to their places among all heads of `out`."""
        assert self.heads is not None
        source, target = _in_words(x, out)
        target.index_copy_(out.ndim - 2, self.heads, source)

    @property
    def stored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Everything that is kept of a frame."""
        return self.k, self.v, self.unturned

    def write(self, at: int, k: Tensor, v: Tensor, unturned: Tensor | None, positions: Sequence[int]) -> None:
        """Put frames of all heads, (batch, frames, tokens, all heads, ...) each, at a slot. Without `unturned` they can
        be read where they stand, but not be turned."""
        end = at + len(positions)
        for place, frames in zip(self.stored, (k, v, unturned), strict=True):
            if frames is not None:
                self._put(frames, place[:, at:end])
        self.positions[at:end] = positions

    def arrange(self, slots: Sequence[int]) -> None:
        """Let the first slots hold what these held. Frames that only move down are moved where they lie, of others a
        copy is made on the way."""
        if all(source >= target for target, source in enumerate(slots)):
            for source, target, frames in _moves_down(slots):
                for place in self.stored:
                    place[:, target : target + frames] = place[:, source : source + frames]
        else:
            for place in self.stored:
                place[:, : len(slots)] = torch.cat([place[:, piece] for piece in _pieces(slots)], dim=1)
        self.positions[: len(slots)] = [self.positions[slot] for slot in slots]

    def read(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """K and V of the frames in these slots, where they lie if that is one piece."""
        pieces = _pieces(slots)
        if len(pieces) == 1:
            return self.k[:, pieces[0]], self.v[:, pieces[0]]
        k, v = (torch.cat([place[:, piece] for piece in pieces], dim=1) for place in (self.k, self.v))
        return k, v

    def fill(self, other: "HeadBuffer", slots: Sequence[int]) -> None:
        """Fill the first slots from another buffer, which holds every head."""
        for target, source in enumerate(slots):
            for place, frames in zip(self.stored, other.stored, strict=True):
                self._put(frames[:, source], place[:, target])
            self.positions[target] = other.positions[source]

    def turn(self, slots: Sequence[int], positions: Sequence[int], in_time: Callable[[Sequence[int]], Tensor]) -> None:
        """Let the frames in these slots stand at these positions. `in_time` gives the rotation of frames at given
        positions, (1, frames * tokens, 1, pairs, 2, 2); frames that stand where they should are not touched."""
        for start, run in _runs(slots, positions, self.positions):
            stop = start + len(run)
            turned = rotate(self.unturned[:, start:stop].flatten(1, 2), in_time(run))
            self.k[:, start:stop, ..., : turned.shape[-1]] = turned.unflatten(1, (len(run), -1))
            self.positions[start:stop] = run

    def _put(self, x: Tensor, place: Tensor) -> None:
        """This buffer's heads of a tensor of all heads, straight to where they belong."""
        if self.heads is None or x.dtype != place.dtype:
            place.copy_(self.pick(x))
        else:
            source, target = _in_words(x, place)
            torch.index_select(source, -2, self.heads, out=target)


def _in_words(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The same memory seen as words of 8 bytes, where heads are whole words in all of it: a card picks number by
    number, and takes as long for two bytes as for eight."""
    return tuple(x.view(_WORD) for x in tensors) if all(map(_is_whole, tensors)) else tensors


def _is_whole(x: Tensor) -> bool:
    numbers = _WORD.itemsize // x.element_size()  # in a word
    places = (x.shape[-1], x.storage_offset(), *x.stride()[:-1])
    return numbers > 1 and x.stride(-1) == 1 and all(place % numbers == 0 for place in places)


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


def _pieces(slots: Sequence[int]) -> list[slice]:
    """Neighbouring slots as slices, in the order given."""
    pieces: list[slice] = []
    for slot in slots:
        if pieces and pieces[-1].stop == slot:
            pieces[-1] = slice(pieces[-1].start, slot + 1)
        else:
            pieces.append(slice(slot, slot + 1))
    return pieces


def _runs(
    slots: Sequence[int], wanted: Sequence[int], standing: Sequence[int | None]
) -> list[tuple[int, tuple[int, ...]]]:
    """Neighbouring slots that do not stand where they are wanted: (first slot, positions)."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for slot, position in zip(slots, wanted, strict=True):
        if standing[slot] == position:
            continue
        if runs and runs[-1][0] + len(runs[-1][1]) == slot:
            runs[-1] = (runs[-1][0], (*runs[-1][1], position))
        else:
            runs.append((slot, (position,)))
    return runs
