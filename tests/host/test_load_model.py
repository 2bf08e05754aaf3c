"""Load AR Model takes every layout its authors publish, says what it found, and refuses the rest with a reason."""

import pytest
import torch

from tests.host.conftest import conditioning

GOOD = {  # file: (family, frames a chunk, where the weights are)
    "self_forcing_dmd.pt": ("self_forcing", 3, "key generator_ema"),
    "self_forcing_dmd.safetensors": ("self_forcing", 3, "no outer key"),
    "self_forcing_plain_no_metadata.safetensors": ("self_forcing", 3, "no outer key"),
    "self_forcing_bf16.safetensors": ("self_forcing", 3, "no outer key"),
    "causal_forcing_chunkwise.pt": ("causal_forcing", 3, "key generator"),
    "causal_forcing_framewise.pt": ("causal_forcing_framewise", 1, "no outer key"),
    "longlive_base.pt": ("longlive", 3, "no outer key"),
    "longlive_flat_prefix.safetensors": ("longlive", 3, "no outer key"),
    "rewardforcing.pt": ("reward_forcing", 3, "no outer key"),
    "comfy_prefix.safetensors": ("self_forcing", 3, "no outer key"),
    "three_keys.ckpt": ("self_forcing", 3, "key generator_ema"),
    "krea_realtime_tiny.pth": ("krea_realtime", 3, "no outer key"),
    "random_a.safetensors": ("self_forcing", 3, "no outer key"),
}
REFUSED = {  # file: (what is wrong, what to do)
    "bad_lora_only.safetensors": ("is a LoRA", "and choose it as lora"),
    "bad_lora_only.pt": ("is a LoRA", "and choose it as lora"),
    "bad_i2v_36_channels.safetensors": ("image-to-video", "Load an AR checkpoint on Wan"),
    "bad_vace.safetensors": ("VACE", "Load an AR checkpoint on Wan"),
    "bad_24_channels.safetensors": ("takes 24 latent channels and makes 24", "Load an AR checkpoint on Wan"),
    "bad_not_wan.safetensors": ("is not a Wan model", "Load an AR checkpoint on Wan"),
    "bad_truncated.safetensors": ("cannot be read", "Download it again"),
    "bad_truncated.pt": ("cannot be read", "Download it again"),
    "bad_empty.safetensors": ("is empty (0 bytes)", "Download the file again"),
    "bad_empty.pt": ("is empty (0 bytes)", "Download the file again"),
    "bad_pickle_not_tensors.pt": ("holds no", "Load an AR checkpoint on Wan"),
    "bad_pickle_object.pt": ("cannot be read as tensors alone", "never opened"),
    "bad_missing_blocks.safetensors": ("is incomplete", "Download the file again"),
    "bad_text_file.pt": ("is a text file", "Download the file itself"),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_published_layout_loads_and_is_recognised(pack, name: str) -> None:
    family, chunk_frames, source = GOOD[name]
    model, report = pack.run("HeadForcingLoadARModel", model_name=name)
    facts = pack.module("nodes.host.model").facts_of(model)
    assert (facts.family, facts.chunk_frames, facts.trained_frames) == (family, chunk_frames, 21)
    assert facts.sigmas[0] == 1 and facts.sigmas[-1] == 0 and len(facts.sigmas) == 5
    assert facts.ar_trained and facts.fingerprint.startswith("weights:")
    assert source in report and family in report
    assert model.get_model_object("model_sampling").shift == 5.0


def test_a_family_that_cannot_be_told_is_said(pack) -> None:
    assert (
        "neither file name nor layout tells" in pack.run("HeadForcingLoadARModel", model_name="random_a.safetensors")[1]
    )


def test_of_two_generators_the_averaged_one_is_loaded(load, pack) -> None:
    both, averaged = load("self_forcing_dmd.pt"), load("self_forcing_dmd.safetensors")
    name = "diffusion_model.blocks.0.self_attn.q.weight"
    assert torch.equal(both.get_model_object(name), averaged.get_model_object(name))
    facts_of = pack.module("nodes.host.model").facts_of
    assert facts_of(both).fingerprint == facts_of(averaged).fingerprint


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_reason_and_remedy(pack, name: str) -> None:
    wrong, remedy = REFUSED[name]
    with pytest.raises(ValueError) as refusal:
        pack.run("HeadForcingLoadARModel", model_name=name)
    message = str(refusal.value)
    assert message.startswith(name) and wrong in message and remedy in message and "\n" not in message


def test_family_and_chunk_can_be_chosen(pack) -> None:
    model, report = pack.run(
        "HeadForcingLoadARModel", model_name="self_forcing_dmd.pt", family="causal_forcing_framewise", chunk_frames=2
    )
    assert pack.module("nodes.host.model").facts_of(model).chunk_frames == 2
    assert "as chosen" in report


def test_a_lora_changes_the_video_and_leaves_the_model(load, video) -> None:
    import comfy.sd
    import comfy.utils
    import folder_paths

    model, text = load("self_forcing_dmd.safetensors"), conditioning(2)
    plain = video(model, text, seconds=1.0)[0]["samples"]
    weights = comfy.utils.load_torch_file(folder_paths.get_full_path("loras", "tiny_lora.safetensors"), safe_load=True)
    changed = comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0)[0]
    assert (video(changed, text, seconds=1.0)[0]["samples"] - plain).abs().max() > 0.1
    assert torch.equal(video(model, text, seconds=1.0)[0]["samples"], plain)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_eight_bit_weights_sample_close_to_full_ones(load, video, weight_dtype: str) -> None:
    text = conditioning(2)
    model = load("self_forcing_dmd.safetensors", weight_dtype=weight_dtype)
    assert "float8" in str(model.model.get_dtype())
    eight, full = (
        video(each, text, seconds=0.5)[0]["samples"] for each in (model, load("self_forcing_dmd.safetensors"))
    )
    assert torch.isfinite(eight).all()
    assert torch.nn.functional.cosine_similarity(eight.flatten(), full.flatten(), dim=0) > 0.8


def test_a_model_sampling_node_after_it_does_not_change_the_steps(load, video) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model, text = load("self_forcing_dmd.safetensors"), conditioning(2)
    shifted = ModelSamplingSD3().patch(model, 8.0)[0]
    assert torch.equal(video(shifted, text, seconds=1.0)[0]["samples"], video(model, text, seconds=1.0)[0]["samples"])


def test_a_model_from_the_stock_loader_works_and_the_report_says_what_is_not_known(load, video) -> None:
    import comfy.sd
    import folder_paths

    stock = comfy.sd.load_diffusion_model(
        folder_paths.get_full_path("diffusion_models", "self_forcing_dmd.safetensors")
    )
    text = conditioning(2)
    latent, _, _, report = video(stock, text, seconds=1.0)
    assert "cannot be known whether its weights are AR-trained" in report
    ours = video(load("self_forcing_dmd.safetensors"), text, seconds=1.0)
    assert torch.equal(latent["samples"], ours[0]["samples"]) and "cannot be known" not in ours[3]


def test_another_architecture_is_refused_by_the_sampler(video) -> None:
    import comfy.sd
    import folder_paths

    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(folder_paths.get_full_path("vae", "wan_2.1_vae.safetensors")))
    model = vae.patcher.clone()
    model.model = torch.nn.Module()
    model.model.diffusion_model = vae.first_stage_model
    with pytest.raises(ValueError, match="The model is a WanVAE.*Connect Load AR Model"):
        video(model, conditioning(2))
