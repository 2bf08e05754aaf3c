"""What is remembered of every chunk: its size, the work of taking one in, and of comparing with all."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from headforcing_core.rollout.recall import RecallMemory, Remembered, describe_chunk

CHUNKS = 4800  # an hour and a half at 3 frames a chunk
LAYERS, ROWS, HEAD_DIM = 3, 6, 128  # Wan 2.1
PASS = 2 * 15e12  # operations of a pass at 832x480, linear layers and attention (docs/performance.md)


def drawn(chunks: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(chunks, LAYERS, ROWS, HEAD_DIM, generator=generator)
    return list(torch.nn.functional.normalize(cells, dim=-1))


def bytes_of(remembered: Remembered) -> int:
    return sum(block.nbytes for block in remembered._blocks)


class _Copied(TorchDispatchMode):
    """Bytes that operations make anew or write."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        shared = [each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)]
        if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in shared:
            self.written += made.nbytes * (func is not torch.ops.aten.empty.memory_format)
        elif func is torch.ops.aten.copy_.default:
            self.written += made.nbytes
        return made


def test_4800_chunks_are_remembered_in_less_than_60_mb_and_each_at_the_same_price() -> None:
    remembered, prices = Remembered(), []
    for number, descriptor in enumerate(drawn(CHUNKS)):
        with _Copied() as copied:
            remembered.add(descriptor)
        if number % 100 == 99:
            prices.append(copied.written)
    assert remembered.count == CHUNKS
    assert bytes_of(remembered) < 60e6
    assert max(prices) == min(prices) == drawn(1)[0].nbytes


def test_choosing_among_4800_takes_hardly_any_of_a_pass_and_copies_no_descriptor() -> None:
    memory = RecallMemory(2, 0.2)
    for descriptor in drawn(CHUNKS):
        memory.remembered.add(descriptor)
    present = 0.9 * memory.remembered[77].unflatten(0, (LAYERS, ROWS, HEAD_DIM)) + 0.1 * drawn(1, seed=5)[0]
    with FlopCounterMode(display=False) as counter, _Copied() as copied:
        chosen, likeness = memory.choose(range(3, CHUNKS - 2), present)
    assert chosen == [77]
    assert counter.get_total_flops() <= 0.02 * PASS
    assert copied.written < 0.01 * bytes_of(memory.remembered)
    every = torch.stack(drawn(CHUNKS))[3:-2]
    expected = (every * present).sum(dim=-1).mean(dim=(1, 2))
    torch.testing.assert_close(torch.tensor(likeness), expected, atol=1e-6, rtol=0)


def test_the_descriptor_of_a_chunk_is_the_mean_of_its_frames_in_bands_of_rows() -> None:
    keys = torch.randn(3, 12 * 5, 2, 8, generator=torch.Generator().manual_seed(1))
    bands = keys.mean(dim=2).unflatten(1, (6, 2, 5)).mean(dim=(0, 2, 3))  # 12 rows of 5 tokens: 6 bands of 2
    torch.testing.assert_close(describe_chunk(keys, 12, 5), torch.nn.functional.normalize(bands, dim=-1))
