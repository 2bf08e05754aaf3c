"""The VAE that stands for Wan 2.1's: real size on a card, small on a processor, random weights; and what it decodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.card.workbench import Workbench
from benchmarks.shared.host_process import pack_module
from benchmarks.shared.stage import CHUNK_FRAMES
from benchmarks.shared.tables import say
from headforcing_core.geometry import WAN21

if TYPE_CHECKING:
    from comfy.sd import VAE

WIDTH = {True: 96, False: 8}  # of Wan 2.1's VAE, and of the one that stands for it on a CPU
DecodeChunk = Callable[[Tensor], Tensor]


def made_up_latent(bench: Workbench) -> Tensor:
    """Of a chunk."""
    generator = torch.Generator().manual_seed(51)
    return torch.randn(1, WAN21.channels, CHUNK_FRAMES, *bench.size.latent, generator=generator)


def new_decoder(bench: Workbench) -> Any:
    """The pack's ChunkDecoder, before the first frame of a video."""
    return pack_module("host.chunk_decoder").ChunkDecoder(video_vae(bench.on_card))


def inside_a_video(bench: Workbench) -> DecodeChunk:
    """What decodes chunks inside a video, where a chunk has four pictures a frame."""
    decoder = new_decoder(bench)
    decoder.decode(made_up_latent(bench))
    return decoder.decode


@cache
def video_vae(real_size: bool) -> VAE:
    """One a process."""
    import comfy.sd

    say("  building the VAE")
    empty = empty_wan_vae(WIDTH[real_size])
    generator = torch.Generator().manual_seed(50)
    weights = {}
    for name, tensor in empty.state_dict().items():
        if tensor.ndim > 1 and not name.endswith("gamma"):
            numbers = torch.randn(tensor.shape, generator=generator)
            weights[name] = 1.4 * numbers * tensor[0].numel() ** -0.5
        else:
            weights[name] = torch.ones(tensor.shape) if name.endswith("gamma") else torch.zeros(tensor.shape)
    return comfy.sd.VAE(sd=weights)


def empty_wan_vae(width: int) -> torch.nn.Module:
    """The host's class of Wan 2.1's VAE, without numbers."""
    from comfy.ldm.wan.vae import WanVAE

    with torch.device("meta"):
        return WanVAE(
            dim=width,
            z_dim=WAN21.channels,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
        )
