"""Buffers of K and V: what is turned, when, and from what."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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


def test_frames_that_are_put_into_another_buffer_stand_where_they_stood() -> None:
    """In 16 bits a key that the model turned is not the one that is turned of what is kept: none is turned for it."""
    buffer, keys = filled((4, 9, 10, 11, 12, 13))
    other, asked = HeadBuffer(None, FRAMES, keys), []
    other.put_in(buffer.taken(3))
    assert other.positions[:3] == [4, 9, 10]
    other.turn(range(3), (4, 9, 10), in_time(asked))
    assert asked == []
    assert torch.equal(other.k[:, :3], buffer.k[:, :3])


def test_frames_are_put_in_any_order_and_read_from_any_slots() -> None:
    buffer, keys = filled(range(FRAMES))
    asked: list[tuple[int, ...]] = []
    buffer.arrange((0, 4, 5, 1, 2))
    k, v = buffer.read((0, 1, 3), (0, 4, 9), in_time(asked))
    assert asked == [(9,)]
    assert torch.equal(k, turned(keys[:, [0, 4, 1]], (0, 4, 9)).flatten(3).flatten(1, 2))
    assert torch.equal(v, -keys[:, [0, 4, 1]].flatten(3).flatten(1, 2))
    assert buffer.read((1, 2, 3), (4, 5, 9), in_time([]))[0].data_ptr() == buffer.k[:, 1].data_ptr()


@pytest.mark.parametrize("heads", [None, [0, 2]])
def test_pass_after_pass_each_chunk_is_read_where_it_was_written(heads: list[int] | None) -> None:
    """At the same slots as before, at others, in several pieces, and after frames have moved."""
    index = None if heads is None else torch.tensor(heads)
    buffer, _ = filled(range(FRAMES), index)
    last = torch.zeros(0)
    for number, (at, slots) in enumerate(
        [(2, (0, 1, 2, 3)), (2, (0, 1, 2, 3)), (4, (2, 3, 4, 5)), (4, (0, 4, 5)), (4, (1, 4, 5)), (2, (0, 1, 2, 3))]
    ):
        frames = torch.randn(1, 2, TOKENS, HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(number))
        buffer.write(at, frames, -frames, None, (at, at + 1))
        k, v = buffer.read(slots, slots, in_time([]))
        own = (frames if heads is None else frames[..., heads, :]).flatten(3).flatten(1, 2)
        assert torch.equal(k[:, -2 * TOKENS :], own) and torch.equal(v[:, -2 * TOKENS :], -own)
        assert k.shape[1] == TOKENS * len(slots)
        assert torch.equal(k[:, :TOKENS], buffer.k[:, slots[0]].flatten(2))
        last = k
    buffer.arrange((2, 3))
    assert torch.equal(buffer.read((0, 1), (2, 3), in_time([]))[0], last[:, -2 * TOKENS :])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("head_dim", [128, 24, 20, 22, 14])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", ["plain", "shifted", "across"])
def test_heads_are_picked_and_put_back_to_the_bit(dtype: torch.dtype, head_dim: int, batch: int, layout: str) -> None:
    """Whole words of 8 bytes or not: what lies where is what plain indexing gives, NaN and -0 included."""
    shape = (batch, 3, TOKENS, 6, head_dim)
    generator = torch.Generator().manual_seed(1)
    k, v, plain = (laid(torch.randn(shape, generator=generator).to(dtype), layout) for _ in range(3))
    for x in (k, v, plain):
        x[0, 0, 0, 0, 0], x[0, 1, 1, 1, 1] = float("nan"), -0.0
    unturned = plain[..., : 2 * temporal_pairs(head_dim)]
    for heads in ([0], [1, 3, 4], [0, 1, 2, 3, 4, 5]):
        buffer = HeadBuffer(torch.tensor(heads), 7, k)
        whole = HeadBuffer(None, 7, k)
        for each in (buffer, whole):
            for place in each.stored:
                place.zero_()
            each.write(2, k, v, unturned, (4, 5, 6))
        for place, frames in zip(buffer.stored, (k, v, unturned), strict=True):
            assert same_bits(place[:, 2:5], frames[..., heads, :])
            assert not place[:, :2].any() and not place[:, 5:].any()
        again = HeadBuffer(torch.tensor(heads), 3, k)
        again.fill(whole, (2, 3, 4))
        assert all(same_bits(here, there[:, 2:5]) for here, there in zip(again.stored, buffer.stored, strict=True))
        picked, out = buffer.pick(k), torch.zeros_like(k)
        assert same_bits(picked, k[..., heads, :])
        assert picked.is_contiguous()
        buffer.put_back(laid(picked, layout), out)
        assert same_bits(out[..., heads, :], k[..., heads, :])
        others = [head for head in range(6) if head not in heads]
        assert not out[..., others, :].any()


def test_what_comes_in_another_type_is_stored_in_the_buffers_own() -> None:
    like = torch.zeros(1, 1, TOKENS, HEADS, HEAD_DIM, dtype=torch.bfloat16)
    buffer = HeadBuffer(torch.tensor([1, 3]), 1, like)
    v = torch.randn(like.shape, generator=torch.Generator().manual_seed(2))
    buffer.write(0, like, v, like[..., :TURNED], (0,))
    assert torch.equal(buffer.v, v[..., [1, 3], :].bfloat16())


@pytest.mark.parametrize("heads", [None, [0, 2]])
def test_without_what_is_kept_only_k_and_v_are_written(heads: list[int] | None) -> None:
    index = None if heads is None else torch.tensor(heads)
    buffer, _ = filled(range(FRAMES), index)
    before = buffer.unturned.clone()
    frames = torch.ones(1, 2, TOKENS, HEADS, HEAD_DIM)
    buffer.write(1, frames, 2 * frames, None, (8, 9))
    assert torch.equal(buffer.unturned, before)
    assert (buffer.k[:, 1:3] == 1).all() and (buffer.v[:, 1:3] == 2).all()
    assert buffer.positions == [0, 8, 9, 3, 4, 5]


def test_heads_of_the_real_size_move_as_words_and_straight_into_place() -> None:
    """What a card would otherwise move number by number, and once more into the buffer."""

    class Moved(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket.__name__ in ("index_select", "index_copy_", "copy_", "clone"):
                moved.append((str(function), args[0].dtype))
            return function(*args, **(kwargs or {}))

    moved: list[tuple[str, torch.dtype]] = []
    k = torch.zeros(1, 3, 10, 12, 128, dtype=torch.bfloat16)
    buffer = HeadBuffer(torch.tensor([0, 5]), 6, k)
    with torch.inference_mode(), Moved():
        buffer.write(3, k, k, k[..., :44], (0, 1, 2))
        buffer.put_back(buffer.pick(k), torch.empty_like(k))
    names = [*["aten.index_select.out"] * 3, "aten.index_select.default", "aten.index_copy_.default"]
    assert moved == [(name, torch.int64) for name in names]


def laid(x: Tensor, layout: str) -> Tensor:
    """The same numbers, as they lie; one number away from where they would lie; or with another dimension innermost."""
    if layout == "shifted":
        return x.new_empty(x.numel() + 1)[1:].view(x.shape).copy_(x)
    return x.transpose(-1, -2).contiguous().transpose(-1, -2) if layout == "across" else x


def same_bits(x: Tensor, y: Tensor) -> bool:
    """Whether NaN and the sign of 0 are the same too."""
    return x.shape == y.shape and torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))
