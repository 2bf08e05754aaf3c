"""A VAE that the host has on another device than the model, and a decode there beside the model's passes.

The host's list of loaded models has no lock, so models are loaded by the run's own thread alone; the other one only
computes, as the threads do in which the host samples on several cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.model_management
from comfy.ldm.modules.diffusionmodules.model import pytorch_attention
from torch import Tensor

from ...headforcing_core.kv_memory.attention import dense_attention

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE


def is_apart(vae: VAE, model: ModelPatcher) -> bool:
    """Whether a VAE is on another device than a model, as Select VAE Device or `--cpu-vae` has it."""
    return model.load_device not in (vae.device, vae.patcher.load_device)


@contextmanager
def decoding_beside(vae: VAE) -> Iterator[None]:
    """Inside, a thread may decode with a loaded VAE while the run's own thread computes on another device. What they
    share is left alone: PyTorch's order of attention kernels, which the host sets around each call for the whole
    process, and an interrupt, which whoever hears it first takes away, is given back to the run."""
    modules = [] if vae.first_stage_model is None else vae.first_stage_model.modules()
    blocks: list[Any] = [each for each in modules if getattr(each, "optimized_attention", None) is pytorch_attention]
    for block in blocks:
        block.optimized_attention = _attention
    try:
        yield
    except comfy.model_management.InterruptProcessingException:
        comfy.model_management.interrupt_current_processing()
        raise
    finally:
        for block in blocks:
            block.optimized_attention = pytorch_attention


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of pixels, (pictures, channels, height, width), in one head. So wide a head is computed by the same kernel in
    whatever order they are asked."""
    rows = (each.flatten(2).transpose(1, 2).contiguous() for each in (q, k, v))  # (pictures, pixels, channels)
    return dense_attention(*rows, heads=1).transpose(1, 2).reshape(q.shape)
