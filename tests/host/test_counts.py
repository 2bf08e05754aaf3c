"""The benchmark that counts at full size, here at a size that can be counted by hand."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from benchmarks.card.arithmetic import GIGA, Task
from benchmarks.counts.count import COMMIT, FIRST, KEEP, LATER, PARTS, STEADY, WARM_UP, Counts, count
from benchmarks.counts.counting import ATTENTION, Counting, gigabytes
from benchmarks.counts.decoder import decoder_rows
from benchmarks.counts.on_meta import META, TEXT_DIM, TEXT_TOKENS, MetaStage
from benchmarks.shared.host_process import model_shape
from benchmarks.shared.stage import FOUR_STEPS, Size

LABELS = (("memory", "local", "memory", "anchor"), ("memory",) * 4)
SIZE = Size(64, 64)
ROWS, BYTES = 3 * 16, 2  # tokens of a chunk; of a number
WIDTH = 4 * 128 * BYTES * ROWS  # bytes of q, k or v of a chunk in a layer
TABLE = 64 * 4 * 4 * ROWS  # bytes of its rotation
TASK = Task(model_shape(2, 4), LABELS, SIZE.tokens, TEXT_TOKENS, TEXT_DIM)


Count = Callable[[str], Counts]


@pytest.fixture(scope="module")
def counted(pack) -> Count:
    """Counts of one chunk of a policy, once a module."""
    stage = MetaStage(pack.module("nodes.host.backbone"), LABELS, SIZE, FOUR_STEPS)
    return cache(lambda policy: count(stage, policy, 1))


def kinds(counts: Counts, part: str) -> dict[str, int]:
    names = [kernel.name for kernel in counts.kernels(part, "ours")[0]]
    return {name: names.count(name) for name in names}


def test_each_part_of_a_chunk_has_the_kernels_and_bytes_that_a_hand_counts(counted: Count) -> None:
    paper, uniform = counted("paper"), counted("uniform_21")
    later = {"cat": 1, "rotation": 4, "index_select": 9, "copy_": 2, ATTENTION: 4, "index_copy_": 3}
    assert kinds(paper, LATER) == later
    # what turns keys anew is written by the commit pass alone, for which the chunk's own rotation is made again
    assert kinds(paper, COMMIT) == later | {"index_select": 12, "copy_": 3, "repeat_interleave": 1}
    turned = {"mul": 2 * 4, "add": 4, "copy_": 2 + 4}
    assert kinds(paper, FIRST).items() >= (later | turned).items()
    assert kinds(paper, KEEP).keys() == {"copy_"}
    moved = gigabytes(paper.kernels(LATER, "ours")[0]) * GIGA
    assert moved == pytest.approx(4 * (2 * WIDTH + TABLE) + (6 + 2 + 4) * WIDTH + 2 * TABLE)
    assert kinds(uniform, LATER) == {"cat": 1, "rotation": 4, "copy_": 4, ATTENTION: 2}
    for policy in (paper, uniform):
        passes = [policy.kernels(part)[0] for part in (FIRST, LATER, LATER, LATER, COMMIT, KEEP)]
        assert sum(map(len, passes)) == len(policy.chunk()[0])
        work = TASK.work(policy.policy)
        for part in passes[:-1]:
            attention = sum(kernel.flop for kernel in part if kernel.name == ATTENTION)
            assert attention == work.attention
            assert sum(kernel.flop for kernel in part) - attention == pytest.approx(sum(work.linear.values()), rel=0.01)


def test_the_bytes_of_a_memory_are_those_of_the_formulas(counted: Count) -> None:
    for policy in ("paper", "low_vram"):
        counts = counted(policy)
        warm_up, steady = counts.bytes[WARM_UP], counts.bytes[STEADY]
        assert warm_up.history + warm_up.beside == TASK.warm_up_bytes(policy, BYTES)
        assert (steady.history, steady.beside) == (TASK.kv_bytes(policy, BYTES), TASK.beside_bytes(policy, BYTES))
        for found in (warm_up, steady):
            assert found.history + found.beside < found.alive


def test_what_is_recalled_costs_what_is_held_otherwise(counted: Count) -> None:
    paper, recall = counted("paper"), counted("recall")
    for part in PARTS[1:3]:
        assert kinds(recall, part) == kinds(paper, part)
    assert recall.bytes[STEADY].history == paper.bytes[STEADY].history


def test_the_decoder_of_wan_takes_2_9_gigabytes(pack) -> None:
    first, later = decoder_rows(Size(832, 480), 96)
    assert first["held GB"] == later["held GB"] == pytest.approx(1.889, abs=5e-4)
    assert float(later["held GB"]) < float(later["most alive GB"]) < 2.9
    assert later["TFLOP"] == pytest.approx(40.65, abs=5e-3)


def test_a_kernel_moves_what_it_reads_and_writes() -> None:
    """Views and what lies on the processor cost nothing, a pick what it picks, a copy what it copies."""
    x, y, at = (torch.empty(shape, device=META) for shape in ((4, 8), (4, 8), (1,)))
    index = torch.zeros(2, dtype=torch.int64, device=META)
    with Counting() as counting, counting.within("here"):
        x.view(8, 4)[1:].transpose(0, 1)
        torch.ones(5).add(1)
        x.index_select(0, index)
        torch.index_select(x, 0, index, out=torch.empty(2, 8, device=META))
        x.index_copy_(0, index, y[:2])
        x.copy_(y)
        x.add(at.expand(8))
        torch.cat((x, y))
        x.mm(y.T)
    bytes_of = [(kernel.name, kernel.moved) for kernel in counting.kernels]
    assert bytes_of == [
        ("index_select", 2 * 64),
        ("index_select", 2 * 64),
        ("index_copy_", 2 * 64),
        ("copy_", 2 * 128),
        ("add", 128 + 4 + 128),
        ("cat", 2 * 256),
        ("mm", 256 + 64),
    ]
    assert [kernel.flop for kernel in counting.kernels] == [0] * 6 + [2 * 4 * 8 * 4]


def test_bytes_are_alive_until_the_last_view_of_them_goes() -> None:
    with Counting() as counting, counting.within("here", "ours"):
        first = torch.empty(16, device=META)
        view = first[2:]
        del first
        assert counting.alive == 64
        second = torch.empty(4, device=META)
        del view
        assert (counting.alive, counting.most_alive) == (16, 80)
        counting.begin()
        assert (counting.alive, counting.most_alive) == (16, 16)
        del second
        assert counting.alive == 0
