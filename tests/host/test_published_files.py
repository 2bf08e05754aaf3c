"""Files as others publish them: read as they are meant, or refused for what they are."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fixtures import published
from tests.fixtures.tiny_wan import FULL, TEXT_DIM, WanShape, causal_wan, empty_model
from tests.host.conftest import Files, conditioning, off

CAUSAL_METADATA = {"config": json.dumps({"transformer": {"causal_ar": True, "text_dim": TEXT_DIM}})}
TEXT = conditioning(2)


@pytest.fixture(scope="module")
def files(pack) -> Files:
    return Files(causal_wan(FULL, 0))


@pytest.fixture(scope="module")
def latent(load, video) -> Callable[..., Tensor]:
    return lambda model: video(load(model) if isinstance(model, str) else model, TEXT, seconds=0.5)[0]["samples"]


@pytest.mark.parametrize(
    "by, dtype", [("row", "float8_e4m3fn"), ("row", "int8"), ("block", "float8_e4m3fn"), ("row", "float8_e5m2")]
)
def test_scales_beside_the_weights_are_multiplied_in(files, latent, pack, by: str, dtype: str) -> None:
    stored = published.with_scales(files.weights, by, getattr(torch, dtype))
    small = files.put(f"self_forcing_{dtype}_{by}.safetensors", stored)
    full = files.put(f"self_forcing_{dtype}_{by}_full.safetensors", published.in_full(stored))
    assert off(latent(small), latent(full)) < 1e-3
    report = pack.run("HeadForcingLoadARModel", model_name=small)[1]
    assert "does not compute with the way they are scaled: 40 layers" in report


def test_fp8_with_scales_is_close_to_what_it_was_made_of(files, latent) -> None:
    small = files.put("self_forcing_fp8.safetensors", published.with_scales(files.weights))
    assert off(latent(small), latent("self_forcing_bf16.safetensors")) <= 0.2


@pytest.mark.parametrize("prefix", ["", "model.", "diffusion_model.", "model.diffusion_model."])
def test_scales_described_in_the_header_are_read_as_the_host_reads_them(files, latent, pack, prefix: str) -> None:
    import comfy.sd

    stored = published.with_scales(files.weights, by="weight", prefix=prefix)
    name = files.put(f"self_forcing_header_{prefix}.safetensors", stored, header=published.header_for(stored))
    found = latent(name)
    assert off(found, latent("self_forcing_bf16.safetensors")) <= 0.2
    report = pack.run("HeadForcingLoadARModel", model_name=name)[1]
    assert "Kept as float8_e4m3fn with their scales: 40 layers." in report
    if not prefix:
        with torch.inference_mode():
            header = {**published.header_for(stored), **CAUSAL_METADATA}
            stock = comfy.sd.load_diffusion_model_state_dict(dict(stored), metadata=header)
        assert torch.equal(found, latent(stock))


def test_one_scale_a_weight_keeps_the_weights_small(files, latent, load) -> None:
    stored = published.with_scales(files.weights, by="weight")
    model = load(files.put("self_forcing_one_scale.safetensors", stored))
    assert model.model_size() < 0.7 * load("self_forcing_bf16.safetensors").model_size()
    assert off(latent(model), latent("self_forcing_bf16.safetensors")) <= 0.2


def test_the_host_s_own_scaled_files_keep_their_fingerprint(files, latent, pack) -> None:
    stored = published.with_scales(files.weights, by="weight", prefix="")
    old = {name.replace("weight_scale", "scale_weight"): tensor for name, tensor in stored.items()}
    old["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    name = files.put("self_forcing_scaled_fp8.safetensors", old)
    assert off(latent(name), latent("self_forcing_bf16.safetensors")) <= 0.2
    weights_fingerprint = pack.module("headforcing_core.checkpoint.fingerprint").weights_fingerprint
    model = pack.run("HeadForcingLoadARModel", model_name=name)[0]
    assert pack.module("nodes.host.model").facts_of(model).fingerprints == (weights_fingerprint(old),)


@pytest.mark.parametrize("names", ["scale_weight", "scaled_fp8", "scale_weight and header"])
def test_scales_of_an_old_name_or_with_an_old_mark_are_read(files, latent, names: str) -> None:
    stored = published.with_scales(files.weights, by="weight", prefix="")
    header = published.header_for(stored) if "header" in names else None
    if names.startswith("scale_weight"):
        stored = {name.replace("weight_scale", "scale_weight"): tensor for name, tensor in stored.items()}
    else:
        stored["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    name = files.put("self_forcing_old_names.safetensors", stored, header=header)
    assert off(latent(name), latent("self_forcing_bf16.safetensors")) <= 0.2


@pytest.mark.parametrize("layer", ["patch_embedding", "head.head", "text_embedding.0", "blocks.0.self_attn.norm_q"])
def test_a_scale_counts_in_every_kind_of_layer(files, latent, layer: str) -> None:
    """The host multiplies those of Linear layers alone."""
    small, scale = published.small(files.weights[f"{layer}.weight"], "weight")
    with_scale = {**files.weights, f"{layer}.weight": small, f"{layer}.weight_scale": scale}
    found = latent(files.put("self_forcing_one_layer.safetensors", with_scale))
    assert off(found, latent(files.put("self_forcing_none.safetensors", files.weights))) < 0.05


@pytest.mark.parametrize("layer", ["blocks.0.self_attn.q", "blocks.1.cross_attn.o", "blocks.2.ffn.0", "blocks.3.ffn.2"])
@pytest.mark.parametrize("by", ["row", "weight"])
def test_a_scale_that_is_not_there_is_missed(files, load, layer: str, by: str) -> None:
    stored = published.with_scales(files.weights, by)
    del stored[f"model.{layer}.weight_scale"]
    name = files.put("self_forcing_dropped.safetensors", stored)
    with pytest.raises(ValueError, match=f"no scale for {layer}.weight, which is stored as float8_e4m3fn"):
        load(name)


def _but(weights: Mapping[str, Tensor], **tensors: Tensor) -> dict[str, Tensor]:
    return {**weights, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


def mark(text: bytes) -> Tensor:
    return torch.tensor(list(text), dtype=torch.uint8)


ONE = torch.ones(1)
REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    # lightx2v's NVFP4, four over six, GPTQ, bitsandbytes, bytes without a mark
    "nvfp4.safetensors": (lambda w: _but(w, blocks__0__ffn__0__weight_global_scale=ONE), "packed in 4 bits"),
    "model_4o6.safetensors": (lambda w: _but(w, blocks__0__ffn__0__quantized_weight_4o6=ONE), "packed in 4 bits"),
    "gptq.safetensors": (lambda w: _but(w, blocks__0__ffn__0__qweight=ONE), "packed in 4 bits"),
    "nf4.safetensors": (
        lambda w: _but(w, blocks__0__ffn__0__weight__quant_state__bitsandbytes__nf4=ONE),
        "packed in 4 bits",
    ),
    "bytes.safetensors": (
        lambda w: {**w, "blocks.0.ffn.0.weight": torch.zeros(768, 192, dtype=torch.uint8)},
        "packed in 4 bits",
    ),
    "sgf_plus.pt": (
        lambda w: {"generator_ema": _but(w, blocks__0__self_attn__q__memory_weight=ONE)},
        "a second set of weights for commit passes",
    ),
    "sgf_plus_modulation.pt": (lambda w: {"generator_ema": _but(w, blocks__0__memory_modulation=ONE)}, "a second set"),
    "sgf_plus_outer.pt": (lambda w: {"generator_ema": _but(w, memory_time_embedding__0__weight=ONE)}, "a second set"),
    "model-00001-of-00006.safetensors": (lambda w: w, "is part 1 of the 6 files of one model"),
    "lingbot-00002-of-00003.pt": (lambda w: {"generator": w}, "is part 2 of the 3 files of one model"),
    "diffusers.safetensors": (
        lambda w: {"blocks.0.attn1.to_q.weight": ONE, "condition_embedder.time_proj.weight": 2 * ONE},
        "has the names of the diffusers library",
    ),
    "unmerged.pt": (
        lambda w: {"generator": {"base_model.model.blocks.0.self_attn.q.base_layer.weight": ONE, **w}},
        "a LoRA beside it that is not merged",
    ),
    "unknown.safetensors": (lambda w: _but(w, blocks__0__gate__weight=ONE), r"does not have \(blocks.0.gate.weight\)"),
    "unknown_scale.safetensors": (lambda w: _but(w, blocks__0__ffn__0__bias_scale=ONE), "blocks.0.ffn.0.bias_scale"),
    "smoothed.safetensors": (
        lambda w: _but(published.with_scales(w, "weight", prefix=""), blocks__0__ffn__0__pre_quant_scale=ONE),
        "a scale for blocks.0.ffn.0.weight that ComfyUI would not use",
    ),
    "unknown_key.pt": (lambda w: {"generator": w, "adapter": {"a": ONE}}, r"does not have \(adapter\)"),
    "twice.pt": (
        lambda w: {"generator": {**w, "model.head.modulation": w["head.modulation"]}},
        "holds head.modulation twice",
    ),
    "ragged_scale.safetensors": (
        lambda w: {
            **published.with_scales(w, prefix=""),
            "blocks.0.ffn.0.weight_scale": torch.ones(5, 1),
        },
        r"a scale of shape \(5, 1\) for blocks.0.ffn.0.weight",
    ),
    "int8_alone.safetensors": (
        lambda w: {**w, "blocks.0.ffn.0.weight": torch.zeros(768, 384, dtype=torch.int8)},
        "no scale for blocks.0.ffn.0.weight, which is stored as int8",
    ),
    "exponents.safetensors": (  # mxfp8 without its marks
        lambda w: _but(
            published.with_scales(w, "weight", prefix=""),
            blocks__0__ffn__0__weight_scale=torch.full((768, 12), 120, dtype=torch.uint8),
        ),
        "a scale of shape .768, 12. for blocks.0.ffn.0.weight.*as uint8",
    ),
    "mark_alone.safetensors": (
        lambda w: _but(w, blocks__0__ffn__0__comfy_quant=mark(b'{"format": "float8_e4m3fn"}')),
        "no scale for blocks.0.ffn.0.weight, which is stored as float32",
    ),
    "deep_mark.safetensors": (lambda w: _but(w, blocks__0__ffn__0__comfy_quant=mark(b"[" * 100_000)), "no scale for"),
    "mark_of_numbers.safetensors": (
        lambda w: _but(w, blocks__0__ffn__0__comfy_quant=torch.tensor(2**62)),
        "no scale for",
    ),
    "sparse.pt": (lambda w: _but(w, head__modulation=w["head.modulation"].to_sparse()), "holds head.modulation as a"),
    "meta.pt": (lambda w: _but(w, head__modulation=w["head.modulation"].to("meta")), "holds head.modulation as a"),
    "other_size.safetensors": (
        lambda w: _but(w, blocks__0__ffn__0__weight=torch.zeros(7, 5)),
        "cannot be loaded by ComfyUI .*size mismatch for blocks.0.ffn.0.weight",
    ),
    "no_size.safetensors": (
        lambda w: _but(w, blocks__0__ffn__0__weight=torch.tensor(1.0)),
        "cannot be loaded by ComfyUI ",
    ),
    "new_format.safetensors": (
        lambda w: _but(
            published.with_scales(w, "weight", prefix=""),
            blocks__0__ffn__0__comfy_quant=mark(b'{"format": "float3"}'),
        ),
        "holds blocks.0.ffn.0.weight as 'float3'.*Update ComfyUI",
    ),
    "gap.safetensors": (
        lambda w: {n: t for n, t in w.items() if not n.startswith("blocks.1.")},
        "is incomplete. It lacks .* one of several files",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_another_model_is_refused(files, load, name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as refusal:
        load(files.put(name, make(dict(files.weights))))
    assert str(refusal.value).startswith(name) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("suffix", ["json", "safetensors", "pt"])
def test_the_list_of_a_models_parts_is_told_for_what_it_is(pack, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"diffusion_pytorch_model.safetensors.index.{suffix}"
    parts = {"blocks.0.ffn.0.weight": "diffusion_pytorch_model-00001-of-00003.safetensors"}
    path.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": parts}, indent=2))
    with pytest.raises(ValueError, match="is a text file, not a checkpoint. It is the list of a model's parts"):
        pack.module("nodes.host.checkpoint_file").read_checkpoint(str(path))


def test_a_header_that_cannot_be_read_is_told(files, load) -> None:
    stored = published.with_scales(files.weights, by="weight", prefix="")
    for header in ("no json", "[]", '{"layers": 3}', '{"layers": {"blocks.0.ffn.0": 3}}'):
        name = files.put("self_forcing_bad_header.safetensors", stored, header={"_quantization_metadata": header})
        with pytest.raises(ValueError, match="a header that does not say how its weights are stored"):
            load(name)


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "model._orig_mod.",
        "module.",
        "generator.model.",
        "module.model._fsdp_wrapped_module.",
        "model._checkpoint_wrapped_module.",
        "generator_ema.module.",
    ],
)
def test_what_training_has_wrapped_is_unwrapped(files, load, prefix: str) -> None:
    wrapped = {prefix + name: tensor for name, tensor in files.weights.items()}
    between = {name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module.", 1): t for name, t in wrapped.items()}
    model = load(files.put(f"self_forcing_{prefix}pt", {"model": between}))
    name = "diffusion_model.blocks.0.ffn.2.weight"
    assert torch.equal(model.get_model_object(name), files.weights["blocks.0.ffn.2.weight"])


def test_of_two_models_written_out_flat_the_averaged_one_is_loaded(files, load, pack) -> None:
    latest = {f"generator.{name}": tensor + 1 for name, tensor in files.weights.items()}
    averaged = {f"generator_ema.{name}": tensor for name, tensor in files.weights.items()}
    model, report = pack.run(
        "HeadForcingLoadARModel", model_name=files.put("self_forcing_flat.safetensors", {**latest, **averaged})
    )
    name = "diffusion_model.head.modulation"
    assert torch.equal(model.get_model_object(name), files.weights["head.modulation"])
    assert "key generator_ema" in report and "Left aside in the file: generator." in report


OF_HOST = {"foo": 1, "in_dim": 36, "image_model": "flux", "disable_unet_model_creation": True}


@pytest.mark.parametrize("setting", OF_HOST)
def test_a_config_in_the_header_does_not_change_what_is_built(files, load, setting: str) -> None:
    """0.1.0 loaded such files; the host takes every word of it for an argument of the model."""
    header = {"config": json.dumps({"transformer": {setting: OF_HOST[setting]}})}
    model = load(files.put("self_forcing_config.safetensors", files.weights, header=header))
    name = "diffusion_model.head.modulation"
    assert torch.equal(model.get_model_object(name), files.weights["head.modulation"])


BESIDE: dict[str, dict[str, object]] = {
    "optimizer first": {"optimizer": {"state": {0: {"exp_avg": ONE}}}, "net": ...},
    "average without weights": {"generator_ema": {"decay": 0.99, "shadow": {}}, "generator": ...},
    "lightning": {
        "generator": ...,
        "callbacks": {"a": {"best": ONE}},
        "loops": {"x": ONE},
        "hyper_parameters": {"a": ONE},
    },
    "counters": {"model": ..., "iteration": ONE, "lr": ONE, "best_fid": ONE},
    "encoders": {"model": ..., "vae": {"a": ONE}, "text_encoder": {"a": ONE}, "clip_vision": {"a": ONE}},
}


@pytest.mark.parametrize("kind", BESIDE)
def test_a_model_is_found_beside_whatever_a_training_keeps(files, load, kind: str) -> None:
    content = {key: files.weights if value is ... else value for key, value in BESIDE[kind].items()}
    model = load(files.put("self_forcing_beside.pt", content))
    name = "diffusion_model.head.modulation"
    assert torch.equal(model.get_model_object(name), files.weights["head.modulation"])


def test_keys_may_stand_in_each_other_at_any_depth(files, pack) -> None:
    deep: object = ONE
    for _ in range(5000):
        deep = {"k": deep}
    unwrap = pack.module("headforcing_core.checkpoint.wan_weights").unwrap
    found = unwrap({"model": files.weights, "optimizer": deep}, "x.pt")
    assert found.notes == ("Left aside in the file: optimizer.",)
    with pytest.raises(ValueError, match="x.pt holds no tensors"):
        unwrap({"optimizer": deep}, "x.pt")


@pytest.mark.parametrize("name", ["take_1-of-2", "best-2-of-3", "model-00001-of-00001"])
def test_a_whole_model_is_no_part_by_a_counted_name(files, load, name: str) -> None:
    assert load(files.put(f"{name}.safetensors", files.weights)) is not None


def test_what_stands_beside_a_model_is_named(files, pack) -> None:
    content = {
        "generator": {f"model.{name}": tensor for name, tensor in files.weights.items()},
        "critic": {"a": ONE},
        "optimizer": {"state": {0: {"exp_avg": ONE}}},
        "step": 3,
        "merged_lora": "lora.pt",
    }
    report = pack.run("HeadForcingLoadARModel", model_name=files.put("self_forcing_state.pt", content))[1]
    assert "Left aside in the file: critic, merged_lora, optimizer and 1 more." in report


@pytest.mark.parametrize(
    "name, what",
    [
        ("vae.decoder.conv1.weight", "Not used: a VAE (vae.decoder.conv1.weight)."),
        ("text_encoders.umt5xxl.transformer.shared.weight", "Not used: a text encoder"),
        ("blocks.0.cam_injector_layer1.weight", "Not used: a camera's tensors (blocks.0.cam_injector_layer1.weight)."),
        ("model_ema.decay", "Not used: averaged weights of another name"),
        ("freqs", "Not used: tables of rotation"),
        ("blocks.2.self_attn.comfy_attention.config", "Not used: tags that ask for int8 attention"),
    ],
)
def test_what_is_no_weight_is_told_and_stays_out_of_the_fingerprint(files, pack, name: str, what: str) -> None:
    facts_of = pack.module("nodes.host.model").facts_of
    weights_fingerprint = pack.module("headforcing_core.checkpoint.fingerprint").weights_fingerprint
    with_it = {**files.weights, name: torch.ones(3, dtype=torch.uint8)}
    model, report = pack.run("HeadForcingLoadARModel", model_name=files.put("self_forcing_more.safetensors", with_it))
    assert what in report
    # and what 0.1.0 gave, which took every tensor for a weight
    assert facts_of(model).fingerprints == (weights_fingerprint(files.weights), weights_fingerprint(with_it))


def test_the_names_of_a_model_are_those_of_the_host(files, pack) -> None:
    names = pack.module("headforcing_core.checkpoint.tensor_names")
    assert all(map(names.is_weight, files.weights))
    assert not names.is_weight("blocks.0.self_attn.norm_q.bias") and not names.is_weight(
        "blocks.0.cross_attn.k_img.weight"
    )


def test_every_name_that_families_are_known_to_have_is_used_told_or_refused(files, pack) -> None:
    """The names are those of the authors' code; not one may be dropped in silence."""
    unwrap = pack.module("headforcing_core.checkpoint.wan_weights").unwrap
    known = [
        *("patch_embedding_wancamctrl.weight", "patch_embedding_wancamctrl.bias"),
        *(f"c2ws_hidden_states_layer{each}.weight" for each in (1, 2)),
        *(f"blocks.{block}.cam_injector_layer{each}.weight" for block in (0, 3) for each in (1, 2)),
        *(f"blocks.{block}.{each}.bias" for block in (0, 3) for each in ("cam_scale_layer", "cam_shift_layer")),
        *(f"blocks.0.self_attn.q.memory_{each}" for each in ("weight", "bias")),
        *(f"memory_{each}.0.weight" for each in ("text_embedding", "time_embedding", "time_projection")),
        *("blocks.1.memory_modulation", "memory_patch_embedding.weight", "memory_head.head.weight"),
        *(f"blocks.0.ffn.0.{each}" for each in ("weight_global_scale", "input_global_scale", "quantized_weight_x")),
        *("blocks.0.ffn.0.weight_scale", "blocks.0.ffn.0.input_scale", "blocks.0.ffn.0.comfy_quant"),
        *("blocks.0.self_attn.comfy_attention.config", "img_emb.proj.0.weight", "blocks.0.cross_attn.k_img.weight"),
        *("vace_blocks.0.after_proj.weight", "ref_conv.weight", "blocks.0.self_attn.q.alpha"),
    ]
    for name in known:
        try:
            weights = unwrap({**files.weights, name: torch.ones(1)}, "x.safetensors")
        except ValueError as error:
            assert "x.safetensors" in str(error)
            continue
        assert name.endswith(("input_scale", "comfy_quant")) or any(name in note for note in weights.notes), name


def test_a_model_of_a_known_width_is_not_accepted_with_fewer_layers(pack) -> None:
    from comfy.ldm.wan.ar_model import CausalWanModel

    unwrap = pack.module("headforcing_core.checkpoint.wan_weights").unwrap
    shapes = empty_model(CausalWanModel, WanShape(dim=1536, layers=2, ffn_dim=128), "t2v").state_dict()
    with pytest.raises(ValueError, match="It has 2 layers, and Wan 2.1 of width 1536 has 30"):
        unwrap({name: tensor.to("meta") for name, tensor in shapes.items()}, "first_part.safetensors")


@pytest.mark.parametrize("chosen", ["auto", "krea_realtime"])
def test_the_family_survives_save_model(files, pack, load, chosen: str) -> None:
    from comfy_extras.nodes_model_merging import save_checkpoint

    inputs = {"model_name": "causal_forcing_framewise.pt", "family": chosen, "chunk_frames": 0}
    workflow = {
        "1": {"class_type": "HeadForcingLoadARModel", "inputs": inputs},
        "2": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "tiny_lora.safetensors"}},
        "3": {"class_type": "ModelSave", "inputs": {"model": ["2", 0], "filename_prefix": "mine"}},
    }
    folder = files.models / "diffusion_models"
    model = load(inputs["model_name"], family=chosen)
    save_checkpoint(model, filename_prefix="mine", output_dir=str(folder), prompt=workflow)
    (saved,) = folder.glob("mine_*.safetensors")
    model, report = pack.run("HeadForcingLoadARModel", model_name=saved.name)
    saved.unlink()
    facts = pack.module("nodes.host.model").facts_of(model)
    family = {"auto": "causal_forcing_framewise"}.get(chosen, chosen)
    assert (facts.family, facts.chunk_frames) == (family, {"auto": 1}.get(chosen, 3))
    assert f"Family {family}, told by the workflow that the file was saved with" in report


def test_what_0_1_0_kept_of_a_tagged_file_goes_on(files, pack, video) -> None:
    """It took the tags for weights, so its fingerprint was another."""
    tagged = {**files.weights, "blocks.2.self_attn.comfy_attention.config": torch.ones(3, dtype=torch.uint8)}
    name = files.put("self_forcing_tagged.safetensors", tagged)
    model = pack.run("HeadForcingLoadARModel", model_name=name)[0]
    now, before = pack.module("nodes.host.model").facts_of(model).fingerprints
    video(model, TEXT, seconds=0.5, run_name="tagged")
    place = pack.module("nodes.keeping.output_folder").runs_folder() / "tagged" / "run.json"
    seal = pack.module("headforcing_core.run_store.record_json").seal
    written = json.loads(place.read_bytes())
    assert written.pop("sha256") and written["settings"]["fingerprint"] == now
    for fingerprint in (before, "weights:" + "0" * 64):
        written["settings"]["fingerprint"] = fingerprint
        place.write_bytes(seal(json.dumps(written, separators=(",", ":")).encode("ascii")))
        if fingerprint == before:
            video(model, TEXT, seconds=0.75, run_name="tagged")
        else:
            with pytest.raises(ValueError, match="was made with fingerprint .the checkpoint. 'weights:000"):
                video(model, TEXT, seconds=0.75, run_name="tagged")


def test_a_profile_of_0_1_0_serves_a_tagged_file(files, pack, tmp_path) -> None:
    tagged = {**files.weights, "blocks.2.self_attn.comfy_attention.config": torch.zeros(2, dtype=torch.uint8)}
    model = pack.run("HeadForcingLoadARModel", model_name=files.put("self_forcing_tags.safetensors", tagged))[0]
    facts = pack.module("nodes.host.model").facts_of(model)
    library = pack.module("nodes.profiles.library")
    heads = pack.module("headforcing_core.heads.profile")
    labels = tuple(("local", "anchor", "memory") for _ in range(4))
    profile = heads.HeadProfile(facts.older_fingerprints[0], "fast", library.USUAL_RULE, labels, None, {})
    path = library.store_profile(profile, "of_0_1_0")
    assert library.known_profile(facts, 4, 3)[0] == profile
    assert profile.check_fits(4, 3, facts.fingerprints) is None
    path.unlink()
    assert library.known_profile(facts, 4, 3)[0] is None
