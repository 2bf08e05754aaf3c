"""What cannot go to the processes of other cards is refused by name, before anything is started."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.cards.ranks import module
from tests.host.conftest import conditioning

WEIGHT = "diffusion_model.blocks.0.self_attn.q.weight"


@pytest.fixture(scope="module")
def model(load) -> Any:
    return load("self_forcing_dmd.safetensors", lora="tiny_lora.safetensors")


def of_another_pack(*_: object) -> None:
    pass


def _adds(name: str, *arguments: object) -> Callable[[Any], object]:
    return lambda model: getattr(model, name)(*arguments)


def _options(model: Any) -> dict[str, Any]:
    return model.model_options["transformer_options"]


def _changes(change: object, function: object = None) -> Callable[[Any], object]:
    return lambda model: model.patches.update({WEIGHT: [(1.0, change, 1.0, None, function)]})


def _as_another_kind(model: Any) -> None:
    model.__class__ = type("GGUFModelPatcher", (type(model),), {})


def _another_adapter() -> object:
    from comfy.weight_adapter import LoRAAdapter

    return type("TheirAdapter", (LoRAAdapter,), {})(set(), ())


def _other_levels(model: Any) -> None:
    model.add_object_patch("model_sampling", type("TheirLevels", (torch.nn.Module,), {})())


def _hooks(model: Any) -> None:
    import comfy.hooks

    model.hook_patches[comfy.hooks._HookRef()] = {WEIGHT: []}


CARRIED: dict[str, Callable[[Any], object]] = {
    "a diffusion_model.rope_embedder of its own": _adds("add_object_patch", "diffusion_model.rope_embedder", object()),
    "a manual_cast_dtype of its own": _adds("set_model_compute_dtype", torch.float16),
    "a model_sampling of its own": _other_levels,
    "the patch attn1_patch": _adds("set_model_attn1_patch", of_another_pack),
    "the patch attn2_patch": _adds("set_model_attn2_patch", of_another_pack),
    "the patch double_block": _adds("set_model_double_block_patch", of_another_pack),
    "the option patches_replace": _adds("set_model_patch_replace", of_another_pack, "dit", "double_block", 0),
    "the option rope_options": _adds("set_model_rope_options", 1.0, 0.0, 1.0, 0.0, 2.0, 0.0),
    "the option optimized_attention_override": lambda model: _options(model).update(
        optimized_attention_override=of_another_pack
    ),
    "the option model_function_wrapper": _adds("set_model_unet_function_wrapper", of_another_pack),
    "the option sampler_post_cfg_function": _adds("set_model_sampler_post_cfg_function", of_another_pack),
    "the wrapper teacache": _adds("add_wrapper_with_key", "diffusion_model", "teacache", of_another_pack),
    "the wrapper without a name": _adds("add_wrapper", "apply_model", of_another_pack),
    "the callback theirs": _adds("add_callback_with_key", "on_load_after", "theirs", of_another_pack),
    "injections (bypass_lora)": _adds("set_injections", "bypass_lora", [object()]),
    "additional models (multigpu)": _adds("set_additional_models", "multigpu", [object()]),
    "hook patches": _hooks,
    f"weight wrapper patches ({WEIGHT})": _adds("add_weight_wrapper", WEIGHT, of_another_pack),
    f"a change of {WEIGHT} by function": _changes(("diff", (torch.zeros(1),)), of_another_pack),
    f"a change of {WEIGHT} by TheirAdapter": lambda model: _changes(_another_adapter())(model),
    "weights that are held by GGUFModelPatcher": _as_another_kind,
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_model_carries_is_refused_by_its_name(model, name: str) -> None:
    recipe_of, clone = module("nodes.cards.model_recipe").recipe_of, model.clone()
    CARRIED[name](clone)
    with pytest.raises(ValueError) as caught:
        recipe_of(clone)
    told = str(caught.value)
    assert told.startswith("The model carries ") and name in told and "Take that node out." in told


def test_all_that_a_model_carries_is_named_at_once(model) -> None:
    clone = model.clone()
    for name in ("the patch attn2_patch", "the wrapper teacache"):
        CARRIED[name](clone)
    with pytest.raises(ValueError, match="carries the wrapper teacache, the patch attn2_patch. "):
        module("nodes.cards.travelling").check_model_travels(clone)


@pytest.mark.parametrize("how", ["none", "another pack's", "a checkpoint's", "with code"])
def test_a_model_of_another_loader_is_refused(model, how: str) -> None:
    clone = model.clone()
    ours, (path, dtype) = model.cached_patcher_init
    clone.cached_patcher_init = {
        "none": None,
        "another pack's": (of_another_pack, (path,)),
        "a checkpoint's": (ours, (path, dtype), 0),
        "with code": (ours, (path, {"custom_operations": object})),
    }[how]
    with pytest.raises(ValueError, match="loaded in a way that the processes of other cards cannot repeat"):
        module("nodes.cards.model_recipe").recipe_of(clone)


def test_a_recipe_is_the_same_until_the_model_is_another(model, load) -> None:
    recipe_of = module("nodes.cards.model_recipe").recipe_of
    recipe, again = recipe_of(model), recipe_of(model.clone())
    assert recipe.is_same(again) and recipe.loader == "load_ar_patcher" and recipe.weight_patches
    others = [
        load("self_forcing_dmd.safetensors"),
        load("self_forcing_dmd.safetensors", lora="tiny_lora.safetensors", lora_strength=0.5),
        load("self_forcing_dmd.safetensors", lora="tiny_lora.safetensors", weight_dtype="fp8_e4m3fn"),
        load("random_a.safetensors"),
    ]
    shifted = model.clone()
    shifted.add_object_patch("model_sampling", model.get_model_object("model_sampling"))
    assert not any(recipe.is_same(recipe_of(other)) for other in (*others, shifted))


@pytest.mark.parametrize(
    "carried, told",
    [
        ({"hooks": object()}, r"positive carries hooks \(object\), which lives in this process alone"),
        ({"control": of_another_pack}, r"control \(function\)"),
        ({"theirs": {"deep": [1, object()]}}, r"theirs \(dict\)"),
    ],
)
def test_a_text_with_more_than_plain_values_is_refused(pack, carried: dict, told: str) -> None:
    check = module("nodes.cards.travelling").check_texts_travel
    plain = {
        "pooled_output": None,
        "attention_mask": torch.ones(1),
        "guidance": 1.5,
        "words": ["a", {"b": (True, "c")}],
    }
    (text,) = conditioning(1)[0][:1]
    check([[[text, plain]]], "positive")
    with pytest.raises(ValueError, match=told):
        check([[[text, plain]], [[text, {**plain, **carried}]]], "positive")


def test_noise_that_is_drawn_on_the_card_is_refused(pack) -> None:
    check = module("nodes.cards.travelling").check_noise_travels
    check("per_chunk")
    with pytest.raises(ValueError, match=r"noise is native, .*Set noise to per_chunk\."):
        check("native")


def test_an_error_of_any_class_can_be_read_in_another_process(pack) -> None:
    told = module("nodes.cards.job").told

    class Theirs(Exception):
        def __init__(self, here: object, there: object) -> None:
            super().__init__("it broke")
            self.lock = here, there

    errors = [
        Theirs(object(), of_another_pack),
        torch.OutOfMemoryError("no room"),
        InterruptedError("stop"),
        KeyError(),
    ]
    read = [pickle.loads(pickle.dumps(told(error))) for error in errors]
    assert [(each.kind, each.sentence, each.is_oom, each.is_cancel) for each in read] == [
        ("Theirs", "it broke", False, False),
        ("OutOfMemoryError", "no room", True, False),
        ("InterruptedError", "stop", False, True),
        ("KeyError", "KeyError", False, False),
    ]
    assert str(read[0]) == "Theirs: it broke" and isinstance(read[0], RuntimeError)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "auto", "127.0.0.1:99999", ":"])
def test_an_address_where_nobody_answers_is_refused_at_once(pack, address: str) -> None:
    with pytest.raises(RuntimeError, match=r"^address is .*, where no Ray answers \(.*Begin Ray there .* as HOST:PORT"):
        module("headforcing_core.ray_needed").check_answers(address)
