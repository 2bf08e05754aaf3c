"""What decoding a chunk takes: the host's Wan VAE through the pack's ChunkDecoder, on meta tensors. The host is not
asked to load it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.card.video_vae import empty_wan_vae
from benchmarks.counts.counting import ATTENTION, GIGA, TERA, Counting, gigabytes
from benchmarks.counts.on_meta import META
from benchmarks.shared.host_process import pack_module
from benchmarks.shared.stage import CHUNK_FRAMES, Size
from benchmarks.shared.tables import Row
from headforcing_core.geometry import WAN21

if TYPE_CHECKING:
    from comfy.sd import VAE

PHASES = ("first chunk", "later chunk")


def decoder_rows(size: Size, width: int) -> list[Row]:
    """The table: of a VAE of this width, the most that a decode has alive and what it holds for the next one."""
    import comfy.model_management

    vae, counting = _vae(width), Counting()
    assert vae.first_stage_model is not None
    for module in vae.first_stage_model.modules():
        if hasattr(module, "optimized_attention"):
            module.__dict__["optimized_attention"] = partial(_attention, counting)
    decoder = pack_module("host.chunk_decoder").ChunkDecoder(vae)
    latent = torch.empty(1, WAN21.channels, CHUNK_FRAMES, *size.latent, device=META)
    rows: list[Row] = []
    with patch.object(comfy.model_management, "load_models_gpu", lambda *given, **named: None), counting:
        for phase in PHASES:
            counting.begin()
            with counting.within(phase, "ours"):
                decoder.decode(latent)
            kernels = counting.kernels
            rows.append(
                {
                    "what": phase,
                    "most alive GB": counting.most_alive / GIGA,
                    "held GB": decoder.held_bytes / GIGA,
                    "kernels": len(kernels),
                    "memory-bound GB": gigabytes(kernels),
                    "TFLOP": sum(kernel.flop for kernel in kernels) / TERA,
                }
            )
    return rows


def _attention(counting: Counting, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of each picture, (pictures, channels, height, width)."""
    pictures, channels, *sides = q.shape
    return counting.one_kernel(ATTENTION, q, (q, k, v), 4 * pictures * channels * math.prod(sides) ** 2)


def _vae(width: int) -> VAE:
    import comfy.sd

    weights = empty_wan_vae(width).state_dict()
    with META:
        vae = comfy.sd.VAE(sd=weights, device=META, dtype=torch.bfloat16)
    vae.output_device = META  # type: ignore[assignment]
    return vae
