"""Other ways to attend, on numbers made up: other kernels, and one ragged call for all heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.card.ceilings import attention_kernels
from benchmarks.card.workbench import NEEDS_CUDA, Workbench
from benchmarks.shared.stage import CHUNK_FRAMES
from benchmarks.shared.stopwatch import timed_row
from benchmarks.shared.tables import Row
from headforcing_core.kv_memory.attention import Attention
from headforcing_core.policy.presets import PRESETS

POLICY = "paper"


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
        f"a call a head type, {name}": partial(_all_types, layers, picked, kernels[name])
        for name in ("pack", "host", "cuDNN")
        if name in kernels
    }
    full = torch.randn(1, 21 * bench.task.tokens, heads * width, device=bench.device, dtype=bench.stage.dtype)
    ways["all heads alike, 21 frames, pack"] = lambda: [
        kernels["pack"](q.flatten(2), full, full, heads) for _ in layers
    ]
    table = [timed_row(name, run) for name, run in ways.items()]
    table += _ragged_rows(bench, q, layers, kernels["pack"])
    bench.findings.add("variants", "Attention of all layers in one pass, policy paper", table)


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

    table = [timed_row(names[0], alone), timed_row(names[1], together)]
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
