"""Other ways to attend: one ragged call for all heads, other kernels, and launches recorded once as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.card.ceilings import attention_kernels
from benchmarks.card.workbench import NEEDS_CUDA, Workbench
from benchmarks.shared.stage import CHUNK_FRAMES
from benchmarks.shared.stopwatch import seconds_per_call
from benchmarks.shared.tables import Row
from headforcing_core.kv_memory.attention import Attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.policy.presets import PRESETS

POLICY, UNIFORM = "paper", "uniform_21"


@dataclass
class Group:
    """Heads of one type in one layer, with the K and V that they read: (1, keys, heads, head_dim) each."""

    heads: Tensor
    k: Tensor
    v: Tensor


@dataclass
class Ragged:
    """The same heads of one layer as sequences of their own: (all keys of all heads, 1, head_dim), and where each head
    begins."""

    order: Tensor
    k: Tensor
    v: Tensor
    starts: Tensor
    longest: int


def compare_variants(bench: Workbench) -> None:
    """Table: attention of all layers in one pass, by different means, on synthetic numbers of the real shapes."""
    torch.manual_seed(11)
    rows_of_chunk, heads, width = bench.task.rows, bench.task.shape.heads, bench.stage.head_dim
    q = torch.randn(1, rows_of_chunk, heads, width, device=bench.device, dtype=bench.stage.dtype)
    layers = [_groups(bench, layer) for layer in range(len(bench.labels))]
    kernels = attention_kernels(bench)
    picked = [[q[:, :, group.heads].flatten(2) for group in groups] for groups in layers]
    ways: dict[str, Callable[[], object]] = {
        "a call a head type, host's attention": lambda: _all_types(layers, picked, kernels["host"]),
        "the same, picking heads and putting them back": lambda: [_by_type(g, q, kernels["host"]) for g in layers],
    }
    if "cuDNN" in kernels:
        ways["a call a head type, cuDNN"] = lambda: _all_types(layers, picked, kernels["cuDNN"])
    full = torch.randn(1, 21 * bench.task.tokens, heads * width, device=bench.device, dtype=bench.stage.dtype)
    ways["all heads alike, 21 frames, host's attention"] = lambda: [
        kernels["host"](q.flatten(2), full, full, heads) for _ in layers
    ]
    table = [_timed(name, run) for name, run in ways.items()]
    table += _ragged_rows(bench, q, layers, kernels["host"])
    bench.findings.add("variants", "Attention of all layers in one pass, policy paper", table)


def compare_graph(bench: Workbench) -> None:
    """Table: what the KV memory does in one pass, called as usual and replayed as a CUDA graph."""
    title = "The KV memory's part of a pass, all layers"
    if not bench.on_card:
        bench.findings.add("graph", title, [{"what": "CUDA graph", "milliseconds": None, "note": NEEDS_CUDA}])
        return
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
                found.extend(_graph_rows(bench, lambda: _all_layers(bench, memory, q, k, v, rotation)))
            return memory.attend(layer, q, k, v, rotation)

        with patch.object(bench.host, "_attend", measuring):
            rolling.next()
    bench.findings.add("graph", title, found)


def _groups(bench: Workbench, layer: int) -> list[Group]:
    labels, tokens, groups = bench.labels[layer], bench.task.tokens, []
    for head_type in sorted(set(labels)):
        places = [head for head, label in enumerate(labels) if label == head_type]
        keys = (PRESETS[POLICY].tiers(head_type).frames + CHUNK_FRAMES) * tokens
        shape = (2, 1, keys, len(places), bench.stage.head_dim)
        k, v = torch.randn(shape, device=bench.device, dtype=bench.stage.dtype).unbind()
        groups.append(Group(torch.tensor(places, device=bench.device), k, v))
    return groups


def _all_types(layers: list[list[Group]], picked: list[list[Tensor]], attention: Attention) -> None:
    for groups, queries in zip(layers, picked, strict=True):
        for group, q in zip(groups, queries, strict=True):
            attention(q, group.k.flatten(2), group.v.flatten(2), len(group.heads))


def _by_type(groups: list[Group], q: Tensor, attention: Attention) -> Tensor:
    out = torch.empty_like(q)
    for group in groups:
        seen = attention(
            q.index_select(2, group.heads).flatten(2), group.k.flatten(2), group.v.flatten(2), len(group.heads)
        )
        out.index_copy_(2, group.heads, seen.unflatten(2, (len(group.heads), -1)))
    return out.flatten(2)


def _ragged_rows(bench: Workbench, q: Tensor, layers: list[list[Group]], attention: Attention) -> list[Row]:
    names = ("one ragged call", "the same, laying heads out and back")
    why = NEEDS_CUDA
    if bench.on_card:
        try:
            return _ragged_times(bench, names, q, layers, attention)
        except (RuntimeError, TypeError) as error:  # a build without this kernel, or with another signature
            why = str(error).splitlines()[0][:80]
    return [{"what": name, "milliseconds": None, "note": why} for name in names]


def _ragged_times(
    bench: Workbench, names: tuple[str, str], q: Tensor, layers: list[list[Group]], attention: Attention
) -> list[Row]:
    with torch.inference_mode():
        ragged = [_laid_out(groups) for groups in layers]
        rows = q.shape[1]
        starts = torch.arange(q.shape[2] + 1, device=q.device, dtype=torch.int32) * rows
        ordered = [_queries(q, one) for one in ragged]
        expected, got = _by_type(layers[0], q, attention), _back(_call(ordered[0], ragged[0], starts, rows), ragged[0])
        apart = float((got.float() - expected.float()).norm() / expected.float().norm())

    def alone() -> None:
        for queries, one in zip(ordered, ragged, strict=True):
            _call(queries, one, starts, rows)

    def together() -> None:
        for one in ragged:
            _back(_call(_queries(q, one), one, starts, rows), one)

    table = [_timed(names[0], alone), _timed(names[1], together)]
    table[0]["note"] = f"apart from a call a head type by {apart:.1e}"
    return table


def _laid_out(groups: list[Group]) -> Ragged:
    groups = sorted(groups, key=lambda group: -group.k.shape[1])  # the longest first, or they end alone
    lengths = [group.k.shape[1] for group in groups for _ in group.heads]
    k, v = (
        torch.cat([getattr(group, name)[0].transpose(0, 1).flatten(0, 1) for group in groups])[:, None]
        for name in ("k", "v")
    )
    starts = torch.tensor([0, *lengths], device=k.device).cumsum(0).to(torch.int32)
    return Ragged(torch.cat([group.heads for group in groups]), k, v, starts, max(lengths))


def _queries(q: Tensor, one: Ragged) -> Tensor:
    return q[0].index_select(1, one.order).transpose(0, 1).flatten(0, 1)[:, None]  # (heads * rows, 1, head_dim)


def _call(queries: Tensor, one: Ragged, starts: Tensor, rows: int) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    out = varlen_attn(queries, one.k, one.v, starts, one.starts, rows, one.longest)
    assert isinstance(out, Tensor)
    return out


def _back(seen: Tensor, one: Ragged) -> Tensor:
    heads = seen.unflatten(0, (len(one.order), -1)).squeeze(2).transpose(0, 1)  # (rows, heads, head_dim)
    return torch.empty_like(heads).index_copy_(1, one.order, heads).flatten(1)[None]


def _all_layers(bench: Workbench, memory: KVMemory, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor) -> None:
    for layer in range(len(bench.labels)):
        memory.attend(layer, q, k, v, rotation)


def _graph_rows(bench: Workbench, run: Callable[[], None]) -> list[Row]:
    rows: list[Row] = [_timed("called", run)]
    run()
    launching = min(_given_out(run) for _ in range(3))
    rows.append({"what": "giving it out alone", "milliseconds": 1e3 * launching, "note": "processor"})
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
        rows.append(_timed("replayed as a CUDA graph", graph.replay))
    except RuntimeError as error:
        note = str(error).splitlines()[0][:80]
        rows.append({"what": "replayed as a CUDA graph", "milliseconds": None, "note": note})
    return rows


def _given_out(run: Callable[[], None]) -> float:
    """Seconds of a call, without waiting for the card."""
    started = perf_counter()
    run()
    return perf_counter() - started


def _timed(name: str, run: Callable[[], object]) -> Row:
    try:
        seconds = seconds_per_call(run)
    except (RuntimeError, TypeError) as error:  # a build without this kernel, or with another signature
        return {"what": name, "milliseconds": None, "note": str(error).splitlines()[0][:80]}
    return {"what": name, "milliseconds": 1e3 * seconds, "note": ""}
