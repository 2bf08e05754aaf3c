"""Pictures encoded as they come, to the latent that the host's VAE makes of the whole video.

What an encoder remembers of the past travels from call to call, so memory does not grow with the video.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

import comfy.model_management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from ...headforcing_core.geometry import TIME_STRIDE
from .encoders import encoder_of
from .vae_memory import Memory, cut_out, held_bytes, moved

_TILE, _OVERLAP = 256, 64  # pixels, as the host's own fallback

log = logging.getLogger(__name__)


class ChunkEncoder:
    """Encodes one video in pieces. A frame is final when it is returned, though a few pictures after it may be read.

    A video whose pictures do not fill its last frame goes on with its last picture, so none is lost; the host's own
    encode of Wan's VAEs leaves up to three out. What is remembered between calls lies in main memory: the card is the
    model's, and a call that fails, for instance by an interrupt, can be made again. With `tiled`, or once memory ran
    out, it encodes in spatial tiles, blended as in the host: near their edges, a quarter of a tile wide, the latent
    differs from that of whole pictures.
    ValueError for a VAE that cannot go on.
    """

    def __init__(self, vae: VAE, tiled: bool = False) -> None:
        encoder = encoder_of(vae)
        if encoder is None:
            raise ValueError(
                f"vae encodes with {type(vae.first_stage_model).__name__}, of which it is not known what it remembers. "
                "It cannot encode a video in pieces. Load wan_2.1_vae.safetensors, or wan2.2_vae.safetensors for a "
                "model of 48 channels."
            )
        self._vae = vae
        self._encoder = encoder
        self._tiled = tiled
        self._memories: list[Memory] = []  # one a tile; a single one for the whole picture; none before the first frame
        self._waiting: list[Tensor] = []  # pictures that are read and not yet encoded
        self._ready: Tensor | None = None  # frames that are not yet asked for; None before the first
        self._is_over = False

    @property
    def first_pictures(self) -> int:
        """Pictures in the first frame; there are TIME_STRIDE in each later one."""
        return self._encoder.first

    @property
    def frames_at_once(self) -> int:
        """Frames after the first that are encoded together."""
        return self._encoder.at_once

    @property
    def held_bytes(self) -> int:
        """Bytes of what is remembered between calls."""
        return sum(map(held_bytes, self._memories))

    def frames(self, pictures: Iterator[Tensor], count: int) -> Tensor:
        """The next `count` frames of the LATENT, (1, channels, frames, height, width), on the device and in the type
        of the host's `VAE.encode`: fewer where the video ends, and none after it. `pictures` are its next ones, each
        (height, width, 3) in 0 to 1; the same iterator each time. ValueError for a video without a picture."""
        while not self._is_over and (self._ready is None or self._ready.shape[2] < count):
            comfy.model_management.throw_exception_if_processing_interrupted()
            self._read_on(pictures)
        if self._ready is None:
            raise ValueError("The video has no pictures. There is nothing to encode. Connect another video.")
        asked, self._ready = self._ready[:, :, :count], self._ready[:, :, count:].clone()
        return asked

    def close(self) -> None:
        """Forget the video; the next pictures begin another one."""
        self._memories, self._waiting, self._ready, self._is_over = [], [], None, False

    def _read_on(self, pictures: Iterator[Tensor]) -> None:
        wanted = self._encoder.first if self._ready is None else self._encoder.at_once * TIME_STRIDE
        self._waiting += islice(pictures, wanted - len(self._waiting))
        is_over, last = len(self._waiting) < wanted, self._waiting[-1:]
        if last:
            missing = -len(self._waiting) % min(wanted, TIME_STRIDE)
            made = self._encode(torch.stack([*self._waiting, *missing * last]))
            self._ready = made if self._ready is None else torch.cat([self._ready, made], dim=2)
        self._waiting, self._is_over = [], is_over

    @torch.inference_mode()
    def _encode(self, pictures: Tensor) -> Tensor:
        vae = self._vae
        pixels = vae.process_input(vae.vae_encode_crop_pixels(pictures).movedim(-1, 0)[None]).to(vae.vae_dtype)
        if not self._tiled:
            try:
                return self._run_whole(pixels)
            except Exception as error:
                comfy.model_management.raise_non_oom(error)
            self._go_over_to_tiles(*pixels.shape[-2:])
        return self._run_tiles(pixels)

    def _go_over_to_tiles(self, height: int, width: int) -> None:
        """After the handler of an error, since that holds what was allocated."""
        log.warning("Head forcing: out of memory when encoding; the rest of the video is encoded in tiles")
        comfy.model_management.soft_empty_cache()
        self._tiled = True
        self._memories = [
            cut_out(memory, height, rows, columns)
            for memory in self._memories
            for rows in _tiles(height)
            for columns in _tiles(width)
        ]

    def _run_whole(self, pixels: Tensor) -> Tensor:
        self._load(pixels.shape[-2] * pixels.shape[-1])
        frames, memory = self._run(pixels, self._memories[0] if self._memories else [])
        self._memories = [memory]
        return frames

    def _run_tiles(self, pixels: Tensor) -> Tensor:
        vae, before, after = self._vae, iter(self._memories), list[Memory]()

        def encode_tile(tile: Tensor) -> Tensor:
            frames, memory = self._run(tile, next(before, []))
            after.append(memory)
            return frames

        self._load(min(pixels.shape[-2], _TILE) * min(pixels.shape[-1], _TILE))
        frames = comfy.utils.tiled_scale_multidim(
            pixels,
            encode_tile,
            tile=(pixels.shape[2], _TILE, _TILE),
            overlap=(0, _OVERLAP, _OVERLAP),  # type: ignore[arg-type]
            upscale_amount=vae.downscale_ratio,  # type: ignore[arg-type]
            out_channels=vae.latent_channels,
            downscale=True,
            index_formulas=vae.downscale_index_formula,
            output_device=vae.output_device,  # type: ignore[arg-type]
        )
        self._memories = after
        return frames

    def _load(self, pixels: int) -> None:
        """Have the VAE loaded, and room made for encoding so many pixels at once."""
        vae = self._vae
        needed = int(self._encoder.takes * pixels * vae.vae_dtype.itemsize)
        with comfy.model_management.cuda_device_context(vae.device):
            comfy.model_management.load_models_gpu(
                [vae.patcher], memory_required=needed, force_full_load=vae.disable_offload
            )

    def _run(self, pixels: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        vae = self._vae
        with comfy.model_management.cuda_device_context(vae.device):
            frames, memory = self._encoder.encode(pixels.to(vae.device), moved(memory, vae.device))
            return frames.to(vae.output_device, vae.vae_output_dtype()), moved(memory, vae.output_device)


def _tiles(side: int) -> list[slice]:
    """The parts of a side of a picture, as the host lays tiles."""
    starts = range(0, side - _OVERLAP, _TILE - _OVERLAP) if side > _TILE else [0]
    return [slice(start, min(start + _TILE, side)) for start in starts]
