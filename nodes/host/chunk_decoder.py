"""A latent decoded as it comes, some frames at a time, to the pictures that the host's VAE makes of the whole.

What a decoder remembers of the past travels from call to call, so memory does not grow with the video.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import product

import comfy.model_management
import comfy.utils
import torch
from comfy.ldm.wan.vae import WanVAE, count_cache_layers
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV, MemBlock, TGrow
from torch import Tensor

Memory = list[Tensor | str | None]  # by layer: the last frames that it saw, or a mark of the host; at first empty

_TILE, _OVERLAP = 32, 8  # latent pixels, as the host's own fallback
_WAN_CARRIES, _TINY_CARRIES = 24.63, 84  # numbers a pixel: for each channel of Wan's last layers; of the tiny decoder
_CARRYING = 5  # frames from which on the host's estimate counts what a decoder carries

log = logging.getLogger(__name__)


def can_stream(vae: VAE) -> bool:
    """Whether ChunkDecoder knows how this VAE's decoder remembers; any other VAE must decode a latent as a whole."""
    return _decode_of(vae) is not None


class ChunkDecoder:
    """Decodes one latent in pieces. A picture is final when it is returned: no decoder looks ahead.

    Between calls it holds, at Wan 2.1's width, about 2360 numbers a pixel on the VAE's device. With `tiled`, or once
    memory ran out, it decodes in spatial tiles, blended as the host's tiled decode, and holds theirs in main memory.
    ValueError for a VAE that cannot stream.
    """

    def __init__(self, vae: VAE, tiled: bool = False) -> None:
        decode = _decode_of(vae)
        if decode is None:
            raise ValueError(
                f"vae decodes with {type(vae.first_stage_model).__name__}, of which it is not known what it remembers. "
                "It cannot decode a latent in pieces. Decode the whole latent, or load wan_2.1_vae.safetensors."
            )
        self._vae = vae
        self._decode = decode
        self._tiled = tiled
        self._memories: list[Memory] = []  # one a tile; a single one for the whole picture; none before the first frame

    @property
    def held_bytes(self) -> int:
        """Bytes of what is remembered between calls."""
        tensors = (entry for memory in self._memories for entry in memory if isinstance(entry, Tensor))
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def expected_bytes(self, width: int, height: int) -> int:
        """What `held_bytes` will be for a whole picture of a size in pixels, before anything is decoded."""
        model = self._vae.first_stage_model
        each = _WAN_CARRIES * model.dim if isinstance(model, WanVAE) else _TINY_CARRIES
        return round(each * width * height * self._vae.vae_dtype.itemsize)

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """The next frames of a LATENT, (1, channels, frames, height, width), as pictures, (pictures, height, width, 3),
        on the device and in the type of the host's `VAE.decode`: 4 a frame, 1 for the first frame of all. When it
        raises, for instance by an interrupt, what was remembered before the call still stands."""
        with comfy.model_management.cuda_device_context(self._vae.device):
            pictures = None if self._tiled else self._decode_whole(latent)
            if pictures is None:
                pictures = self._decode_tiles(latent)
        return self._vae.process_output(pictures)[0].movedim(0, -1)

    def close(self) -> None:
        """Forget the video; the next frames begin another one."""
        self._memories = []

    def _decode_whole(self, latent: Tensor) -> Tensor | None:
        try:
            self._load(*latent.shape[-2:])
            pictures, memory = self._run(latent, self._memories[0] if self._memories else [])
        except Exception as error:
            comfy.model_management.raise_non_oom(error)
        else:
            self._memories = [memory]
            return pictures
        # after the handler, since the exception holds what was allocated
        log.warning("Head forcing: out of memory when decoding; the rest of the video is decoded in tiles")
        comfy.model_management.soft_empty_cache()
        self._tiled = True
        if self._memories:
            whole, device = self._memories[0], self._vae.output_device
            self._memories = [_cut(whole, latent.shape[-1], tile, device) for tile in _tiles(latent)]
        return None

    def _decode_tiles(self, latent: Tensor) -> Tensor:
        vae = self._vae
        self._load(*(min(size, _TILE) for size in latent.shape[-2:]))
        is_first = not self._memories
        memories = iter(self._memories or [[] for _ in _tiles(latent)])
        after: list[Memory] = []

        def decode_tile(tile: Tensor) -> Tensor:
            pictures, memory = self._run(tile, next(memories))
            after.append(_moved(memory, vae.output_device))
            return pictures

        pictures = comfy.utils.tiled_scale_multidim(
            latent,
            decode_tile,
            tile=(latent.shape[2], _TILE, _TILE),
            overlap=(0, _OVERLAP, _OVERLAP),  # type: ignore[arg-type]
            upscale_amount=vae.upscale_ratio if is_first else vae.upscale_index_formula,  # type: ignore[arg-type]
            out_channels=vae.output_channels,
            index_formulas=vae.upscale_index_formula,
            output_device=vae.output_device,  # type: ignore[arg-type]
        )
        self._memories = after
        return pictures

    def _run(self, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        vae = self._vae
        pictures, memory = self._decode(latent.to(vae.device, vae.vae_dtype), memory)
        return pictures.to(vae.output_device, vae.vae_output_dtype()), memory

    def _load(self, height: int, width: int) -> None:
        vae = self._vae
        memory_used = vae.memory_used_decode((1, vae.latent_channels, _CARRYING, height, width), vae.vae_dtype)
        comfy.model_management.load_models_gpu(
            [vae.patcher], memory_required=int(memory_used), force_full_load=vae.disable_offload
        )


def _decode_of(vae: VAE) -> Callable[[Tensor, Memory], tuple[Tensor, Memory]] | None:
    model = vae.first_stage_model if type(vae) is VAE else None
    if type(model) is WanVAE:
        return partial(_decode_wan, model)
    if type(model) is TAEHV:
        return partial(_decode_tiny, model)
    return None


def _decode_wan(model: WanVAE, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # The host decodes the first frame alone, then pairs. A pair refills every layer's memory of two frames; a single
    # frame leaves one in the layers before the first doubling in time, so the older one is put back before it.
    latent = model.conv2(latent)
    first = [] if memory else [1]
    singles, pairs = (latent.shape[2] - len(first)) % 2, (latent.shape[2] - len(first)) // 2
    memory = list(memory) or [None] * count_cache_layers(model.decoder)
    pictures: list[Tensor] = []
    for frames in latent.split([*first, *singles * [1], *pairs * [2]], dim=2):
        before = list(memory) if frames.shape[2] == 1 else []
        pictures += model.decoder(frames, feat_cache=memory, feat_idx=[0])
        for layer, old in enumerate(before):
            new = memory[layer]
            if isinstance(old, Tensor) and isinstance(new, Tensor) and new.shape[2] == 1:
                memory[layer] = torch.cat([old[:, :, -1:].to(new), new], dim=2)
    return torch.cat(pictures, dim=2), memory


def _decode_tiny(model: TAEHV, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    # One frame at a time through all blocks, so that only the frames of one doubling are held, as in the host.
    blocks = list(model.decoder)
    is_first = not memory
    memory = list(memory) or [None] * len(blocks)
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
        pictures.append(x)

    for frame in model.process_in(latent)[0].movedim(1, 0).split(1):
        run(frame, 0)
    skipped = model.frames_to_trim if is_first else 0
    return torch.cat(pictures[skipped:]).movedim(0, 1)[None], memory


def _tiles(latent: Tensor) -> list[tuple[int, int, int, int]]:
    """Top, height, left and width of each tile, in the order in which the host takes them."""
    rows, columns = (_spans(size) for size in latent.shape[-2:])
    return [(*row, *column) for row, column in product(rows, columns)]


def _spans(size: int) -> list[tuple[int, int]]:
    starts = range(0, size - _OVERLAP, _TILE - _OVERLAP) if size > _TILE else range(1)
    return [(start, min(_TILE, size - start)) for start in starts]


def _cut(memory: Memory, latent_width: int, tile: tuple[int, int, int, int], device: torch.device) -> Memory:
    def cut(entry: Tensor | str | None) -> Tensor | str | None:
        if not isinstance(entry, Tensor):
            return entry
        top, height, left, width = (edge * (entry.shape[-1] // latent_width) for edge in tile)
        return entry[..., top : top + height, left : left + width].to(device)

    return [cut(entry) for entry in memory]


def _moved(memory: Memory, device: torch.device) -> Memory:
    return [entry.to(device) if isinstance(entry, Tensor) else entry for entry in memory]
