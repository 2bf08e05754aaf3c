"""The encoders of the host's video VAEs that can go on from what they remember, and what they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from comfy.ldm.wan.vae import WanVAE, count_cache_layers
from comfy.ldm.wan.vae2_2 import WanVAE as WanVAE22
from comfy.ldm.wan.vae2_2 import count_conv3d, patchify
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV, MemBlock, TPool
from torch import Tensor

from ...headforcing_core.geometry import TIME_STRIDE
from .vae_memory import Memory

LOOK_BACK = 29  # frames: no encoder of Wan's looks back further


@dataclass(frozen=True)
class Encoder:
    """`encode` makes the next frames of a latent, (1, channels, frames, height, width), of pictures, (1, 3, pictures,
    height, width), and renews what it is given to remember. The first frame is of `first` pictures, a later one of
    TIME_STRIDE; it takes those of the first frame, then those of `at_once` frames, and fewer only at the end."""

    encode: Callable[[Tensor, Memory], tuple[Tensor, Memory]]
    first: int
    at_once: int
    takes: float  # numbers a pixel of all that a call has alive, and a quarter for kernels


def encoder_of(vae: VAE) -> Encoder | None:
    """None for a VAE of which it is not known what its encoder remembers."""
    model = vae.first_stage_model if type(vae) is VAE else None
    if type(model) is WanVAE:  # 25.2 for each channel of its first layers are alive at most
        return Encoder(partial(_encode_wan21, model), 1, 2, 32 * model.dim)
    if type(model) is WanVAE22:  # 10.6
        return Encoder(partial(_encode_wan22, model), 1, 1, 13.5 * model.dim)
    if type(model) is TAEHV and model.t_downscale == TIME_STRIDE:
        return Encoder(partial(_encode_tiny, model), TIME_STRIDE, 1, 620 / model.patch_size**2)
    return None


def _encode_wan21(model: WanVAE, pictures: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # The host feeds two pictures at a time and its layers wait until there are two frames, which then come together.
    # What is told to be final does not wait, but leaves a memory that does not go on.
    pair, count = (2 if memory else 1), pictures.shape[2]
    memory = memory or [None] * count_cache_layers(model.encoder)
    is_last = count == TIME_STRIDE
    frames: list[Tensor] = []
    for start in range(0, count, pair):
        final = is_last and start + pair == count
        made = model.encoder(pictures[:, :, start : start + pair], feat_cache=memory, feat_idx=[0], final=final)
        if made is not None:
            frames.append(made)
    return _means(model, torch.cat(frames, dim=2)), memory


def _encode_wan22(model: WanVAE22, pictures: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    memory = memory or [None] * count_conv3d(model.encoder)
    frame = model.encoder(patchify(pictures, 2), feat_cache=memory, feat_idx=[0])
    return _means(model, frame), memory


def _means(model: WanVAE | WanVAE22, frames: Tensor) -> Tensor:
    return model.conv1(frames).chunk(2, dim=1)[0]


def _encode_tiny(model: TAEHV, pictures: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # One picture at a time as far as the first layer that joins pictures, as in the host.
    blocks = list(model.encoder)
    memory = memory or [None] * len(blocks)
    waiting: list[list[Tensor]] = [[] for _ in blocks]

    def run(x: Tensor) -> Tensor | None:
        for index, block in enumerate(blocks):
            if isinstance(block, MemBlock):
                past = memory[index]
                memory[index] = x
                x = block(x, past if isinstance(past, Tensor) else torch.zeros_like(x))
            elif isinstance(block, TPool):
                waiting[index].append(x)
                if len(waiting[index]) < block.stride:
                    return None
                x = block(torch.cat(waiting[index]))
                waiting[index] = []
            else:
                x = block(x)
        return x

    frames: list[Tensor] = []
    for picture in pictures.unbind(dim=2):
        if model.patch_size > 1:  # else it would only lay the numbers out anew, and another kernel round otherwise
            picture = torch.nn.functional.pixel_unshuffle(picture, model.patch_size)
        frame = run(picture)
        if frame is not None:
            frames.append(frame)
    return model.process_out(torch.stack(frames, dim=2)), memory
