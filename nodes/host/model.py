"""What is known of a MODEL: its facts, its size, what it cannot be; and the way into its latent space and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import comfy.model_management
from comfy.ldm.wan.model import WanModel, WanSelfAttention
from torch import Tensor

from ...headforcing_core.checkpoint.ar_facts import ARFacts, assumed_facts
from ...headforcing_core.checkpoint.fingerprint import shapes_fingerprints
from ...headforcing_core.families.table import Channels
from ...headforcing_core.kv_memory.memory_plan import FrameOfHead

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


_ATTACHMENT = "head_forcing_facts"


def attach_facts(model: ModelPatcher, facts: ARFacts) -> None:
    """Mark a MODEL, and all clones made of it later, with what is known of it."""
    model.set_attachments(_ATTACHMENT, facts)


def facts_of(model: ModelPatcher) -> ARFacts:
    """What is known of a MODEL: what Load AR Model attached, else what is usual."""
    facts = model.get_attachment(_ATTACHMENT)
    if isinstance(facts, ARFacts):
        return facts
    shapes = {name: tuple(value.shape) for name, value in wan_of(model).state_dict().items()}
    fingerprint, *older = shapes_fingerprints(shapes)
    return assumed_facts(fingerprint, tuple(older), channels_of(model))


def channels_of(model: ModelPatcher) -> Channels:
    """Channels that the model is given and makes."""
    wan = wan_of(model)
    return Channels(wan.patch_embedding.in_channels, wan.out_dim)


def layers_and_heads(model: ModelPatcher) -> tuple[int, int]:
    """Layers of the model and heads a layer."""
    wan = wan_of(model)
    return len(wan.blocks), wan.num_heads


def frame_of_head(model: ModelPatcher, tokens: int) -> FrameOfHead:
    """One frame of so many tokens in one head, in the type that the model computes in."""
    return FrameOfHead(tokens, self_attention_of(model)[0].head_dim, model.model.get_dtype_inference().itemsize)


def weights_bytes(model: ModelPatcher) -> int:
    """Bytes of the model's weights."""
    return model.model_size()


def is_loaded(model: ModelPatcher) -> bool:
    """Whether all of the model is where it computes, so that its first step need not wait for it."""
    return model.loaded_size() >= model.model_size()


def pass_bytes(model: ModelPatcher, frames: int, latent_size: tuple[int, int]) -> int:
    """Bytes that one pass over so many frames takes beside weights and KV memory, as the host reckons."""
    channels = wan_of(model).out_dim
    return round(model.model.memory_required([1, channels, frames, *latent_size]))


def text_width(model: ModelPatcher) -> int:
    """Numbers per token of a text, as the model reads it."""
    return cast("int", wan_of(model).text_embedding[0].in_features)


def latent_in(model: ModelPatcher, samples: Tensor) -> Tensor:
    """From what travels in a LATENT to model space."""
    return model.model.process_latent_in(samples.float())


def latent_out(model: ModelPatcher, latent: Tensor) -> Tensor:
    """From model space to what travels in a LATENT."""
    return model.model.process_latent_out(latent).to(comfy.model_management.intermediate_device())


def wan_of(model: ModelPatcher) -> WanModel:
    return model.model.diffusion_model


def self_attention_of(model: ModelPatcher) -> list[WanSelfAttention]:
    return [cast("WanSelfAttention", block.self_attn) for block in wan_of(model).blocks]
