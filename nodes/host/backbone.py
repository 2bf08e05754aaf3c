"""The seam: a Wan MODEL whose self-attention reads a memory.

The seam is `blocks.{i}.self_attn.forward` as an object patch on a clone of the MODEL. A patched forward finds the run
in `transformer_options` and reads the run's memory; without one it does what it did before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.wan.ar_model import CausalWanModel
from comfy.ldm.wan.model import WanModel, WanSelfAttention
from torch import Tensor
from torch.nn import Module

from ...headforcing_core.families.table import fitting_families
from ...headforcing_core.kv_memory.rollout_memory import RolloutMemory
from ...headforcing_core.rollout.loop import Recipe
from ...headforcing_core.rollout.passes import CLEAN
from ...headforcing_core.rollout.told import NOTHING, Told
from .attention_choice import attention_for, preferred_by
from .guidance import check_attention_patches, without_guidance
from .model import channels_of, self_attention_of, wan_of
from .telling import telling

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..sockets import Conditioning

_RUN = "head_forcing_run"
_FORWARD = "diffusion_model.blocks.{}.self_attn.forward"
_MODULE_NAMES = ("q", "k", "v", "o", "norm_q", "norm_k", "num_heads", "head_dim")


def check_backbone(model: ModelPatcher) -> None:
    """ValueError unless the MODEL is Wan as AR checkpoints are built on, free of what a chunk loop breaks."""
    wan = model.model.diffusion_model
    kind = type(wan).__name__
    if type(wan) not in (WanModel, CausalWanModel) or wan.model_type != "t2v":
        raise ValueError(
            f"The model is a {kind}. The chunk loop feeds AR checkpoints on Wan only. Connect Load AR Model."
        )
    channels = channels_of(model)
    if not fitting_families(channels):
        raise ValueError(
            f"The model takes {channels.given} latent channels and makes {channels.made}, as no known family of AR "
            "models does. Connect Load AR Model with a Self-Forcing checkpoint."
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
    check_attention_patches(model)


def foreign_patches(model: ModelPatcher) -> bool:
    """Whether another node has already replaced the self-attention that a run reads its memory through."""
    return any(_FORWARD.format(layer) in model.object_patches for layer in range(len(wan_of(model).blocks)))


class HostBackbone:
    """A Wan MODEL whose self-attention reads a memory, as the core's Backbone. One guider call a chunk."""

    def __init__(self, model: ModelPatcher, seed: int) -> None:
        check_backbone(model)
        self._model = model.clone()
        self._seed = seed
        self.options: dict[str, object] = {}  # the transformer_options of the pass that is running
        self.preferred: dict[str, Any] = {}  # what the layer that is running adds for the host's attention
        self.attentions: list[str] = []  # the names of those that have computed
        self.memory: RolloutMemory | None = None
        self._patched: dict[str, Module] = {}
        for layer, self_attn in enumerate(self_attention_of(model)):
            self.wrap(_FORWARD.format(layer), self_attn, partial(_patched_forward, layer, self_attn))

    def wrap(
        self, name: str, module: Module, wrapped: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
    ) -> None:
        """Put another forward around that of a module, by the forward's name in the model, until `reading` ends."""
        self._patched[name] = module
        self._model.add_object_patch(name, wrapped(self._model.get_model_object(name)))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """The host's attention, with whatever kernel or override the artist chose; where nothing was chosen, by the
        kernel that PyTorch itself would take."""
        name, instead = attention_for(q, self.options, self.preferred)
        if name not in self.attentions:
            self.attentions.append(name)
        if instead is not None:
            return instead(q, k, v, heads)
        return optimized_attention(q, k, v, heads=heads, transformer_options=self.options, **self.preferred)

    @contextmanager
    def reading(self, memory: RolloutMemory, expected_bytes: int) -> Iterator[None]:
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
            self.options = self.preferred = {}
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
            options = cast("dict[str, object]", extra_args["model_options"]["transformer_options"])
            options[_RUN] = self
            each = x.new_ones([x.shape[0]])
            # what is kept of a finished chunk must be of the pass over it, not of one that a guidance adds after it
            unguided = {**extra_args, "model_options": without_guidance(extra_args["model_options"])}

            def predict(x: Tensor, sigma: Tensor, told: Told = NOTHING) -> Tensor:
                with telling(options, told):
                    return model(x, sigma * each, **(unguided if sigma is CLEAN else extra_args))

            finished.append(recipe(predict, x, sigmas))
            return finished[0]

        guider = comfy.samplers.CFGGuider(self._model)
        guider.inner_set_conds({"positive": text})
        guider.sample(
            noise, torch.zeros_like(noise), comfy.samplers.KSAMPLER(sampler), sigmas, disable_pbar=True, seed=self._seed
        )
        return finished[0]

    def _take_out(self) -> None:
        """Put the model's own forwards back at once, rather than when the host next loads it."""
        patches = self._model.object_patches
        if any(module.__dict__.get("forward") is patches[name] for name, module in self._patched.items()):
            self._model.unpatch_model(unpatch_weights=False)
        for module in self._patched.values():
            left = module.__dict__.get("forward")
            if getattr(left, "__func__", None) is type(module).forward:
                del module.forward  # the class's own method, left behind as an attribute


def run_in(options: Mapping[str, object]) -> HostBackbone | None:
    """The run that a pass under these transformer_options is of, if it is of one."""
    run = options.get(_RUN)
    return run if isinstance(run, HostBackbone) else None


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
        run = run_in(options)
        if run is None or run.memory is None:
            return original(x, freqs, *args, transformer_options=options, **kwargs)
        run.options, run.preferred = options, preferred_by(self_attn)
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
    "Callable[[RolloutMemory, int, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]",
    torch.compiler.disable(lambda memory, *given: memory.attend(*given)),
)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """The host's rotary kernel, as the core's Rotate."""
    return apply_rope1(x, rotation)
