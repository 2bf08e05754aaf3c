"""Buffers of K and V: what is turned, when, and from what."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from headforcing_core.kv_memory.head_buffer import HeadBuffer
from headforcing_core.kv_memory.rope import rotate, temporal_pairs, temporal_rotation

FRAMES, TOKENS, HEADS, HEAD_DIM = 6, 3, 4, 24
TURNED = 2 * temporal_pairs(HEAD_DIM)


def in_time(asked: list[tuple[int, ...]]) -> Callable[[Sequence[int]], Tensor]:
    """What a memory gives to `turn`; notes which positions it was asked for."""

    def rotation(positions: Sequence[int]) -> Tensor:
        asked.append(tuple(positions))
        return temporal_rotation(positions, HEAD_DIM).repeat_interleave(TOKENS, dim=0)[None, :, None]

    return rotation


def filled(positions: Sequence[int], heads: Tensor | None = None) -> tuple[HeadBuffer, Tensor]:
    """A buffer whose frames stand at these positions, and their keys without a rotation in time."""
    keys = torch.randn(1, FRAMES, TOKENS, HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    buffer = HeadBuffer(heads, FRAMES, keys)
    buffer.write(0, turned(keys, positions), -keys, keys[..., :TURNED], positions)
    return buffer, keys if heads is None else keys[..., heads, :]


def turned(keys: Tensor, positions: Sequence[int]) -> Tensor:
    """The keys with their temporal pairs at these positions, frame by frame."""
    frames = [
        torch.cat((rotate(frame[..., :TURNED], temporal_rotation([at], HEAD_DIM)), frame[..., TURNED:]), dim=-1)
        for frame, at in zip(keys[0], positions, strict=True)
    ]
    return torch.stack(frames)[None]


def test_frames_that_stand_where_they_should_are_not_touched() -> None:
    buffer, keys = filled(range(FRAMES))
    asked: list[tuple[int, ...]] = []
    buffer.turn(range(FRAMES), range(FRAMES), in_time(asked))
    assert asked == []
    buffer.turn(range(FRAMES), (0, 1, 9, 10, 4, 12), in_time(asked))
    assert asked == [(9, 10), (12,)]
    buffer.turn(range(FRAMES), (0, 1, 9, 10, 4, 12), in_time(asked))
    assert len(asked) == 2
    assert torch.equal(buffer.k, turned(keys, (0, 1, 9, 10, 4, 12)))
    assert torch.equal(buffer.v, -keys)


@pytest.mark.parametrize("heads", [None, [0, 2, 3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frame_turned_a_thousand_times_is_as_if_turned_once(heads: list[int] | None, dtype: torch.dtype) -> None:
    index = None if heads is None else torch.tensor(heads)
    once, _ = filled(range(FRAMES), index)
    again, _ = filled(range(FRAMES), index)
    for buffer in (once, again):
        buffer.k, buffer.v, buffer.unturned = (place.to(dtype) for place in buffer.stored)
    for step in range(1000):
        again.turn(range(FRAMES), [step % 21 + frame for frame in range(FRAMES)], in_time([]))
    last = [999 % 21 + frame for frame in range(FRAMES)]
    once.turn(range(FRAMES), last, in_time([]))
    assert torch.equal(again.k, once.k)


def test_frames_take_their_positions_along_when_they_move() -> None:
    buffer, keys = filled(range(FRAMES))
    asked: list[tuple[int, ...]] = []
    buffer.arrange((2, 3, 4, 5))
    buffer.turn(range(4), (2, 3, 4, 5), in_time(asked))
    assert asked == []
    assert torch.equal(buffer.k[:, :4], turned(keys, range(FRAMES))[:, 2:])
    other = HeadBuffer(torch.tensor([1, 3]), FRAMES, keys)
    other.fill(buffer, (1, 3))
    assert other.positions[:2] == [3, 5]
    other.turn(range(2), (3, 4), in_time(asked))
    assert asked == [(4,)]
    assert torch.equal(other.k[:, :2], turned(keys[:, [3, 5]], (3, 4))[..., [1, 3], :])


def test_frames_are_put_in_any_order_and_read_from_any_slots() -> None:
    buffer, keys = filled(range(FRAMES))
    asked: list[tuple[int, ...]] = []
    buffer.arrange((0, 4, 5, 1, 2))
    buffer.turn((0, 1, 3), (0, 4, 9), in_time(asked))
    assert asked == [(9,)]
    k, v = buffer.read((0, 1, 3))
    assert torch.equal(k, turned(keys[:, [0, 4, 1]], (0, 4, 9)))
    assert torch.equal(v, -keys[:, [0, 4, 1]])
    assert buffer.read((1, 2, 3))[0].data_ptr() == buffer.k[:, 1].data_ptr()
