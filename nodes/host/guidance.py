"""What other nodes add to a step of the model, or change about it: guidance, noise levels, places in time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from comfy.model_sampling import CONST, ModelSamplingDiscreteFlow

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_GUIDANCE = (
    "sampler_calc_cond_batch_function",
    "sampler_pre_cfg_function",
    "sampler_cfg_function",
    "sampler_post_cfg_function",
)
_WITH_A_NEGATIVE = "disable_cfg1_optimization"
_TIMESTEPS = 1000  # the noise levels 0 to 1 as Wan is told them
_PLACES = "diffusion_model.rope_embedder"


def without_guidance(model_options: Mapping[str, object]) -> dict[str, object]:
    """A MODEL's options under which a step is one pass of the model; transformer options are the same object."""
    return {name: value for name, value in model_options.items() if name not in _GUIDANCE}


def check_attention_patches(model: ModelPatcher) -> None:
    """ValueError for a patch of self-attention that is called as in picture models, which the first step would hit."""
    options = cast("Mapping[str, Mapping[str, list[Callable[..., object]]]]", model.model_options)
    patches = cast("Mapping[str, list[Callable[..., object]]]", options["transformer_options"].get("patches", {}))
    for patch in patches.get("attn1_patch", ()):
        try:
            inspect.signature(patch).bind({})
        except TypeError as error:
            raise ValueError(
                "A node before the sampler patches attention as in picture models, as ToMe does. Wan calls its patches "
                "in another way. Take that node out."
            ) from error


def told_of_nodes_between(model: ModelPatcher) -> tuple[str, ...]:
    """Sentences for the report on what other nodes set on a MODEL that does nothing in a chunk loop, or harm."""
    notes: list[str] = []
    if any(name in model.model_options for name in (*_GUIDANCE, _WITH_A_NEGATIVE)):
        notes.append(
            "Another node guides the steps, as CFG-Zero, NAG or skip-layer guidance do. A chunk is made at CFG 1 under "
            "one text: what that node takes from a negative prompt changes nothing."
        )
    if _changes_time(model):
        notes.append(
            "Another node changes where frames stand in time, as RIFLEx and ScaleROPE do. In this run rope of Head "
            "Cache Policy places them, so that change does nothing."
        )
    levels = model.get_model_object("model_sampling")
    is_flow = isinstance(levels, ModelSamplingDiscreteFlow) and isinstance(levels, CONST)
    if not is_flow or levels.multiplier != _TIMESTEPS:
        notes.append(
            "Another node changes how the model is told its noise levels, to those of another kind of model: expect a "
            "poor picture. Take that model sampling node out; ModelSamplingSD3 may stay, it changes nothing here."
        )
    return tuple(notes)


def _changes_time(model: ModelPatcher) -> bool:
    options = cast("Mapping[str, object]", model.model_options.get("transformer_options", {}))
    rope = cast("Mapping[str, float]", options.get("rope_options", {}))
    return rope.get("scale_t", 1.0) != 1.0 or rope.get("shift_t", 0.0) != 0.0 or _PLACES in model.object_patches
