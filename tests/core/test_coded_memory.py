"""K and V in 8 bits: what is read is what the naive form of the same rounding gives, and takes as much as planned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from benchmarks.counts.counting import Counting
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.coded_buffer import code
from headforcing_core.kv_memory.memory import EVERY_HEAD, KVMemory
from headforcing_core.kv_memory.memory_plan import INT8, MODEL, FrameOfHead, MemoryPlan
from headforcing_core.kv_memory.rope import rotate, temporal_pairs, temporal_rotation

LABELS = (("memory", "local", "memory", "anchor"), ("memory",) * 4, ("anchor", "anchor", "local", "anchor"))
CAPACITY = {"local": 1, "anchor": 4, "memory": 9}
CHUNK, TOKENS, HEADS, HEAD_DIM = 3, 5, 4, 24
TURNED = 2 * temporal_pairs(HEAD_DIM)


def in_steps(x: Tensor) -> Tensor:
    """Every number as the nearest of 255 steps between plus and minus the largest of its token and head."""
    step = x.float().abs().amax(dim=-1, keepdim=True) / 127
    return (x.float() / step).round() * step


def rotation_of(tokens: int, seed: int = 3) -> Tensor:
    """A rotation of a chunk as a host gives it, (1, tokens, 1, pairs, 2, 2), of random angles."""
    angles = 6 * torch.rand((1, tokens, 1, HEAD_DIM // 2), generator=torch.Generator().manual_seed(seed))
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))


def in_time(x: Tensor, position: int) -> Tensor:
    """The temporal pairs of one frame's keys (tokens, head_dim), turned to a position."""
    turned = rotate(x[..., :TURNED], temporal_rotation([position], HEAD_DIM))
    return torch.cat((turned, x[..., TURNED:]), dim=-1)


@dataclass
class Naive:
    """All that was ever kept, rounded when it was: (layer, frame) to K, turned in space alone, and V."""

    kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, own: Sequence[int], read: Mapping[str, Mapping[int, int]]
    ) -> Tensor:
        """q, k, v: (tokens, heads, head_dim), turned in space. `own` are the positions of the chunk's frames."""
        out = torch.empty_like(q)
        for head in range(HEADS):
            group = LABELS[layer][head] if EVERY_HEAD not in read else EVERY_HEAD
            old = [(*self.kept[layer, frame], at) for frame, at in read[group].items()]
            new = [*zip(k.split(TOKENS), v.split(TOKENS), own, strict=True)]
            keys = torch.cat([in_time(frame[:, head], at) for frame, _, at in (*old, *new)])
            values = torch.cat([frame[:, head] for _, frame, _ in (*old, *new)])
            queries = torch.cat([in_time(x[:, head], at) for x, at in zip(q.split(TOKENS), own, strict=True)])
            out[:, head] = torch.softmax(queries @ keys.T / HEAD_DIM**0.5, dim=1) @ values
        return out

    def keep(self, layer: int, frames: Sequence[int], k: Tensor, v: Tensor) -> None:
        for frame, keys, values in zip(frames, k.split(TOKENS), v.split(TOKENS), strict=True):
            self.kept[layer, frame] = in_steps(keys), in_steps(values)


@dataclass
class Pair:
    """A memory and its naive form, which go through the same."""

    memory: KVMemory
    naive: Naive = field(default_factory=Naive)
    rotation: Tensor = field(default_factory=lambda: rotation_of(CHUNK * TOKENS))
    seed: int = 0

    def go(self, frames: range, at: int, read: Mapping[str, Mapping[int, int]], keeps: bool) -> float:
        """One pass of a chunk; the greatest difference between the two outputs."""
        own, worst = range(at, at + len(frames)), 0.0
        self.memory.begin(own, read, keeps)
        for layer in range(len(LABELS)):
            self.seed += 1
            generator = torch.Generator().manual_seed(self.seed)
            q, k, v = (torch.randn((1, CHUNK * TOKENS, HEADS, HEAD_DIM), generator=generator) for _ in range(3))
            seen, _ = self.memory.attend(layer, q, k, v, self.rotation)
            in_space = self.rotation.clone()
            in_space[..., : TURNED // 2, :, :] = torch.eye(2)
            q, k, v = rotate(q, in_space)[0], rotate(k, in_space)[0], v[0]
            expected = self.naive.attend(layer, q, k, v, own, read)
            worst = max(worst, (seen[0].unflatten(-1, (HEADS, HEAD_DIM)) - expected).abs().max().item())
            if keeps:
                self.naive.keep(layer, frames, k, v)
        return worst


def planned(precision: str, labels: Sequence[Sequence[str]] = LABELS) -> MemoryPlan:
    return MemoryPlan(labels, CAPACITY, 2 * CHUNK, CHUNK, precision=precision)


def a_film(memory: KVMemory) -> list[float]:
    """Warm-up, its end, frames that move, leave, come in between others, are left out for a pass, and are committed
    again; the difference from the naive form of every pass."""
    pair, every = Pair(memory), EVERY_HEAD
    found = [pair.go(range(3), 0, {every: {}}, keeps=True)]
    memory.keep({every: range(3)}, range(3))
    found.append(pair.go(range(3, 6), 3, {every: {0: 0, 1: 1, 2: 2}}, keeps=False))
    found.append(pair.go(range(3, 6), 3, {every: {0: 0, 1: 1, 2: 2}}, keeps=True))
    memory.keep({every: range(6)}, range(3, 6))
    found.append(pair.go(range(6, 9), 6, {every: dict(zip(range(6), range(6), strict=True))}, keeps=True))
    memory.keep({"local": (8,), "anchor": (0, 1, 2, 8), "memory": (0, 1, 2, 4, 5, 6, 7, 8)}, range(6, 9))
    read = {"local": {8: 17}, "anchor": {0: 14, 1: 15, 2: 16, 8: 17}}
    found.append(pair.go(range(9, 12), 18, {**read, "memory": {0: 10, 1: 11, 2: 12, 4: 13, 8: 17}}, keeps=False))
    found.append(pair.go(range(9, 12), 18, {"local": {}, "anchor": {8: 17}, "memory": {7: 16, 8: 17}}, keeps=True))
    memory.keep({"local": (11,), "anchor": (0, 1, 2, 11), "memory": (0, 1, 2, 7, 8, 9, 10, 11)}, range(9, 12))
    read = {"local": {11: 17}, "anchor": {0: 14, 1: 15, 2: 16, 11: 17}}
    held = {0: 10, 1: 11, 2: 12, 7: 13, 8: 14, 9: 15, 10: 16, 11: 17}
    found.append(pair.go(range(12, 15), 18, {**read, "memory": held}, keeps=True))
    found.append(pair.go(range(3, 6), 5, {"local": {}, "anchor": {0: 2}, "memory": {0: 2, 1: 3, 2: 4}}, keeps=True))
    memory.keep({"local": (11,), "anchor": (0, 1, 2, 11), "memory": (0, 1, 2, 3, 4, 5, 9, 10, 11)}, range(3, 6))
    held = {0: 9, 1: 10, 2: 11, 3: 12, 4: 13, 5: 14, 9: 15, 10: 16, 11: 17}
    found.append(pair.go(range(12, 15), 18, {**read, "memory": held}, keeps=False))
    return found


def test_attention_reads_what_the_naive_form_of_the_same_rounding_gives() -> None:
    assert max(a_film(KVMemory(planned(INT8), dense_attention, rotate))) < 5e-6


def test_what_is_not_rounded_is_told_apart_from_what_is() -> None:
    """The check above can fail: after the first chunk, numbers that were not rounded are 500 times as far away."""
    assert min(a_film(KVMemory(planned(MODEL), dense_attention, rotate))[1:]) > 2.5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_is_half_a_254th_of_the_largest_number_away_at_most(dtype: torch.dtype) -> None:
    x = torch.randn((2, 50, 4, 128), generator=torch.Generator().manual_seed(1)).to(dtype)
    x[0, 0], x[0, 1], x[0, 2, 0] = 0.0, x[0, 1] * 1e-4, x[0, 2, 0] * 1e4
    codes, scales = code(x)
    assert codes.dtype == torch.int8 and scales.shape == (2, 50, 4, 1)
    assert codes.abs().amax(dim=-1).eq(127).sum() == 2 * 50 * 4 - 4  # a token of zeros has none
    largest = x.float().abs().amax(dim=-1, keepdim=True)
    assert ((codes * scales - x.float()).abs() <= largest / 253.9).all()
    assert (codes * scales)[0, 0].eq(0).all()


def test_nothing_adds_up_when_frames_move_and_turn() -> None:
    memory = KVMemory(planned(INT8), dense_attention, rotate)
    pair = Pair(memory)
    pair.go(range(3), 0, {EVERY_HEAD: {}}, keeps=True)
    memory.keep({EVERY_HEAD: range(3)}, range(3))
    for step in range(50):
        worst = pair.go(range(3, 6), 15 - step % 7, {EVERY_HEAD: {0: step % 12, 1: step % 5, 2: 14}}, keeps=False)
        assert worst < 5e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("labels", [LABELS, (("memory",) * 4,) * 3])
def test_it_takes_what_was_planned_and_half_of_what_the_model_s_type_takes(
    dtype: torch.dtype, labels: Sequence[Sequence[str]]
) -> None:
    taken: dict[str, int] = {}
    for precision in (MODEL, INT8):
        memory = KVMemory(planned(precision, labels), dense_attention, rotate)
        k = torch.randn((1, CHUNK * TOKENS, HEADS, HEAD_DIM)).to(dtype)
        memory.begin(range(3), {EVERY_HEAD: {}})
        for layer in range(len(labels)):
            memory.attend(layer, k, k, k, rotation_of(CHUNK * TOKENS))
        used = {label for layer in labels for label in layer}
        memory.keep({group: (0,) for group in ("local", "anchor", "memory") if group in used}, range(3))
        taken[precision] = memory.kv_bytes
        frames = sum(CAPACITY[label] for layer in labels for label in layer)
        frame = FrameOfHead(TOKENS, HEAD_DIM, dtype.itemsize)
        assert memory.kv_bytes == frames * frame.kv_bytes(precision)
        assert memory.kv_bytes + memory.chunk_bytes <= memory.plan.expected_bytes(frame)
    assert taken[INT8] / taken[MODEL] == (HEAD_DIM + 4) / (HEAD_DIM * dtype.itemsize)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("labels", [LABELS, LABELS[1:], (("memory",) * 4,) * 3])
def test_where_warm_up_ends_only_one_layer_lies_there_twice(
    dtype: torch.dtype, labels: Sequence[Sequence[str]]
) -> None:
    """What the groups read in is not yet there."""
    plan, used = planned(INT8, labels), {label for layer in labels for label in layer}
    k = torch.empty((1, CHUNK * TOKENS, HEADS, HEAD_DIM), dtype=dtype, device="meta")
    memory = KVMemory(plan, dense_attention, rotate)
    with Counting() as counting, counting.within("here", "ours"):
        memory.begin(range(3), {EVERY_HEAD: {}})
        for layer in range(len(labels)):
            memory.attend(layer, k, k, k, rotation_of(CHUNK * TOKENS).to("meta"))
        before = counting.alive
        counting.begin()
        memory.keep({group: (0,) for group in CAPACITY if group in used}, range(3))
        frame = FrameOfHead(TOKENS, HEAD_DIM, dtype.itemsize).kv_bytes(INT8)
        layers = [frame * sum(CAPACITY[label] + CHUNK for label in layer) for layer in labels]
        whole = frame * HEADS * (plan.warm_up_frames + CHUNK)
        most = max(sum(layers[: n + 1]) - n * whole for n in range(len(labels)))
        assert before < counting.most_alive <= before + most + 1000
