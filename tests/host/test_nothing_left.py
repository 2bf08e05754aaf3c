"""After a run, an error or an interrupt the MODEL is as it was found."""

import gc
import weakref

import pytest
import torch

from tests.host.conftest import conditioning


def _patched_forwards(model) -> list[str]:
    blocks = model.model.diffusion_model.blocks
    return [f"blocks.{number}" for number, block in enumerate(blocks) if "forward" in block.self_attn.__dict__]


def _interrupt_after(monkeypatch, module, steps: int) -> None:
    """Interrupt as the server does it, once so many steps are done."""
    import comfy.model_management as management

    original = module.StepProgress.step

    def step(self, chunk: int, number: int, x0: torch.Tensor) -> None:
        if chunk * 4 + number >= steps:
            management.interrupt_current_processing(True)
        original(self, chunk, number, x0)

    monkeypatch.setattr(module.StepProgress, "step", step)


@pytest.mark.parametrize("name", ["self_forcing_dmd.safetensors", "random_b.safetensors"])
def test_after_a_run_stock_sampling_is_bit_identical(load, native, video, name: str) -> None:
    model, text = load(name), conditioning(4)
    before = native.euler_video(model, 5, 1, text), native.native_video(model, 6, 3, 1, text)
    video(model, text, seconds=2.0)
    assert _patched_forwards(model) == []
    after = native.euler_video(model, 5, 1, text), native.native_video(model, 6, 3, 1, text)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_after_an_interrupt_nothing_is_left_and_the_next_run_is_the_same(
    pack, load, native, video, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    model, text = load("self_forcing_dmd.safetensors"), conditioning(4)
    before, whole = native.euler_video(model, 5, 1, text), video(model, text, seconds=2.0)[0]["samples"]
    with monkeypatch.context() as patch:
        _interrupt_after(patch, pack.module("nodes.status.progress"), 6)
        with pytest.raises(management.InterruptProcessingException):
            video(model, text, seconds=2.0)
    assert _patched_forwards(model) == []
    assert torch.equal(before, native.euler_video(model, 5, 1, text))
    assert torch.equal(whole, video(model, text, seconds=2.0)[0]["samples"])


def test_after_an_error_inside_the_model_nothing_is_left(load, native, video) -> None:
    model, text = load("self_forcing_dmd.safetensors"), conditioning(4)
    before = native.euler_video(model, 5, 1, text)
    broken, calls = model.clone(), []

    def fails(args: dict, extra: dict) -> dict:
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("the block failed")
        return extra["original_block"](args)

    broken.set_model_patch_replace(fails, "dit", "double_block", 2)
    with pytest.raises(RuntimeError, match="the block failed"):
        video(broken, text, seconds=2.0)
    assert _patched_forwards(model) == []
    assert torch.equal(before, native.euler_video(model, 5, 1, text))


def _starved(model, call: int):
    """A clone whose attention finds no memory at its so-manieth call."""
    clone, calls = model.clone(), []

    def allocates(function, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return function(*args, **kwargs)

    clone.model_options["transformer_options"]["optimized_attention_override"] = allocates
    return clone


def test_out_of_memory_names_a_policy_that_takes_less_and_leaves_nothing(pack, load, native, video) -> None:
    model, text = load("self_forcing_dmd.safetensors"), conditioning(4)
    before = native.euler_video(model, 5, 1, text)
    labelled = pack.run("HeadForcingProfileHeads", model=model, rule="random")[0]
    with pytest.raises(torch.OutOfMemoryError) as raised:
        video(_starved(model, 100), text, seconds=5.0, preset="max", profile=labelled)
    message = str(raised.value)
    assert message.startswith("Out of memory. At 64 x 48 the memory of policy max takes ")
    assert "Choose the preset recall in Head Cache Policy (" in message
    assert message.endswith(" MB), or a smaller size.")
    assert raised.value.__context__ is None and raised.value.__cause__ is None
    assert _patched_forwards(model) == []
    assert torch.equal(before, native.euler_video(model, 5, 1, text))
    with pytest.raises(torch.OutOfMemoryError, match="while the attention heads were measured"):
        video(_starved(model, 100), text, seconds=5.0, preset="max")
    assert _patched_forwards(model) == []


def test_a_patch_that_another_node_put_on_the_model_survives_a_run(load, native, video) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model, text = load("random_a.safetensors"), conditioning(4)
    shifted = ModelSamplingSD3().patch(model, 8.0)[0]
    before = native.euler_video(shifted, 5, 1, text)
    video(shifted, text, seconds=1.0)
    assert torch.equal(before, native.euler_video(shifted, 5, 1, text))
    assert not torch.equal(before, native.euler_video(model, 5, 1, text))


def test_attention_overrides_and_block_patches_of_other_packs_are_called(load, video) -> None:
    model, text, seen = load("self_forcing_dmd.safetensors").clone(), conditioning(4), {"override": 0, "attn1": 0}

    def override(function, *args, **kwargs):
        seen["override"] += 1
        return function(*args, **kwargs)

    def attn1(args: dict) -> torch.Tensor:
        seen["attn1"] += 1
        assert args["q"].shape[2:] == (3, 128)
        return args["x"]

    model.model_options["transformer_options"]["optimized_attention_override"] = override
    model.set_model_patch(attn1, "attn1_patch")
    video(model, text, seconds=0.5)
    passes = 4 * 1  # one chunk, four steps, no commit after the last chunk
    assert seen == {"override": passes * 4 * 2, "attn1": passes * 4}  # four layers, self- and cross-attention


def test_the_weights_go_with_the_model_and_wait_for_no_collector(pack, load, video) -> None:
    import comfy.model_management as management

    gc.collect()
    gc.disable()
    try:
        model = load("longlive_base.pt")
        video(model, conditioning(4), seconds=0.5)
        weights = weakref.ref(model.model)
        del model
        management.unload_all_models()
        assert weights() is None
    finally:
        gc.enable()


def test_attention_patches_get_keys_turned_as_the_plain_model_turns_them(load, video) -> None:
    """For the first chunk, whose history is empty, q and k are those of the plain model at the chunk's position."""
    from comfy.ldm.flux.math import apply_rope1

    model, seen = load("self_forcing_dmd.safetensors").clone(), []

    def attn1(args: dict) -> torch.Tensor:
        seen.append((args["q"], args["k"]))
        return args["x"]

    model.set_model_patch(attn1, "attn1_patch")
    wan = model.model.diffusion_model
    given = []
    handle = wan.blocks[0].self_attn.k.register_forward_hook(lambda module, inputs, output: given.append(output))
    try:
        video(model, conditioning(4), seconds=0.5)
    finally:
        handle.remove()
    keys = wan.blocks[0].self_attn.norm_k(given[0]).unflatten(2, (3, 128))
    rotation = wan.rope_encode(3, 6, 8, t_start=18, dtype=torch.float32, device="cpu")
    assert torch.equal(seen[0][1], apply_rope1(keys, rotation))


def test_a_replaced_self_attention_is_told_in_the_report(load, video) -> None:
    model = load("self_forcing_dmd.safetensors").clone()
    name = "diffusion_model.blocks.0.self_attn.forward"
    model.add_object_patch(name, model.get_model_object(name))
    assert "Another node has replaced" in video(model, conditioning(4), seconds=0.5)[3]
