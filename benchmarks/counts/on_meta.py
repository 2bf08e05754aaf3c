"""A Wan model and rollouts on it at full size without numbers: the host's own classes, the pack's own forward, memory
and chunk loop, on meta tensors.

What has no form there counts as the one kernel that a card has for it: attention, the host's rotation, RMSNorm. The
latents of the chunk loop, and the keys by which it decides about the past, are made up and lie on the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.counts.counting import ATTENTION, Counting
from benchmarks.shared.host_process import empty_model, model_shape
from benchmarks.shared.stage import CHUNK_FRAMES, Size, Stage
from headforcing_core.geometry import WAN21
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.policy.head_types import Labels
from headforcing_core.rollout.loop import Recipe
from headforcing_core.rollout.passes import CLEAN
from headforcing_core.rollout.told import NOTHING, Told

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

META = torch.device("meta")
DTYPE = torch.float16
FIRST, LATER, COMMIT, KEEP = "first pass", "later pass", "commit pass", "keep"
TEXT_TOKENS, TEXT_DIM = 512, 4096


class _Holder(torch.nn.Module):
    """Holds a diffusion model as the host's models do."""

    def __init__(self, diffusion_model: torch.nn.Module) -> None:
        super().__init__()
        self.diffusion_model = diffusion_model
        self.device = META

    def get_dtype_inference(self) -> torch.dtype:
        return DTYPE


class MetaStage(Stage):
    """A stage whose model has no numbers; its rollouts run the model without the host's guider."""

    def __init__(self, host: ModuleType, labels: Labels, size: Size, sigmas: tuple[float, ...]) -> None:
        super().__init__(host, labels, size, TEXT_TOKENS, sigmas, TEXT_DIM, _model(labels))
        self.counting = Counting()
        self.stays_alike = False  # what the chunks show, so that nothing new is recalled
        self.read_bytes = (0, 0)  # of the history and beside it, in the buffers that the last pass read
        self._generator = torch.Generator().manual_seed(0)
        self._passes = 0

    def random_kv(self, chunk: int) -> tuple[Tensor, Tensor]:
        shape = (1, CHUNK_FRAMES * self.size.tokens, len(self.labels[0]), self.head_dim)
        return torch.empty(shape, dtype=DTYPE, device=META), torch.empty(shape, dtype=DTYPE, device=META)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, the model reads KV memories, and everything is counted."""
        counting, attend = self.counting, self.host._attend
        wan = self.model.model.diffusion_model
        patches: list[tuple[object, str, object]] = [
            (self.host, "_attend", counting.counted(attend)),
            (self.host, "optimized_attention", self._attention),
            (self.host, "apply_rope1", self._rotate),
            (torch.nn.functional, "rms_norm", self._rms_norm),
            (self.backbone, "sample", self._sample),
            (KVMemory, "attend", counting.counted(KVMemory.attend)),
            (KVMemory, "keep", counting.counted(self._keeping(KVMemory.keep), KEEP)),
            (KVMemory, "captured_keys", self._made_up_keys),
        ]
        patches += [
            (block.self_attn, "forward", self.backbone._model.object_patches[name])
            for block, name in zip(wan.blocks, self.backbone._model.object_patches, strict=True)
        ]
        import comfy.ldm.wan.model as host_model

        patches.append((host_model, "optimized_attention", self._attention))
        with ExitStack() as inside:
            for owner, name, stands_in in patches:
                inside.enter_context(patch.object(owner, name, stands_in))
            inside.enter_context(counting)
            yield

    def _keeping(self, keep: Callable[..., None]) -> Callable[..., None]:
        def keeping(memory: KVMemory, *given: Any) -> None:
            self.read_bytes = memory.kv_bytes, memory.chunk_bytes
            keep(memory, *given)

        return keeping

    def _sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: object) -> Tensor:
        self._passes = 0
        return recipe(self._predict, noise, sigmas)

    def _predict(self, x: Tensor, sigma: Tensor, told: Told = NOTHING) -> Tensor:
        """One pass of the model; what is seen stays as it was."""
        phase = COMMIT if sigma is CLEAN else LATER if self._passes else FIRST
        self._passes += 1
        latent = torch.empty(1, WAN21.channels, CHUNK_FRAMES, *self.size.latent, dtype=DTYPE, device=META)
        text = torch.empty(1, TEXT_TOKENS, TEXT_DIM, dtype=DTYPE, device=META)
        time = torch.empty(1, device=META)
        with self.counting.within(phase):
            options = {self.host._RUN: self.backbone}
            self.model.model.diffusion_model(latent, time, text, transformer_options=options)
        return x

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int, **ignored: object) -> Tensor:
        flop = 4 * q.shape[0] * q.shape[1] * k.shape[1] * q.shape[2]
        return self.counting.one_kernel(ATTENTION, q, (q, k, v), flop)

    def _rotate(self, x: Tensor, rotation: Tensor) -> Tensor:
        return self.counting.one_kernel("rotation", x, (x, rotation))

    def _rms_norm(self, x: Tensor, shape: object, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
        return self.counting.one_kernel("RMSNorm", x, (x, *(() if weight is None else (weight,))))

    def _made_up_keys(self, layer: int) -> Tensor:
        shape = (1, CHUNK_FRAMES, 1, len(self.labels[0]), self.head_dim)
        drawn = torch.ones(shape) if self.stays_alike else torch.randn(shape, generator=self._generator)
        return drawn.expand(-1, -1, self.size.tokens, -1, -1)


def _model(labels: Labels) -> ModelPatcher:
    import comfy.model_patcher
    import comfy.ops

    shape = model_shape(len(labels), len(labels[0]))
    empty = empty_model(shape, TEXT_DIM, DTYPE, comfy.ops.disable_weight_init)
    return comfy.model_patcher.ModelPatcher(cast(Any, _Holder(empty)), META, META)
