"""The decoders of the host's video VAEs that can go on from what they remember, and what they take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from comfy.ldm.wan.vae import WanVAE, count_cache_layers
from comfy.ldm.wan.vae2_2 import WanVAE as WanVAE22
from comfy.ldm.wan.vae2_2 import count_conv3d, unpatchify
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV, MemBlock, TGrow
from torch import Tensor

from .vae_memory import Memory


@dataclass(frozen=True)
class Decoder:
    """`decode` makes pictures, (1, 3, pictures, height, width), of the next frames and renews what it is given to
    remember."""

    decode: Callable[[Tensor, Memory], tuple[Tensor, Memory]]
    carries: float  # numbers a pixel that are remembered between two calls
    takes: float = math.inf  # numbers a pixel of all that a call has alive, and a quarter for kernels; inf: not counted


def decoder_of(vae: VAE) -> Decoder | None:
    """None for a VAE of which it is not known what its decoder remembers."""
    model = vae.first_stage_model if type(vae) is VAE else None
    if type(model) is WanVAE:  # 37.5 for each channel of its last layers are alive at most
        return Decoder(partial(_decode_wan21, model), 24.63 * model.dim, 47 * model.dim)
    if type(model) is WanVAE22:  # 17.2
        width = model.decoder.dim
        return Decoder(partial(_decode_wan22, model), 6.97 * width, 22 * width)
    if type(model) is TAEHV:
        return Decoder(partial(_decode_tiny, model), 84 / model.patch_size**2)
    return None


def _decode_wan21(model: WanVAE, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # The host decodes the first frame alone, then pairs. A pair refills every layer's memory of two frames; a single
    # frame leaves one in the layers before the first doubling in time, which are those before the first doubling in
    # space, so the older one is put back before it.
    latent = model.conv2(latent)
    first = [] if memory else [1]
    singles, pairs = (latent.shape[2] - len(first)) % 2, (latent.shape[2] - len(first)) // 2
    memory = memory or [None] * count_cache_layers(model.decoder)
    pictures: list[Tensor] = []
    for frames in latent.split([*first, *singles * [1], *pairs * [2]], dim=2):
        before: dict[int, Tensor] = {}
        if frames.shape[2] == 1:
            before = {
                layer: old
                for layer, old in enumerate(memory)
                if isinstance(old, Tensor) and old.shape[-1] == latent.shape[-1]
            }
        pictures += model.decoder(frames, feat_cache=memory, feat_idx=[0])
        for layer, old in before.items():
            new = memory[layer]
            assert isinstance(new, Tensor)
            memory[layer] = torch.cat([old[:, :, -1:].to(new), new], dim=2)
    return torch.cat(pictures, dim=2), memory


def _decode_wan22(model: WanVAE22, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # One frame at a time, as the host; several at a time round otherwise.
    is_first = not memory
    memory = memory or [None] * count_conv3d(model.decoder)
    pictures: list[Tensor] = []
    for frame in model.conv2(latent).split(1, dim=2):
        parts = model.decoder(frame, feat_cache=memory, feat_idx=[0], first_chunk=is_first)
        pictures.append(unpatchify(parts, 2))
        is_first = False
    return torch.cat(pictures, dim=2), memory


def _decode_tiny(model: TAEHV, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # One frame at a time through all blocks, so that only the frames of one doubling are held, as in the host.
    blocks = list(model.decoder)
    is_first = not memory
    memory = memory or [None] * len(blocks)
    pictures: list[Tensor] = []

    def run(x: Tensor, start: int) -> None:
        for index in range(start, len(blocks)):
            block = blocks[index]
            if isinstance(block, MemBlock):
                past = memory[index]
                memory[index] = x
                x = block(x, past.to(x) if isinstance(past, Tensor) else torch.zeros_like(x))
            elif isinstance(block, TGrow):
                for frame in block(x).split(1):
                    run(frame, index + 1)
                return
            else:
                x = block(x)
        pictures.append(torch.nn.functional.pixel_shuffle(x, model.patch_size))

    for frame in model.process_in(latent)[0].movedim(1, 0).split(1):
        run(frame, 0)
    skipped = model.frames_to_trim if is_first else 0
    return torch.cat(pictures[skipped:]).movedim(0, 1)[None], memory
