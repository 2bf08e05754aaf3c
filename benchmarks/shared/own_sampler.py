"""The host's own AR sampler (the node SamplerARVideo), unchanged, with its caches filled up to any chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.shared.host_process import TEXT_DIM, build_model, make_text, model_shape
from benchmarks.shared.stage import CHUNK_FRAMES, Size
from headforcing_core.geometry import WAN21

if TYPE_CHECKING:
    from comfy.ldm.wan.ar_model import CausalWanModel
    from comfy.model_patcher import ModelPatcher


class Cache(TypedDict):
    """One layer's cache as the host makes it: k, v (batch, tokens, heads, head_dim), filled up to token `end`."""

    k: Tensor
    v: Tensor
    end: int


class OwnSamplerModel:
    """A MODEL that no one patches, for the host's sampler."""

    def __init__(self, layers: int, heads: int, size: Size, text_tokens: int, text_dim: int = TEXT_DIM) -> None:
        self.model: ModelPatcher = build_model(model_shape(layers, heads), text_dim)
        self.size = size
        self.text = make_text(text_tokens, text_dim)

    @property
    def wan(self) -> CausalWanModel:
        """The diffusion model."""
        return cast("CausalWanModel", self.model.model.diffusion_model)


class OwnSamplerAt:
    """The sampler at one chunk. Its caches are made as it makes them, for the video up to the end of that chunk, and
    hold numbers of unit size for all frames before it."""

    def __init__(self, on: OwnSamplerModel, chunk: int) -> None:
        self._on = on
        self._past = chunk * CHUNK_FRAMES * on.size.tokens
        tokens = self._past + CHUNK_FRAMES * on.size.tokens
        dtype = on.model.model.get_dtype()
        self._caches: list[Cache] = on.wan.init_kv_caches(1, tokens, on.model.load_device, dtype)
        for cache in self._caches:
            cache["k"].normal_()
            cache["v"].normal_()

    @property
    def kv_bytes(self) -> int:
        """Bytes of K and V of all frames up to the end of the chunk."""
        return sum(cache["k"].nbytes + cache["v"].nbytes for cache in self._caches)

    def make(self) -> Tensor:
        """Make the chunk: the sampler's whole function through the guider, four steps and the pass that commits."""
        import comfy.samplers

        noise = torch.zeros(1, WAN21.channels, CHUNK_FRAMES, *self._on.size.latent)
        levels = comfy.samplers.calculate_sigmas(self._on.model.get_model_object("model_sampling"), "simple", 4)
        sampler = comfy.samplers.ksampler("ar_video", {"num_frame_per_block": CHUNK_FRAMES})
        guider = comfy.samplers.CFGGuider(self._on.model)
        guider.inner_set_conds({"positive": self._on.text})
        with patch.object(self._on.wan, "init_kv_caches", lambda *_: self._rewound()), torch.inference_mode():
            return guider.sample(torch.randn_like(noise), noise, sampler, levels, disable_pbar=True, seed=0)

    def _rewound(self) -> list[Cache]:
        for cache in self._caches:
            cache["end"] = self._past
        return self._caches


def own_kv_bytes(layers: int, dim: int, size: Size, chunks: int, element_bytes: int) -> int:
    """Arithmetic of what the sampler allocates before its first step: K and V of every frame of the video."""
    return 2 * layers * dim * element_bytes * size.tokens * chunks * CHUNK_FRAMES
