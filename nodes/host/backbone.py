"""The only contact with ComfyUI's insides: the model, its self-attention, its guider and its memory.

The seam is `blocks.{i}.self_attn.forward` as an object patch on a clone of a Wan 2.1 MODEL. A patched forward finds the
run in `transformer_options` and reads the run's KVMemory; without one it does what it did before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.wan.ar_model import CausalWanModel
from comfy.ldm.wan.model import WanModel, WanSelfAttention
from torch import Tensor

from ...headforcing_core.checkpoint.families import ARFacts, assumed_facts, shapes_fingerprint
from ...headforcing_core.geometry import LATENT_CHANNELS
from ...headforcing_core.kv_memory.memory import KVMemory
from ...headforcing_core.rollout.loop import Recipe

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..sockets import Conditioning

Result = TypeVar("Result")

_ATTACHMENT = "head_forcing_facts"
_RUN = "head_forcing_run"
_FORWARD = "diffusion_model.blocks.{}.self_attn.forward"
_MODULE_NAMES = ("q", "k", "v", "o", "norm_q", "norm_k", "num_heads", "head_dim")


def attach_facts(model: ModelPatcher, facts: ARFacts) -> None:
    """Mark a MODEL, and all clones made of it later, with what is known of it."""
    model.set_attachments(_ATTACHMENT, facts)


def facts_of(model: ModelPatcher) -> ARFacts:
    """What is known of a MODEL: what Load AR Model attached, else what is usual."""
    facts = model.get_attachment(_ATTACHMENT)
    if isinstance(facts, ARFacts):
        return facts
    shapes = {name: tuple(value.shape) for name, value in _wan(model).state_dict().items()}
    return assumed_facts(shapes_fingerprint(shapes))


def check_backbone(model: ModelPatcher) -> None:
    """ValueError unless the MODEL is Wan 2.1 text-to-video as this pack knows it, free of what a chunk loop breaks."""
    wan = model.model.diffusion_model
    kind = type(wan).__name__
    if type(wan) not in (WanModel, CausalWanModel) or wan.model_type != "t2v":
        raise ValueError(
            f"The model is a {kind}. The chunk loop feeds Wan 2.1 text-to-video models only. Connect Load AR Model."
        )
    if wan.patch_embedding.in_channels != LATENT_CHANNELS:
        raise ValueError(
            f"The model takes {wan.patch_embedding.in_channels} latent channels. Wan 2.1 text-to-video takes "
            f"{LATENT_CHANNELS}. Connect Load AR Model with a Self-Forcing checkpoint."
        )
    missing = [name for name in _MODULE_NAMES if not hasattr(wan.blocks[0].self_attn, name)]
    if missing:
        raise RuntimeError(
            f"The self-attention of this ComfyUI lacks {', '.join(missing)}. It is newer than this pack. "
            "Update the pack."
        )
    if model.get_additional_models_with_key("multigpu"):
        raise ValueError(
            "The model is spread over several GPUs. The memory of a run lives on one. Remove the multi-GPU node before "
            "the sampler."
        )
    if "context_handler" in model.model_options:
        raise ValueError(
            "The model has context windows. They cut the video across the chunk loop. Remove the context "
            "windows node before the sampler."
        )


def foreign_patches(model: ModelPatcher) -> bool:
    """Whether another node has already replaced the self-attention that a run reads its memory through."""
    return any(_FORWARD.format(layer) in model.object_patches for layer in range(len(_wan(model).blocks)))


def layers_and_heads(model: ModelPatcher) -> tuple[int, int]:
    """Layers of the model and heads a layer."""
    wan = _wan(model)
    return len(wan.blocks), wan.num_heads


def frame_head_bytes(model: ModelPatcher, tokens: int) -> int:
    """Bytes of K and V of one frame in one head, in the type that the model computes in."""
    dtype = model.model.get_dtype_inference()
    return 2 * tokens * _self_attention(model)[0].head_dim * torch.empty((), dtype=dtype).element_size()


def weights_bytes(model: ModelPatcher) -> int:
    """Bytes of the model's weights."""
    return model.model_size()


def pass_bytes(model: ModelPatcher, frames: int, latent_size: tuple[int, int]) -> int:
    """Bytes that one pass over so many frames takes beside weights and KV memory, as the host reckons."""
    return round(model.model.memory_required([1, LATENT_CHANNELS, frames, *latent_size]))


def text_width(model: ModelPatcher) -> int:
    """Numbers per token of a text, as the model reads it."""
    return cast("int", _wan(model).text_embedding[0].in_features)


def latent_in(model: ModelPatcher, samples: Tensor) -> Tensor:
    """From what travels in a LATENT to model space."""
    return model.model.process_latent_in(samples.float())


def latent_out(model: ModelPatcher, latent: Tensor) -> Tensor:
    """From model space to what travels in a LATENT."""
    return model.model.process_latent_out(latent).to(comfy.model_management.intermediate_device())


def explaining_out_of_memory(work: Callable[[], Result], explanation: Callable[[], str]) -> Result:
    """What the work gives. When the memory runs out, that is said in our words, in the host's kind of error, on which
    it unloads its models; `explanation` is asked when all that the work held is gone."""
    try:
        return work()
    except Exception as error:
        comfy.model_management.raise_non_oom(error)
    # Only now is the error gone, and with it every tensor of the failed pass. A context manager could not do this.
    comfy.model_management.soft_empty_cache()
    raise comfy.model_management.OOM_EXCEPTION(explanation())


def free_bytes(model: ModelPatcher | None = None) -> int:
    """Memory that is free on the device that the model computes on; without one, on which the host puts models."""
    return cast("int", comfy.model_management.get_free_memory(model.load_device if model else None))


def total_bytes(model: ModelPatcher | None = None) -> int:
    """All memory of the device that the model computes on; without one, on which the host puts models."""
    return cast("int", comfy.model_management.get_total_memory(model.load_device if model else None))


class HostBackbone:
    """A Wan MODEL whose self-attention reads a KVMemory, as the core's Backbone. One guider call a chunk."""

    def __init__(self, model: ModelPatcher, seed: int) -> None:
        check_backbone(model)
        self._model = model.clone()
        self._seed = seed
        self.options: dict[str, object] = {}  # the transformer_options of the pass that is running
        self.memory: KVMemory | None = None
        for layer, self_attn in enumerate(_self_attention(model)):
            name = _FORWARD.format(layer)
            original = cast("Callable[..., Tensor]", self._model.get_model_object(name))
            self._model.add_object_patch(name, _patched_forward(layer, self_attn, original))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """The host's attention, with whatever kernel or override the artist chose."""
        return optimized_attention(q, k, v, heads=heads, transformer_options=self.options)

    @contextmanager
    def reading(self, memory: KVMemory, expected_bytes: int) -> Iterator[None]:
        """Let the model read `memory` and tell the host's memory management what it will take; on leaving, take every
        patch out of the model."""
        self.memory = memory

        def with_memory(
            executor: Callable[..., object],
            model: ModelPatcher,
            noise_shape: list[int],
            *args: object,
            **kwargs: object,
        ) -> object:
            if memory.kv_bytes:  # allocated by now, so the host sees it as used
                return executor(model, noise_shape, *args, **kwargs)
            batch, channels, frames, *size = noise_shape
            one_frame = model.model.memory_required([batch, channels, 1, *size])
            wider = frames + math.ceil(expected_bytes / max(1, one_frame))
            return executor(model, [batch, channels, wider, *size], *args, **kwargs)

        wrapper = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
        self._model.add_wrapper_with_key(wrapper, _RUN, with_memory)
        comfy.model_management.soft_empty_cache()  # what PyTorch has put by is free memory to the host's weights
        try:
            yield
        finally:
            self.memory = None
            self.options = {}
            memory.release()
            self._model.remove_wrappers_with_key(wrapper, _RUN)
            self._take_out()
            comfy.model_management.soft_empty_cache()

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: Conditioning) -> Tensor:
        """Run a recipe inside the host's sampling; the result stays in model space."""
        finished: list[Tensor] = []

        def sampler(
            model: Callable[..., Tensor],
            x: Tensor,
            sigmas: Tensor,
            extra_args: dict[str, dict[str, object]],
            callback: object,
            disable: object,
        ) -> Tensor:
            cast("dict[str, object]", extra_args["model_options"]["transformer_options"])[_RUN] = self
            each = x.new_ones([x.shape[0]])
            finished.append(recipe(lambda x, sigma: model(x, sigma * each, **extra_args), x, sigmas))
            return finished[0]

        guider = comfy.samplers.CFGGuider(self._model)
        guider.inner_set_conds({"positive": text})
        guider.sample(
            noise, torch.zeros_like(noise), comfy.samplers.KSAMPLER(sampler), sigmas, disable_pbar=True, seed=self._seed
        )
        return finished[0]

    def _take_out(self) -> None:
        """Put the model's own forwards back at once, rather than when the host next loads it."""
        modules = _self_attention(self._model)
        ours = [self._model.object_patches[_FORWARD.format(layer)] for layer in range(len(modules))]
        if any(module.__dict__.get("forward") in ours for module in modules):
            self._model.unpatch_model(unpatch_weights=False)
        for module in modules:
            left = module.__dict__.get("forward")
            if getattr(left, "__func__", None) is type(module).forward:
                del module.forward  # the class's own method, left behind as an attribute


def _patched_forward(layer: int, self_attn: WanSelfAttention, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # It finds the run in transformer_options and does not hold it: patches live in the model's patcher, which the run
    # holds. Arguments beyond the first two are the host's own affair: its causal class has one more than its plain one.
    def forward(
        x: Tensor,
        freqs: Tensor,
        *args: object,
        transformer_options: dict[str, object] | None = None,
        **kwargs: object,
    ) -> Tensor:
        options = transformer_options or {}
        run = options.get(_RUN)
        if not isinstance(run, HostBackbone) or run.memory is None:
            return original(x, freqs, *args, transformer_options=options, **kwargs)
        run.options = options
        per_head = (self_attn.num_heads, self_attn.head_dim)
        q = self_attn.norm_q(self_attn.q(x)).unflatten(2, per_head)
        k = self_attn.norm_k(self_attn.k(x)).unflatten(2, per_head)
        v = self_attn.v(x).unflatten(2, per_head)  # (batch, tokens, heads, head_dim)
        out, q = _attend(run.memory, layer, q, k, v, freqs)
        patches = cast("dict[str, list[Callable[..., Tensor]]]", options.get("patches", {})).get("attn1_patch", [])
        if patches:
            k = run.memory.turn_in_place(k, freqs)
        for patch in patches:
            out = patch({"x": out, "q": q, "k": k, "transformer_options": options})
        return self_attn.o(out)

    return forward


# What a memory does changes from chunk to chunk; the layers around it do not, and those are worth compiling.
_attend = cast(
    "Callable[[KVMemory, int, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]",
    torch.compiler.disable(KVMemory.attend),
)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """The host's rotary kernel, as the core's Rotate."""
    return apply_rope1(x, rotation)


def _wan(model: ModelPatcher) -> WanModel:
    return model.model.diffusion_model


def _self_attention(model: ModelPatcher) -> list[WanSelfAttention]:
    return [cast("WanSelfAttention", block.self_attn) for block in _wan(model).blocks]
