"""A latent decoded as it comes, some frames at a time, to the pictures that the host's VAE makes of the whole.

What a decoder remembers of the past travels from call to call, so memory does not grow with the video.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import comfy.model_management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from .decoders import decoder_of
from .vae_memory import Memory, held_bytes, moved

_TILE = 256  # pixels, of which neighbours share a quarter, as in the host's own fallback
REACH = 40  # frames; what a decoder remembers depends on 38 of them at most
_CARRYING = 5  # frames from which on the host's estimate counts what a decoder carries

log = logging.getLogger(__name__)


def can_stream(vae: VAE) -> bool:
    """Whether ChunkDecoder knows how this VAE's decoder remembers; any other VAE must decode a latent as a whole."""
    return decoder_of(vae) is not None


class ChunkDecoder:
    """Decodes one latent in pieces. A picture is final when it is returned: no decoder looks ahead.

    Between calls it holds on the VAE's device about 2360 numbers a pixel at Wan 2.1's width, 1780 at Wan 2.2's. With
    `tiled`, or once memory ran out, it decodes in spatial tiles, blended as the host's tiled decode, and holds theirs
    in main memory. What is held is handed over to each decode, layer by layer, since two copies would not fit a small
    card; should one fail, it is made again from the last latents before the next.
    ValueError for a VAE that cannot stream.
    """

    def __init__(self, vae: VAE, tiled: bool = False) -> None:
        decoder = decoder_of(vae)
        if decoder is None:
            raise ValueError(
                f"vae decodes with {type(vae.first_stage_model).__name__}, of which it is not known what it remembers. "
                "It cannot decode a latent in pieces. Decode the whole latent, or load wan_2.1_vae.safetensors, or "
                "wan2.2_vae.safetensors for a model of 48 channels."
            )
        self._vae = vae
        self._decoder = decoder
        self._side: int = vae.spacial_compression_decode()  # type: ignore[assignment]  # pixels of a latent pixel
        self._tile = _TILE // self._side
        self._tiled = tiled
        self._memories: list[Memory] = []  # one a tile; a single one for the whole picture; none before the first frame
        self._seen: list[Tensor] = []  # the last latents that were decoded

    @property
    def held_bytes(self) -> int:
        """Bytes of what is remembered between calls."""
        return sum(map(held_bytes, self._memories))

    def expected_bytes(self, width: int, height: int) -> int:
        """What `held_bytes` will be for a whole picture of a size in pixels, before anything is decoded."""
        return round(self._decoder.carries * width * height * self._vae.vae_dtype.itemsize)

    def decode(self, latent: Tensor) -> Tensor:
        """The next frames of a LATENT, (1, channels, frames, height, width), as pictures, (pictures, height, width, 3),
        on the device and in the type of the host's `VAE.decode`: 4 a frame, 1 for the first frame of all. When it
        raises, for instance by an interrupt, the same frames can be decoded again."""
        self.load(latent)
        return self.decode_loaded(latent)

    def load(self, latent: Tensor) -> None:
        """Have the VAE loaded, and room made for what decoding the next frames takes beyond what is held already."""
        size = latent.shape[-2:]
        if not self._tiled:
            try:
                self._make_room(size, self.held_bytes)
            except Exception as error:
                comfy.model_management.raise_non_oom(error)
            else:
                return
            self._go_over_to_tiles()
        self._make_room([min(side, self._tile) for side in size], 0)  # the memory of tiles is not on the VAE's device

    def _make_room(self, size: Sequence[int], held: int) -> None:
        vae = self._vae
        of_host = vae.memory_used_decode((1, vae.latent_channels, _CARRYING, *size), vae.vae_dtype)
        counted = self._decoder.takes * math.prod(size) * self._side**2 * vae.vae_dtype.itemsize
        needed = int(min(of_host, counted))  # the host's own decode holds two copies of what is remembered
        with comfy.model_management.cuda_device_context(vae.device):
            comfy.model_management.load_models_gpu(
                [vae.patcher], memory_required=max(0, needed - held), force_full_load=vae.disable_offload
            )

    @torch.inference_mode()
    def decode_loaded(self, latent: Tensor) -> Tensor:
        """As `decode`, right after `load`; it loads no model, so it may run in another thread."""
        with comfy.model_management.cuda_device_context(self._vae.device):
            pictures = None if self._tiled else self._decode_whole(latent)
            if pictures is None:
                pictures = self._go_on(latent, self._run_tiles)
        self._seen.append(latent.clone())
        while sum(seen.shape[2] for seen in self._seen[1:]) >= REACH:
            del self._seen[0]
        return pictures[0].movedim(0, -1)

    def close(self) -> None:
        """Forget the video; the next frames begin another one."""
        self._memories, self._seen = [], []

    def _decode_whole(self, latent: Tensor) -> Tensor | None:
        try:
            return self._go_on(latent, self._run_whole)
        except Exception as error:
            comfy.model_management.raise_non_oom(error)
        self._go_over_to_tiles()
        return None

    def _go_over_to_tiles(self) -> None:
        """After the handler of an error, since that holds what was allocated."""
        log.warning("Head forcing: out of memory when decoding; the rest of the video is decoded in tiles")
        comfy.model_management.soft_empty_cache()
        self._tiled, self._memories = True, []

    def _go_on(self, latent: Tensor, run: Callable[[Tensor, list[Memory]], tuple[Tensor, list[Memory]]]) -> Tensor:
        """Pictures of the next frames, after those before them once more if what they left is lost."""
        memories, self._memories = self._memories, []
        for before in self._seen if not memories else ():
            memories = run(before, memories)[1]
        pictures, self._memories = run(latent, memories)
        return pictures

    def _run_whole(self, latent: Tensor, memories: list[Memory]) -> tuple[Tensor, list[Memory]]:
        vae = self._vae
        pictures, memory = self._run(latent, memories.pop() if memories else [])
        return vae.process_output(pictures).to(vae.output_device), [memory]

    def _run_tiles(self, latent: Tensor, memories: list[Memory]) -> tuple[Tensor, list[Memory]]:
        vae = self._vae
        is_first = not memories
        after: list[Memory] = []

        def decode_tile(tile: Tensor) -> Tensor:
            pictures, memory = self._run(tile, [] if is_first else memories.pop(0))
            after.append(moved(memory, vae.output_device))
            return pictures.to(vae.output_device)

        pictures = comfy.utils.tiled_scale_multidim(
            latent,
            decode_tile,
            tile=(latent.shape[2], self._tile, self._tile),
            overlap=(0, self._tile // 4, self._tile // 4),  # type: ignore[arg-type]
            upscale_amount=vae.upscale_ratio if is_first else vae.upscale_index_formula,  # type: ignore[arg-type]
            out_channels=vae.output_channels,
            index_formulas=vae.upscale_index_formula,
            output_device=vae.output_device,  # type: ignore[arg-type]
        )
        return vae.process_output(pictures), after

    def _run(self, latent: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        vae = self._vae
        pictures, memory = self._decoder.decode(latent.to(vae.device, vae.vae_dtype), memory)
        return pictures.to(vae.vae_output_dtype()), memory
