"""Self-attention of one chunk, at whatever size, against the tests' naive reference: every frame's raw K and V,
gathered, turned and attended head by head in float32."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.card.workbench import Workbench
from benchmarks.shared.host_process import REPOSITORY
from benchmarks.shared.stage import CHUNK_FRAMES, Rolling, Stage
from benchmarks.shared.tables import Row
from headforcing_core.kv_memory.memory import KVMemory

sys.path.insert(0, str(REPOSITORY / "tests" / "core"))

import reference_attention  # noqa: E402

POLICY = "paper"


class _RawFrames(dict[int, Tensor]):
    """K or V of the frames that a rollout was filled with, drawn again when they are wanted: float32 (tokens, heads,
    head_dim), the same in every layer."""

    def __init__(self, stage: Stage, which: int) -> None:
        super().__init__()
        self._stage, self._which = stage, which

    def __missing__(self, frame: int) -> Tensor:
        chunk, place = divmod(frame, CHUNK_FRAMES)
        own = self._stage.random_kv(chunk)[self._which][0].float().unflatten(0, (CHUNK_FRAMES, -1))
        self[frame] = own[place].clone()
        return self[frame]


class _Compared:
    """Stands between a model and a rollout's KV memory, and computes everything a second time."""

    def __init__(self, stage: Stage, rolling: Rolling) -> None:
        self._stage, self._memory = stage, rolling.memory
        self._begin = self._memory.begin
        layers = len(stage.labels)
        raw = reference_attention.History([_RawFrames(stage, 0)] * layers, [_RawFrames(stage, 1)] * layers)
        self._raw, self._pass = raw, None
        self.apart: defaultdict[int, list[float]] = defaultdict(list)

    def begin(
        self, chunk_positions: Sequence[int], history: Mapping[str, Mapping[int, int]], keeps: bool = True
    ) -> None:
        self._begin(chunk_positions, history, keeps)
        seen = {
            group: tuple((frame, position, "") for frame, position in places.items())
            for group, places in history.items()
        }
        rows, columns = (size // 2 for size in self._stage.size.latent)
        self._pass = reference_attention.Pass(self._raw, self._stage.labels, seen, chunk_positions, rows, columns)

    def attend(
        self, memory: KVMemory, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert self._pass is not None
        out, turned = memory.attend(layer, q, k, v, rotation)
        with torch.device(self._stage.device):  # where the reference makes its tables of angles
            expected = self._pass.attend(layer, q.float(), k.float(), v.float())
        self._pass.own_keys.clear()
        self._pass.own_values.clear()
        self.apart[layer].append(float((out.float() - expected).norm() / expected.norm()))
        return out, turned


def compare_with_reference(bench: Workbench) -> None:
    """Table: relative error of every self-attention of one chunk, four steps and its commit pass, full tiers."""
    start = bench.first_full(POLICY)
    rolling = bench.rolling(POLICY, start, lambda chunk: chunk >= start, rotates_all=True)
    rolling.go_to(start)
    compared = _Compared(bench.stage, rolling)
    with (
        bench.stage.open(),
        patch.object(rolling.memory, "begin", compared.begin),
        patch.object(bench.host, "_attend", compared.attend),
    ):
        made = rolling.next()
    rolling.close()
    if not torch.isfinite(made.latent).all():
        raise RuntimeError(
            f"Chunk {start} has NaN or infinity. Times of such numbers mean nothing. Look for the layer that overflows."
        )
    apart = [error for errors in compared.apart.values() for error in errors]
    worst = max(compared.apart, key=lambda layer: max(compared.apart[layer]))
    bench.findings.figures["worst error"] = max(apart)
    row: Row = {
        "chunk": start,
        "calls compared": len(apart),
        "layers": len(compared.apart),
        "median relative error": f"{median(apart):.2e}",
        "worst": f"{max(apart):.2e}",
        "in layer": worst,
    }
    bench.findings.add("correctness", "Self-attention against the naive reference in float32", [row])
