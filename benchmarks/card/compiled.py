"""The model through torch.compile in the host's own way, as its node TorchCompileModel does it, and as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

import torch
import torch._dynamo.utils
from torch import Tensor

from benchmarks.card.workbench import PROBE, SPARE, Workbench
from benchmarks.shared.stage import FOUR_STEPS, Rolling, Stage, first_chunk_after_full_bank
from benchmarks.shared.stopwatch import in_turns, take
from benchmarks.shared.tables import Row, say
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.policy.presets import PRESETS

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

POLICY = "paper"
BACKEND = "inductor"
ROUNDS = 3


def compare_compiled(bench: Workbench) -> None:
    """Table: seconds of a chunk plain and compiled - as the pack has it, and with the KV memory in what is traced - and
    how far their first chunks lie apart. The model has few layers, since compiling takes time for each."""
    plain = _stage(bench, None)
    start = first_chunk_after_full_bank(plain, PRESETS[POLICY], PROBE, lambda chunk: False)
    row, latent = _row(bench, "plain", plain, start, None)
    rows = [row]
    ways: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "compiled": nullcontext,
        "compiled, memory traced too": lambda: patch.object(bench.host, "_attend", _attend),
    }
    for name, inside in ways.items():
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        with inside():
            rows.append(_row(bench, name, _stage(bench, plain.model), start, latent)[0])
        title = f"torch.compile of the whole diffusion model, {len(plain.labels)} layers, policy {POLICY}"
        bench.findings.add("compiled", title, rows)
    torch.compiler.reset()


def _row(bench: Workbench, name: str, stage: Stage, start: int, expected: Tensor | None) -> tuple[Row, Tensor]:
    rolling = Rolling(stage, PRESETS[POLICY], start + SPARE, lambda chunk: chunk >= start)
    rolling.go_to(start)
    made = []
    with stage.open():
        first = take(lambda: made.append(rolling.next())).clock
        say(f"  {name}: first chunk {first:.1f} s")
        second = take(rolling.next).clock
        runs = in_turns({"": rolling.next}, 0, ROUNDS)[""]
    rolling.close()
    latent = made[0].latent
    apart = None if expected is None else float((latent - expected).norm() / expected.norm())
    row: Row = {
        "what": name,
        "seconds": median(run.clock for run in runs),
        "first chunk, seconds": first,
        "second": second,
        "apart": "" if apart is None else f"{apart:.1e}",
        "graphs": _counted("stats", "unique_graphs") if expected is not None else None,
        "graph breaks": sum(torch._dynamo.utils.counters["graph_break"].values()) if expected is not None else None,
    }
    return row, latent


def _stage(bench: Workbench, compiled: ModelPatcher | None) -> Stage:
    """A few layers of the model as they are, or the same ones compiled."""
    labels = bench.labels[: bench.compiled_layers]
    model = None
    if compiled is not None:
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        model = compiled.clone(disable_dynamic=True)
        options = {"guard_filter_fn": lambda entries: ["transformer_options" not in entry.name for entry in entries]}
        set_torch_compile_wrapper(model=model, backend=BACKEND, options=cast("dict[str, str]", options))
    return Stage(bench.host, labels, bench.size, bench.task.text_tokens, FOUR_STEPS, bench.task.text_dim, model)


def _attend(memory: KVMemory, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """What nodes/host/backbone.py keeps from being traced."""
    return memory.attend(layer, q, k, v, rotation)


def _counted(group: str, name: str) -> int:
    return torch._dynamo.utils.counters[group][name]
