"""The KV memory's part of one pass: by other ways to the same bits, and recorded once as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.card.ways import Inside, ways, within
from benchmarks.card.workbench import NEEDS_CUDA, Workbench
from benchmarks.shared.stage import Rolling
from benchmarks.shared.stopwatch import timed_row
from benchmarks.shared.tables import Row, yes
from headforcing_core.kv_memory.memory import KVMemory

POLICY = "paper"


@dataclass(frozen=True)
class _Given:
    """What a layer hands to its memory in one pass; every layer gets the same here."""

    memory: KVMemory
    layers: int
    tensors: tuple[Tensor, Tensor, Tensor, Tensor]

    def run(self) -> Tensor:
        """All layers; the output of the last."""
        return [self.memory.attend(layer, *self.tensors)[0] for layer in range(self.layers)][-1]

    def outputs(self) -> list[Tensor]:
        """Of every layer."""
        return [self.memory.attend(layer, *self.tensors)[0].clone() for layer in range(self.layers)]


def compare_memory_pass(bench: Workbench) -> None:
    """Table: what the KV memory does in one pass, as it is, by other ways, and replayed as a CUDA graph."""
    found: list[Row] = []
    with bench.stage.open():
        rolling = bench.at(POLICY, bench.chunk)
        rolling.next()
        calls = [0]

        def measuring(
            memory: KVMemory, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor
        ) -> tuple[Tensor, Tensor]:
            calls[0] += 1
            if calls[0] == len(bench.labels) + 1:  # the second pass: frames stand where they should, angles are there
                given = _Given(memory, len(bench.labels), (q, k, v, rotation))
                found.extend([*_ways(rolling, given), *_graph(bench, given)])
            return memory.attend(layer, q, k, v, rotation)

        with patch.object(bench.host, "_attend", measuring):
            rolling.next()
    bench.findings.add("pass", "The KV memory's part of a pass, all layers", found)


def _ways(rolling: Rolling, given: _Given) -> list[Row]:
    expected = given.outputs()
    rows = [timed_row("as it is", given.run)]
    for name, inside in ways(rolling).items():
        row = timed_row(name, within(inside, given.run))
        rows.append(row | {"note": row["note"] or _same_bits(inside, given, expected)})
    return rows


def _same_bits(inside: Inside, given: _Given, expected: list[Tensor]) -> str:
    got = within(inside, given.outputs)()
    return f"bits equal: {yes(all(map(torch.equal, got, expected)))}"


def _graph(bench: Workbench, given: _Given) -> list[Row]:
    replayed = "replayed as a CUDA graph"
    if not bench.on_card:
        return [{"what": replayed, "milliseconds": None, "note": NEEDS_CUDA}]
    given.run()
    launching = min(_given_out(given.run) for _ in range(3))
    rows: list[Row] = [{"what": "giving it out alone", "milliseconds": 1e3 * launching, "note": "processor"}]
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            given.run()
        rows.append(timed_row(replayed, graph.replay))
    except RuntimeError as error:
        rows.append({"what": replayed, "milliseconds": None, "note": str(error).splitlines()[0][:80]})
    return rows


def _given_out(run: Callable[[], object]) -> float:
    """Seconds of a call, without waiting for the card."""
    torch.cuda.synchronize()
    started = perf_counter()
    run()
    return perf_counter() - started
