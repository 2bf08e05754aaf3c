"""Files of families beside Self-Forcing, in their authors' names and layouts: recognised by shapes, then by name."""

import json
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.conftest import REPOSITORY
from tests.fixtures import published
from tests.fixtures.tiny_wan import FULL_36, FULL_48, SMALL, TEXT_DIM, WanShape, causal_wan, empty_model
from tests.host.conftest import Files, conditioning, off

LONGLIVE2, WORLD = "longlive2_5b_bf16.pt", "lingbot_world_v2_causal_fast.safetensors"
HEAD = "diffusion_model.head.modulation"
CLASSES = {48: ("WAN22", "WanModel", "Wan22"), 36: ("WAN21_CausalAR", "CausalWanModel", "Wan21")}


@pytest.fixture(scope="module")
def files(pack) -> Files:
    return Files(causal_wan(SMALL, 0))


@pytest.fixture(scope="module", params=[48, 36])
def weights(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    return causal_wan({48: FULL_48, 36: FULL_36}[request.param], 22)


@pytest.fixture
def facts_of(pack) -> Callable:
    return pack.module("nodes.host.model").facts_of


def classes(model) -> tuple[str, ...]:
    inner = model.model
    return tuple(type(each).__name__ for each in (inner, inner.diffusion_model, inner.latent_format))


def flow(model) -> Tensor:
    """What a MODEL makes of some noise."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    wan = model.model.diffusion_model
    x = torch.randn(1, wan.in_dim, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        return wan(x, torch.tensor([500.0]), context=conditioning(2)[0][0])


def test_longlive2_is_recognised_and_its_published_weights_are_taken(pack, facts_of) -> None:
    model, report = pack.run("HeadForcingLoadARModel", model_name=LONGLIVE2)
    assert classes(model) == CLASSES[48]
    facts = facts_of(model)
    assert (facts.family, facts.chunk_frames, facts.trained_frames) == ("longlive2", 8, 32)
    assert torch.equal(model.get_model_object(HEAD), causal_wan(FULL_48, 20)["head.modulation"])
    for told in (
        "4 layers of 3 heads, 48 channels in and 48 out, taken from key generator.",
        "8 frames a chunk, 4 steps (0.9998, 0.937265, 0.833055, 0.624687, 0) at timesteps 999, 937, 833, 624, UniPC",
        "trained on 32 frames",
        "24 pictures a second, width and height in multiples of 32, VAE wan2.2_vae.safetensors.",
        "Left aside in the file: checkpoint_format, generator_ema, merged_lora and 1 more.",
    ):
        assert told in report


def test_lingbot_is_recognised_and_that_its_camera_is_left_out_is_a_warning(pack, facts_of, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        model, report = pack.run("HeadForcingLoadARModel", model_name=WORLD)
    assert classes(model) == CLASSES[36]
    facts = facts_of(model)
    assert (facts.family, facts.chunk_frames, facts.trained_frames) == ("lingbot_world_v2", 4, 18)
    left_out = f"Camera control is left out: {WORLD} was trained with camera poses"
    assert left_out in report and f"Head forcing: {left_out}" in caplog.text
    assert "36 channels in and 16 out" in report and "A start image is needed" in report


def test_the_averaged_weights_of_36_channels_are_the_published_ones(files, load) -> None:
    shape = WanShape(dim=128, layers=1, ffn_dim=128, image_channels=20)
    latest, averaged = causal_wan(shape, 1), causal_wan(shape, 2)
    model = load(files.put("lingbot_two.pt", {"generator": latest, "generator_ema": averaged}))
    assert torch.equal(model.get_model_object(HEAD), averaged["head.modulation"])


@pytest.mark.parametrize(
    "keys, taken",
    [
        (("generator",), 0),
        (("generator_ema",), 0),
        (("model",), 0),
        (("state_dict",), 0),
        (("generator_ema", "generator"), 1),
    ],
)
def test_longlive2_is_found_below_whatever_key_it_stands(files, load, keys: tuple[str, ...], taken: int) -> None:
    shape = WanShape(dim=128, layers=1, ffn_dim=128, channels=48)
    sets = [causal_wan(shape, seed) for seed in (3, 4)]
    content = {key: {f"model.{name}": tensor for name, tensor in sets[at].items()} for at, key in enumerate(keys)}
    model = load(files.put("longlive2_keys.pt", content))
    assert torch.equal(model.get_model_object(HEAD), sets[taken]["head.modulation"])


def test_the_help_page_has_the_numbers_of_every_family(pack) -> None:
    page = (REPOSITORY / "web" / "docs" / "HeadForcingLoadARModel.md").read_text(encoding="ascii")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    table = [row for row in rows if len(row) == 6 and row[0][0].isdigit()]
    families = pack.module("headforcing_core.families.table").FAMILIES
    assert {family for _, _, family, *_ in table} | {"custom"} == set(families)
    for channels, _, name, chunk, steps, trained in table:
        family = families[name]
        assert channels == f"{family.in_channels}, {family.space.channels}"
        assert (int(chunk), int(steps[0]), int(trained)) == (
            family.chunk_frames,
            family.steps.count,
            family.trained_frames,
        )


DROP_INS = {  # file with its folder: (outer key, what stands before names, family, frames a chunk, what is told)
    "causal-forcing++/framewise-2step.pt": (
        ("generator_ema", "model.", "causal_forcing_2step", 1),
        "2 steps (1, 0.833333, 0), fresh noise between steps, trained on 21 frames.\n"
        "The first chunk that is made takes 4 steps (1, 0.9375, 0.833333, 0.625, 0).",
    ),
    "causal-forcing++/framewise-1step.pt": (
        ("generator_ema", "model._fsdp_wrapped_module.", "causal_forcing_1step", 1),
        "1 step (1, 0), fresh noise between steps, trained on 21 frames.\nThe first chunk that is made takes 4 steps",
    ),
    "checkpoints/one_forcing.pt": (
        ("generator", "model.", "one_forcing", 1),
        "1 step (1, 0), fresh noise between steps, trained on 21 frames.\nA chunk at frame 0 takes 4 steps",
    ),
    "Self_Gradient_Forcing/framewise/ar/model.pt": (
        ("generator_ema", "model.", "self_gradient_forcing_framewise", 1),
        "4 steps (1, 0.9375, 0.833333, 0.625, 0), fresh noise between steps, trained on 21 frames.",
    ),
    "Self_Gradient_Forcing/chunkwise/ar/model.pt": (
        ("generator_ema", "model.", "self_gradient_forcing", 3),
        "trained on 12 frames",
    ),
    "Infinite-Forcing/model.pt": (("generator_ema", "model.", "infinite_forcing", 3), "trained on 21 frames"),
    "MemFlow/base.pt": (("generator", "model.", "memflow", 3), "trained on 12 frames"),
    "wan_causal_dmd_v2v/model.pt": (("generator", "model.", "streamdiffusion_v2", 1), "2 steps (0.7, 0.5, 0)"),
    "RollingForcing/checkpoints/rolling_forcing_dmd.pt": (
        ("generator_ema", "model.", "rolling_forcing", 3),
        "a chunk at every step at once, one behind the other, trained on 21 frames",
    ),
    "Causal-Forcing/chunkwise/longvideo.pt": (
        ("generator_ema", "model._fsdp_wrapped_module.", "causal_forcing_longvideo", 3),
        "Its authors allow academic use only.",
    ),
    "AAD-1/14b_i2v_1step_transformer.pt": (("", "", "aad_1", 4), "4 frames a chunk, 1 step (1, 0)"),
}


@pytest.mark.parametrize("name", DROP_INS)
def test_drop_ins_of_16_channels_are_told_by_name_and_folder(files, pack, facts_of, name: str) -> None:
    (key, prefix, family, chunk), told = DROP_INS[name]
    held = {prefix + each: tensor for each, tensor in files.weights.items()}
    model, report = pack.run("HeadForcingLoadARModel", model_name=files.put(name, {key: held} if key else held))
    assert (facts_of(model).family, facts_of(model).chunk_frames) == (family, chunk)
    assert torch.equal(model.get_model_object(HEAD), files.weights["head.modulation"])
    assert told in report and f"Family {family}, told by the file name" in report


@pytest.mark.parametrize(
    "name, family, words",
    [
        (LONGLIVE2, "self_forcing", "take 16 channels and make 16, but this file takes 48 and makes 48"),
        (LONGLIVE2, "lingbot_world", "take 36 channels and make 16, but this file takes 48 and makes 48"),
        (WORLD, "longlive2", "take 48 channels and make 48, but this file takes 36 and makes 16"),
        ("self_forcing_bf16.safetensors", "longlive2_2step", "but this file takes 16 and makes 16"),
    ],
)
def test_a_family_of_other_channels_cannot_be_chosen(load, name: str, family: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"family is {family}, whose models .*{words}. Choose auto, or one of "):
        load(name, family=family)


@pytest.mark.parametrize("name", ["self_forcing.safetensors", "causal_forcing.safetensors", "model.safetensors"])
def test_shapes_come_before_the_name_and_what_nothing_marks_as_ar_is_a_warning(
    files, pack, facts_of, weights, caplog, name: str
) -> None:
    with caplog.at_level(logging.WARNING):
        model, report = pack.run("HeadForcingLoadARModel", model_name=files.put(name, weights))
    channels = model.model.diffusion_model.in_dim
    assert classes(model) == CLASSES[channels]
    assert facts_of(model).family == {48: "longlive2", 36: "lingbot_world"}[channels]
    doubt = f"Neither name nor layout of {name} says that it is AR-trained. Plain Wan 2.2 models have the same shapes"
    assert doubt in report and doubt in caplog.text and "Camera control" not in report


@pytest.mark.parametrize("mark", ["keys", "wrapper", "fsdp", "name", "choice", "16 channels"])
def test_what_is_marked_as_ar_is_no_warning(files, pack, weights, mark: str) -> None:
    held = files.weights if mark == "16 channels" else weights
    family = "longlive2" if held["head.head.weight"].shape[0] == 192 else "lingbot_world"
    prefix = {"wrapper": "model.", "fsdp": "model._fsdp_wrapped_module."}.get(mark, "")
    wrapped = {prefix + name: tensor for name, tensor in held.items()}
    content = {"generator": wrapped, "step": 3} if mark == "keys" else wrapped
    name = files.put(f"{family if mark == 'name' else 'x'}.pt", content)
    chosen = {"family": family} if mark == "choice" else {}
    assert "says that it is AR-trained" not in pack.run("HeadForcingLoadARModel", model_name=name, **chosen)[1]


@pytest.mark.parametrize("said", [{"causal_ar": True}, {"causal_ar": True, "in_dim": 16}, {"model_type": "i2v"}])
def test_what_the_head_of_a_file_says_does_not_change_what_is_built(files, load, weights, said: dict) -> None:
    header = {"config": json.dumps({"transformer": {**said, "text_dim": TEXT_DIM}})}
    model = load(files.put("ar.safetensors", weights, header=header))
    assert classes(model) == CLASSES[model.model.diffusion_model.in_dim]
    assert torch.equal(model.get_model_object(HEAD), weights["head.modulation"])


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
@pytest.mark.parametrize("name", [LONGLIVE2, WORLD])
def test_eight_bit_weights_are_close_to_full_ones(load, name: str, weight_dtype: str) -> None:
    model = load(name, weight_dtype=weight_dtype)
    assert "float8" in str(model.model.get_dtype())
    assert 0 < off(flow(model), flow(load(name))) < {"fp8_e5m2": 0.35}.get(weight_dtype, 0.2)


@pytest.mark.parametrize("by", ["row", "weight", "block"])
def test_scales_beside_the_weights_count(files, load, weights, by: str) -> None:
    stored = published.with_scales(weights, by)
    small = load(files.put("scaled.safetensors", stored))
    full = load(files.put("scaled_full.safetensors", published.in_full(stored)))
    assert classes(small) == classes(full) and off(flow(small), flow(full)) < 1e-2


@pytest.mark.parametrize("layer", ["patch_embedding", "head.head"])
def test_channels_are_told_by_layers_that_are_stored_small(files, load, weights, layer: str) -> None:
    small, scale = published.small(weights[f"{layer}.weight"], "weight")
    with_scale = {**weights, f"{layer}.weight": small, f"{layer}.weight_scale": scale}
    model = load(files.put("head.safetensors", with_scale))
    assert classes(model) == CLASSES[weights["patch_embedding.weight"].shape[1]]
    assert off(flow(model), flow(load(files.put("none.safetensors", weights)))) < 0.1


@pytest.mark.parametrize("name", [LONGLIVE2, WORLD])
def test_the_lora_of_longlive2_changes_all_weights(pack, load, name: str) -> None:
    model, report = pack.run("HeadForcingLoadARModel", model_name=name, lora="longlive2_lora.pt")
    assert "LoRA longlive2_lora.pt: 40 of 40 weights changed." in report
    assert off(flow(model), flow(load(name))) > 0.1


@pytest.mark.parametrize("name", [LONGLIVE2, WORLD])
def test_the_host_can_load_the_model_anew(load, name: str) -> None:
    model = load(name)
    make, inputs = model.cached_patcher_init
    again = make(*inputs, disable_dynamic=True)
    assert classes(again) == classes(model)
    assert torch.equal(flow(again), flow(model))


def test_a_model_of_the_stock_loader_is_told_by_its_shapes(pack, facts_of, weights) -> None:
    import comfy.sd

    metadata = {"config": json.dumps({"transformer": {"text_dim": TEXT_DIM}})}
    with torch.inference_mode():
        stock = comfy.sd.load_diffusion_model_state_dict(dict(weights), metadata=metadata)
    pack.module("nodes.host.backbone").check_backbone(stock)
    facts = facts_of(stock)
    family, chunk = {48: ("longlive2", 8), 36: ("lingbot_world", 3)}[weights["patch_embedding.weight"].shape[1]]
    assert (facts.family, facts.chunk_frames, facts.ar_trained, facts.family_guessed) == (family, chunk, False, True)
    assert facts.fingerprint.startswith("shapes:")


@pytest.mark.parametrize(
    "name, family", [(LONGLIVE2, "auto"), (LONGLIVE2, "longlive2_2step"), (WORLD, "auto"), (WORLD, "lingbot_world")]
)
def test_the_family_survives_save_model(files, pack, load, facts_of, name: str, family: str) -> None:
    from comfy_extras.nodes_model_merging import save_checkpoint

    inputs = {"model_name": name, "family": family, "chunk_frames": 0}
    workflow = {
        "1": {"class_type": "HeadForcingLoadARModel", "inputs": inputs},
        "2": {"class_type": "ModelSave", "inputs": {"model": ["1", 0], "filename_prefix": "saved"}},
    }
    model = load(name, family=family)
    folder = files.models / "diffusion_models"
    save_checkpoint(model, filename_prefix="saved", output_dir=str(folder), prompt=workflow)
    (saved,) = folder.glob("saved_*.safetensors")
    again, report = pack.run("HeadForcingLoadARModel", model_name=saved.name)
    saved.unlink()
    assert facts_of(again).family == facts_of(model).family and classes(again) == classes(model)
    assert "told by the workflow that the file was saved with" in report and "Neither name" not in report


@pytest.mark.parametrize(
    "shape, whole",
    [
        (WanShape(3072, 2, 128, channels=48), "2 layers, and Wan 2.2 5B of width 3072 has 30"),
        (WanShape(1536, 3, 128, image_channels=20), "3 layers, and Wan 2.1 of width 1536 has 30"),
        (WanShape(5120, 2, 128, image_channels=20), "2 layers, and Wan 2.1 of width 5120 has 40"),
    ],
)
def test_a_part_of_a_known_size_is_told_by_its_layers(pack, shape: WanShape, whole: str) -> None:
    from comfy.ldm.wan.model import WanModel

    unwrap = pack.module("headforcing_core.checkpoint.wan_weights").unwrap
    with pytest.raises(ValueError, match=whole):
        unwrap(dict(empty_model(WanModel, shape, "t2v").state_dict()), "x.safetensors")


def test_a_width_of_3072_has_24_heads(pack) -> None:
    from comfy.ldm.wan.model import WanModel

    shape = WanShape(3072, 30, 128, channels=48)
    held = dict(empty_model(WanModel, shape, "t2v").state_dict())
    found = pack.module("headforcing_core.checkpoint.wan_weights").unwrap(held, "longlive2.safetensors")
    assert (found.layers, found.heads) == (30, 24)


REFUSED: dict[str, tuple[dict[str, object], str]] = {  # file: (what it holds besides, what is said)
    "sgf_plus.pt": ({"blocks.0.self_attn.q.memory_weight": 1}, "a second set of weights for commit passes"),
    "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors": (
        {},
        "is one half of a Wan 2.2 A14B pair, by its name or folder",
    ),
    "Wan2_2-I2V-A14B-LOW_fp8.safetensors": ({}, "is one half of a Wan 2.2 A14B pair"),
    "low_noise_model/world.safetensors": ({}, "world.safetensors is one half of a Wan 2.2 A14B pair"),
    "transformer_2/model.safetensors": ({}, "is one half of a Wan 2.2 A14B pair"),
    "world-00002-of-00006.safetensors": ({}, "is part 2 of the 6 files of one model.*or join the parts, .*join_parts"),
    "aad-00001-of-00006.pt": ({}, "is part 1 of the 6 files of one model.*join_parts"),
    "nvfp4.safetensors": ({"blocks.0.ffn.0.weight_global_scale": 1}, "packed in 4 bits.*model_te.pt"),
    "nvfp4_inputs.safetensors": ({"blocks.0.ffn.0.input_global_scale": 1}, "packed in 4 bits.*model_te.pt"),
    "nvfp4_alpha.safetensors": ({"blocks.0.ffn.0.alpha": 1}, "holds tensors that Wan itself does not have"),
    "model_4o6.pt": ({"blocks.0.ffn.0.quantized_weight_values": 1}, "packed in 4 bits.*model_te.pt"),
    "wan2.1_i2v.safetensors": (
        {"img_emb.proj.0.weight": 1},
        "is an image-to-video model, .*start_image of the sampler",
    ),
    "vace.safetensors": ({"vace_patch_embedding.weight": 1}, "is a VACE model, .*video of the sampler"),
    "matrix_game_2.safetensors": (
        {"blocks.0.action_model.keyboard_embed.0.weight": 1, "img_emb.proj.0.weight": 1},
        "is Matrix-Game, .*LingBot-World-Fast",
    ),
    "matrix_game_3.safetensors": ({"blocks.7.action_model.mouse_mlp.0.weight": 1}, "is Matrix-Game, "),
    "helios.safetensors": (
        {"patch_short.weight": 1, "condition_embedder.time_proj.weight": 1, "proj_out.weight": 1},
        "is Helios, .*Any AR checkpoint makes long videos",
    ),
    "causal_wan_a14b.safetensors": ({"blocks.0.attn1.to_q.weight": 1}, "has the names of the diffusers library"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("channels", [16, 48, 36])
def test_what_cannot_be_used_is_refused_for_what_it_is(files, load, name: str, channels: int) -> None:
    besides, words = REFUSED[name]
    shape = {"channels": 48 if channels == 48 else 16, "image_channels": channels - 16 if channels == 36 else 0}
    held = causal_wan(WanShape(dim=128, layers=1, ffn_dim=128, **shape), 1)
    content = {**held, **{each: torch.ones(1) for each in besides}}
    with pytest.raises(ValueError, match=words) as refusal:
        load(files.put(name, content))
    told = str(refusal.value)
    assert (
        told.startswith(name.rpartition("/")[2])
        and "\n" not in told
        and any(word in told for word in ("Load ", "Download "))
    )
