"""Nodes of the host and of other packs between loader and sampler: they work, are refused, or are told of."""

import importlib
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning

TWO_CHUNKS = 1.0  # seconds: the second one reads what is kept of the first
TWO_STEPS = torch.tensor([1.0, 0.5, 0.0])
GUIDED = "Another node guides the steps"
PLACED = "Another node changes where frames stand in time"
LEVELS = "Another node changes how the model is told its noise levels"


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def made(video) -> Callable[..., tuple[Tensor, list[str]]]:
    """The latent of a short video, and the report's notes."""

    def run(model: object, **inputs: object) -> tuple[Tensor, list[str]]:
        given = {"seconds": TWO_CHUNKS, "sigmas": TWO_STEPS, "seed": 3, **inputs}
        outputs = video(model, conditioning(4), **given)
        return outputs[0]["samples"], json.loads(outputs[3])["notes"]

    return run


@pytest.fixture(scope="module")
def plain(model, made) -> Tensor:
    return made(model)[0]


def _of_host(module: str, node: str, model: object, **inputs: object) -> object:
    """A MODEL behind one of the host's own nodes."""
    found = importlib.import_module(f"comfy_extras.{module}")
    cls = getattr(found, node)
    if hasattr(cls, "GET_SCHEMA"):
        return cls.execute(model=model, **inputs).args[0]
    made = cls()
    return getattr(made, cls.FUNCTION)(model, *inputs.values())[0]


def _skip_layer(model: object, scale: float) -> object:
    return _of_host(
        "nodes_slg",
        "SkipLayerGuidanceDiT",
        model,
        scale=scale,
        start_percent=0.0,
        end_percent=1.0,
        double_layers="2",
        single_layers="",
    )


def _after_each_step(model):
    """A MODEL that is run once more after each step, on other numbers, for nothing."""
    import comfy.samplers

    clone = model.clone()

    def again(args: dict) -> Tensor:
        x = torch.randn_like(args["input"])
        comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], x, args["sigma"], args["model_options"])
        return args["denoised"]

    clone.set_model_sampler_post_cfg_function(again)
    return clone


def _beside_each_step(model):
    """A MODEL whose steps compute their conditions themselves, and run it on other numbers last."""
    import comfy.samplers

    clone = model.clone()

    def both(args: dict) -> list[Tensor]:
        given = (args["sigma"], args["model_options"])
        right = comfy.samplers.calc_cond_batch(args["model"], args["conds"], args["input"], *given)
        comfy.samplers.calc_cond_batch(args["model"], args["conds"], torch.randn_like(args["input"]), *given)
        return right

    clone.set_model_sampler_calc_cond_batch_function(both)
    return clone


def _before_guidance(model):
    """A MODEL that is run on other numbers before CFG."""
    import comfy.samplers

    clone = model.clone()

    def before(args: dict) -> list[Tensor]:
        x = torch.randn_like(args["input"])
        comfy.samplers.calc_cond_batch(args["model"], args["conds"], x, args["timestep"], args["model_options"])
        return args["conds_out"]

    clone.set_model_sampler_pre_cfg_function(before)
    return clone


SECOND_PASSES: dict[str, Callable[[object], object]] = {
    "the host's skip-layer guidance of next to no strength": lambda model: _skip_layer(model, 1e-9),
    "after each step": _after_each_step,
    "beside each step": _beside_each_step,
    "before CFG": _before_guidance,
}


@pytest.mark.parametrize("case", SECOND_PASSES)
def test_what_is_remembered_is_of_the_pass_over_the_chunk_and_of_no_other(made, model, plain, case: str) -> None:
    latent, notes = made(SECOND_PASSES[case](model))
    assert (latent - plain).abs().max() < 1e-4
    assert any(note.startswith(GUIDED) for note in notes)


def test_guidance_that_needs_no_negative_prompt_still_guides(made, model, plain) -> None:
    assert (made(_skip_layer(model, 0.5))[0] - plain).abs().max() > 0.1


NOTHING = {
    "NAG": ("nodes_nag", "NAGuidance", {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}, GUIDED),
    "CFG-Zero": ("nodes_cfg", "CFGZeroStar", {}, GUIDED),
    "CFG-Norm": ("nodes_cfg", "CFGNorm", {"strength": 1.0}, GUIDED),
    "FreSca": ("nodes_fresca", "FreSca", {"scale_low": 1.0, "scale_high": 1.25, "freq_cutoff": 20}, GUIDED),
    "Scale ROPE": (
        "nodes_rope",
        "ScaleROPE",
        {"scale_x": 1.0, "shift_x": 0.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 2.0, "shift_t": 0.0},
        PLACED,
    ),
    "Shift ROPE": (
        "nodes_rope",
        "ScaleROPE",
        {"scale_x": 1.0, "shift_x": 0.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 1.0, "shift_t": 8.0},
        PLACED,
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_node_that_does_nothing_in_a_chunk_loop_is_told_of(made, model, plain, case: str) -> None:
    module, node, inputs, begins = NOTHING[case]
    latent, notes = made(_of_host(module, node, model, **inputs))
    assert torch.equal(latent, plain)
    assert [note.startswith(begins) for note in notes].count(True) == 1


def test_another_embedding_of_places_is_told_of(made, model) -> None:
    from comfy.ldm.flux.layers import EmbedND

    other = model.clone()
    other.add_object_patch("diffusion_model.rope_embedder", EmbedND(dim=128, theta=10.0, axes_dim=[44, 42, 42]))
    assert any(note.startswith(PLACED) for note in made(other)[1])


def test_width_and_height_of_places_are_the_nodes_own(made, model, plain) -> None:
    inputs = {"scale_x": 1.5, "shift_x": 0.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 1.0, "shift_t": 0.0}
    latent, notes = made(_of_host("nodes_rope", "ScaleROPE", model, **inputs))
    assert not torch.equal(latent, plain) and not any(note.startswith(PLACED) for note in notes)


SAMPLINGS = {
    "ModelSamplingSD3": ({"shift": 8.0}, False),
    "ModelSamplingFlux": ({"max_shift": 1.15, "base_shift": 0.5, "width": 832, "height": 480}, True),
    "ModelSamplingAuraFlow": ({"shift": 3.0}, True),
    "ModelSamplingDiscrete": ({"sampling": "lcm", "zsnr": False}, True),
}


@pytest.mark.parametrize("node", SAMPLINGS)
def test_noise_levels_of_another_kind_of_model_are_told_of(made, model, plain, node: str) -> None:
    inputs, is_told = SAMPLINGS[node]
    latent, notes = made(_of_host("nodes_model_advanced", node, model, **inputs))
    assert torch.equal(latent, plain) is not is_told
    assert any(note.startswith(LEVELS) for note in notes) is is_told


def test_a_model_without_other_nodes_is_told_nothing(made, model) -> None:
    assert not any(note.startswith("Another node") for note in made(model)[1])


class _Patch:
    """A patch of attention that is an object, as Wan calls it."""

    def __call__(self, args: dict) -> Tensor:
        return args["x"]


def test_a_patch_of_picture_models_is_refused_before_the_first_step(pack, made, model) -> None:
    merging = _of_host("nodes_tomesd", "TomePatchModel", model, ratio=0.3)
    with pytest.raises(ValueError, match="patches attention as in picture models, as ToMe does. .* Take that node out"):
        made(merging)
    with pytest.raises(ValueError, match="patches attention as in picture models"):
        pack.run("HeadForcingProfileHeads", model=merging, rule="random")


@pytest.mark.parametrize("patch", [_Patch(), lambda args, strength=1.0: args["x"], lambda *args: args[0]["x"]])
def test_patches_that_wan_can_call_are_called(made, model, plain, patch) -> None:
    patched = model.clone()
    patched.set_model_patch(patch, "attn1_patch")
    assert torch.equal(made(patched)[0], plain)


def _without_options(model):
    """A MODEL whose blocks are called without transformer options, as TeaCache's copy of the host's loop does."""
    clone = model.clone()
    wan = clone.model.diffusion_model

    def wrapper(apply: Callable[..., Tensor], args: dict) -> Tensor:
        forwards = [block.forward for block in wan.blocks]
        for block, forward in zip(wan.blocks, forwards, strict=True):
            block.forward = lambda x, forward=forward, **given: forward(x, **given | {"transformer_options": {}})
        try:
            return apply(args["input"], args["timestep"], **args["c"])
        finally:
            for block in wan.blocks:
                del block.forward

    clone.set_model_unet_function_wrapper(wrapper)
    return clone


def _without_layer(model, layer: int):
    """A MODEL of which one layer is left out."""
    clone = model.clone()
    clone.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", layer)
    return clone


def _answers(model, when: Callable[[float], bool]):
    """A MODEL whose passes at some noise levels are answered from the one before, as a cache would."""
    clone, last = model.clone(), []

    def wrapper(apply: Callable[..., Tensor], args: dict) -> Tensor:
        if not last or not when(float(args["timestep"][0])):
            last[:] = [apply(args["input"], args["timestep"], **args["c"])]
        return last[0]

    clone.set_model_unet_function_wrapper(wrapper)
    return clone


PAST_MEMORY = {
    "all layers": (_without_options, "4 of 4 layers, the first is layer 0, never read it"),
    "a layer": (lambda model: _without_layer(model, 2), "1 of 4 layers, the first is layer 2, never read it"),
    "the pass over the finished chunk": (lambda model: _answers(model, lambda level: level == 0), "4 of 4 layers"),
    "a whole chunk": (lambda model: _answers(model, lambda level: True), "4 of 4 layers"),
}


@pytest.mark.parametrize("case", PAST_MEMORY)
def test_a_pass_that_goes_past_the_memory_ends_the_run(made, model, case: str) -> None:
    past, said = PAST_MEMORY[case]
    with pytest.raises(RuntimeError, match=f"A chunk was made past the memory: {said}.*TeaCache.*Take out the node"):
        made(past(model))


def test_heads_are_not_measured_past_the_memory(pack, model) -> None:
    schedule = pack.run(
        "HeadForcingPromptSchedule",
        clip=pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0],
        text="a fox",
    )[0]
    with pytest.raises(RuntimeError, match="A chunk was made past the memory"):
        pack.run("HeadForcingProfileHeads", model=_without_options(model), schedule=schedule, width=64, height=48)


@pytest.mark.parametrize("node", ["EasyCacheNode", "LazyCacheNode"])
def test_steps_that_a_cache_answers_are_no_fault(made, model, node: str) -> None:
    inputs = {"reuse_threshold": 100.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
    cached = _of_host("nodes_easycache", node, model, **inputs)
    latent, _ = made(cached, sigmas=None)
    assert latent.isfinite().all() and not torch.equal(latent, made(model, sigmas=None)[0])
