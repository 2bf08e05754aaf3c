"""LoRA files as others publish them: added whole, or told how much of them changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fixtures import published
from tests.host.conftest import conditioning

BASE = "self_forcing_dmd.safetensors"
TEXT = conditioning(2)


@pytest.fixture(scope="module")
def loras(pack) -> Path:
    import folder_paths

    return Path(folder_paths.models_dir) / "loras"


@pytest.fixture(scope="module")
def pairs(loras: Path) -> dict[str, Tensor]:
    """The LoRA of the fixture models under plain module names."""
    found = load_file(loras / "tiny_lora.safetensors")
    return {name.removeprefix("diffusion_model."): tensor for name, tensor in found.items()}


@pytest.fixture(scope="module")
def with_lora(pack, loras: Path) -> Callable[..., tuple]:
    """Load AR Model with a LoRA file of this content: (MODEL, report)."""

    def load(content: object, name: str = "lora.pt", **inputs: object) -> tuple:
        torch.save(content, loras / name)
        return pack.run("HeadForcingLoadARModel", model_name=BASE, lora=name, **inputs)

    return load


@pytest.fixture(scope="module")
def latent(video) -> Callable[..., Tensor]:
    return lambda model: video(model, TEXT, seconds=0.5)[0]["samples"]


@pytest.fixture(scope="module")
def merged(pack, pairs: dict[str, Tensor], latent) -> Tensor:
    """The video of a checkpoint into which the LoRA is merged."""
    import folder_paths

    folder = Path(folder_paths.models_dir) / "diffusion_models"
    weights = load_file(folder / BASE)
    for name in [name for name in pairs if name.endswith(".lora_A.weight")]:
        module = name.removesuffix(".lora_A.weight")
        weights[f"{module}.weight"] += pairs[f"{module}.lora_B.weight"] @ pairs[name]
    save_file(weights, folder / "self_forcing_merged.safetensors")
    return latent(pack.run("HeadForcingLoadARModel", model_name="self_forcing_merged.safetensors")[0])


def off(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, in RMS of what is wanted."""
    return float((found - wanted).abs().max() / wanted.pow(2).mean().sqrt())


@pytest.mark.parametrize(
    "layout",
    ["longlive", "memflow", "fsdp", "peft_adapter", "diffsynth", "host", "plain", "kohya", "wan_fun", "diffusers"]
    + ["onetrainer"],
)
def test_every_layout_is_the_lora_merged_into_the_weights(layout: str, pairs, with_lora, latent, merged) -> None:
    model, report = with_lora(published.lora_layouts(pairs)[layout])
    assert "LoRA lora.pt: 40 of 40 weights changed." in report
    assert off(latent(model), merged) < 1e-5
    assert ("Left aside in the file: critic_lora, step." in report) == (layout == "longlive")


def test_the_strength_counts_and_none_at_all_is_none(pairs, with_lora, latent, load, merged) -> None:
    content = published.lora_layouts(pairs)["longlive"]
    plain = latent(load(BASE))
    assert torch.equal(latent(with_lora(content, lora_strength=0.0)[0]), plain)
    assert off(latent(with_lora(content, lora_strength=1.0)[0]), merged) < 1e-5
    half = latent(with_lora(content, lora_strength=0.5)[0])
    assert off(half, plain) > 0.05 and off(half, merged) > 0.05


def test_alpha_scales_as_where_it_was_trained(pairs, with_lora, latent) -> None:
    kohya = published.lora_layouts(pairs)["kohya"]
    assert isinstance(kohya, dict)
    halved = {name: tensor / 2 if name.endswith("alpha") else tensor for name, tensor in kohya.items()}
    by_strength = latent(with_lora(kohya, lora_strength=0.5)[0])
    assert off(latent(with_lora(halved)[0]), by_strength) < 1e-5


def of_width(width: int) -> dict[str, Tensor]:
    """A LoRA for a model of another width."""
    parts = {"lora_A.weight": (4, width), "lora_B.weight": (width, 4)}
    names = [f"blocks.{block}.self_attn.{each}" for block in range(4) for each in "qkvo"]
    return {f"{name}.{part}": torch.randn(size) for name in names for part, size in parts.items()}


MISFITS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "unknown": (
        lambda pairs: {f"unet.down.{name}": tensor for name, tensor in pairs.items()},
        "0 of 40 weights changed; 40 names fit nothing in this model (unet.down.blocks.0.cross_attn.k, ",
    ),
    "larger": (
        lambda pairs: of_width(640),
        "0 of 16 weights changed; 16 have another size here, or stand where ComfyUI",
    ),
    "smaller": (
        lambda pairs: of_width(128),
        "0 of 16 weights changed; 16 have another size here, or stand where ComfyUI",
    ),
    "deeper": (
        lambda pairs: pairs | {name.replace("blocks.0.", "blocks.7."): tensor for name, tensor in pairs.items()},
        "40 of 50 weights changed; 10 names fit nothing in this model (blocks.7.cross_attn.k, ",
    ),
    "one_layer": (
        lambda pairs: {f"blocks.0.ffn.0.lora_{each}.weight": torch.ones(8, 8) for each in "AB"},
        "0 of 1 weights changed; 1 have another size here",
    ),
    "lokr": (
        lambda pairs: {"blocks.0.ffn.0.lokr_w1": torch.ones(8, 8), "blocks.0.ffn.0.lokr_w2": torch.ones(8, 8)},
        "0 of 1 weights changed; 1 have another size here",
    ),
    "diff": (lambda pairs: {"blocks.0.ffn.0.diff": torch.ones(8, 8)}, "0 of 1 weights changed; 1 have another size"),
    "ranks": (
        lambda pairs: {
            "blocks.0.ffn.0.lora_A.weight": torch.ones(4, 384),
            "blocks.0.ffn.0.lora_B.weight": torch.ones(768, 8),
        },
        "0 of 1 weights changed; 1 have another size here",
    ),
    "no_rank": (
        lambda pairs: {
            "blocks.0.ffn.0.lora_A.weight": torch.ones(0, 384),
            "blocks.0.ffn.0.lora_B.weight": torch.ones(768, 0),
        },
        "0 of 1 weights changed; 1 have another size here",
    ),
    "reshaped": (
        lambda pairs: {
            "blocks.0.ffn.0.lora_A.weight": torch.ones(4, 384),
            "blocks.0.ffn.0.lora_B.weight": torch.ones(776, 4),
            "blocks.0.ffn.0.reshape_weight": torch.tensor([776, 384]),
        },
        "0 of 1 weights changed; 1 have another size here",
    ),
    "loha": (
        lambda pairs: {
            **{f"blocks.0.ffn.0.hada_w{each}_a": torch.ones(768, 4) for each in "12"},
            "blocks.0.ffn.0.hada_w1_b": torch.ones(4, 384),
            "blocks.0.ffn.0.hada_w2_b": torch.ones(5, 384),
        },
        "0 of 1 weights changed; 1 have another size here",
    ),
    "oft": (
        lambda pairs: {"blocks.0.ffn.0.oft_blocks": torch.ones(8, 7, 7)},
        "0 of 1 weights changed; 1 have another size here",
    ),
    "dora": (
        lambda pairs: {**pairs, "blocks.1.ffn.0.dora_scale": torch.ones(5, 1)},
        "39 of 40 weights changed; 1 have another size here",
    ),
    "bias": (
        lambda pairs: {**pairs, "blocks.1.ffn.0.diff_b": torch.ones(5)},
        "40 of 40 weights changed; 1 have another size here",
    ),
    "peft_bias": (
        lambda pairs: {**pairs, "blocks.1.ffn.0.lora_B.bias": torch.ones(768)},
        "40 of 41 weights changed; 1 names fit nothing in this model (blocks.1.ffn.0.lora_B.bias)",
    ),
    "half": (lambda pairs: {"blocks.0.ffn.0.lora_A.weight": torch.ones(4, 384)}, "1 were not added: half of each is"),
    "half_lokr": (lambda pairs: {"blocks.0.ffn.0.lokr_w1": torch.ones(8, 8)}, "0 of 1 weights changed; 1 have another"),
    "modulation": (
        lambda pairs: {"blocks.0.modulation.diff": torch.ones(1, 6, 384)},
        "0 of 1 weights changed; 1 have another size here, or stand where ComfyUI changes nothing",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_fits_nothing_is_told_and_ties_no_kept_run(
    name: str, pairs, with_lora, video, latent, load, caplog
) -> None:
    make, told = MISFITS[name]
    model, report = with_lora(make(pairs))
    assert told in report and told in caplog.text
    made = video(model, TEXT, seconds=0.5)
    found = json.loads(made[3])
    assert any(told in note for note in found["notes"])
    if told.startswith("0 of"):
        assert found["settings"]["weight_patches"] is None
        assert torch.equal(made[0]["samples"], latent(load(BASE)))


def test_a_rank_of_none_changes_nothing(with_lora, load, latent) -> None:
    nothing = {"blocks.0.ffn.0.lora_A.weight": torch.ones(0, 384), "blocks.0.ffn.0.lora_B.weight": torch.ones(768, 0)}
    model, report = with_lora(nothing)
    assert "LoRA lora.pt: 0 of 1 weights changed" in report
    assert torch.equal(latent(model), latent(load(BASE)))


def test_a_weight_that_is_stored_in_another_shape_has_the_size_that_it_says(pairs, with_lora, pack) -> None:
    """As the weights of GGUF loaders: bytes, which say what they stand for."""

    class Packed(torch.Tensor):
        @property
        def shape(self) -> torch.Size:
            return torch.Size((384, 384))

    model = with_lora(pairs)[0]
    name = "diffusion_model.blocks.0.self_attn.q.weight"
    layer = model.get_model_object("diffusion_model.blocks.0.self_attn.q")
    stored = layer.weight
    fits_weight = pack.module("nodes.host.patch_size").fits_weight
    try:
        layer.weight = torch.nn.Parameter(torch.zeros(384, 408).as_subclass(Packed), requires_grad=False)
        assert fits_weight(model, name, model.patches[name][0])
    finally:
        layer.weight = stored
    assert not fits_weight(model, name.replace("self_attn.q", "ffn.0"), model.patches[name][0])


A_PAIR = {"blocks.0.ffn.0.lora_A.weight": torch.ones(4, 384), "blocks.0.ffn.0.lora_B.weight": torch.ones(768, 4)}


@pytest.mark.parametrize(
    "content, reason",
    [
        ({"blocks.0.self_attn.q.weight": torch.ones(1)}, "is not a LoRA: it holds blocks.0.self_attn.q.weight"),
        ([1, 2], "is not a LoRA: it holds list"),
        ({"generator_lora": {}}, "is not a LoRA: it holds"),
        ({**A_PAIR, "blocks.0.ffn.0.alpha": torch.ones(2)}, "blocks.0.ffn.0.alpha holds 2 numbers, not one"),
        ({name: tensor.to_sparse() for name, tensor in A_PAIR.items()}, "as a tensor without numbers of its own"),
        ({name: tensor.to("meta") for name, tensor in A_PAIR.items()}, "as a tensor without numbers of its own"),
        (A_PAIR | {name.replace("weight", "b.weight"): tensor for name, tensor in A_PAIR.items()}, "ffn.0 twice, by"),
        ({**A_PAIR, "lora_unet_blocks_0_ffn_0.lora_down.weight": torch.ones(4, 384)}, "ffn.0 twice, by"),
        ({"lora_te_text_model_encoder.lora_up.weight": torch.ones(4, 4)}, "changes the text encoder alone"),
        ({"blocks.0.ffn.0.lora_B.weight": torch.ones(768, 4)}, r"lacks diffusion_model.blocks.0.ffn.0.lora_A.weight"),
    ],
)
def test_what_is_no_lora_is_refused(with_lora, content: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        with_lora(content)


def test_the_texts_of_a_lora_are_not_counted(pairs, with_lora) -> None:
    texts = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(4, 4)}
    report = with_lora({**pairs, **texts})[1]
    assert "LoRA lora.pt: 40 of 40 weights changed." in report
    assert "Not used: what the LoRA changes in a text encoder (lora_te_text_model_encoder_layers_0_mlp" in report


def test_a_lora_acts_on_weights_that_are_stored_small(pairs, with_lora, latent, merged) -> None:
    for dtype in ("fp8_e4m3fn", "fp8_e5m2"):
        found = latent(with_lora(pairs, weight_dtype=dtype)[0])
        alike = torch.nn.functional.cosine_similarity(found.flatten(), merged.flatten(), dim=0)
        assert alike > 0.8


def test_a_kept_run_of_a_lora_without_effect_goes_on_under_the_hash_of_before(load, pack, video) -> None:
    """0.1.0 hashed all that was to be added, whether it fitted or not."""
    import comfy.sd

    misfitting = {f"diffusion_model.{name}": tensor for name, tensor in of_width(640).items()}
    model, name = comfy.sd.load_lora_for_models(load(BASE), None, misfitting, 1.0, 0)[0], "lora without effect"
    video(model, TEXT, seconds=0.5, run_name=name)
    place = pack.module("nodes.keeping.output_folder").runs_folder() / name / "run.json"
    record_json = pack.module("headforcing_core.run_store.record_json")
    now, before = pack.module("nodes.host.lora_hash").weight_patches_hashes(model)
    written = json.loads(place.read_bytes())
    assert now is None and written.pop("sha256") and written["settings"]["weight_patches"] is None
    for hashed, goes_on in ((before, True), ("0" * 64, False)):
        written["settings"]["weight_patches"] = hashed
        place.write_bytes(record_json.seal(json.dumps(written, separators=(",", ":")).encode("ascii")))
        if goes_on:
            video(model, TEXT, seconds=0.75, run_name=name)
        else:
            with pytest.raises(ValueError, match="was made with weight_patches .LoRA. '0000"):
                video(model, TEXT, seconds=0.75, run_name=name)


def test_a_lora_beside_the_weights_counts_as_one_in_them(load, pack, loras: Path) -> None:
    """The host's bypass computes it in the layers; a kept run is tied to it all the same."""
    from comfy_extras.nodes_lora_debug import LoraLoaderBypassModelOnly

    hashes = pack.module("nodes.host.lora_hash").weight_patches_hashes
    lora = pack.module("nodes.host.lora")
    plain = load(BASE)
    models = [
        LoraLoaderBypassModelOnly().load_lora_model_only(plain, "tiny_lora.safetensors", strength)[0]
        for strength in (1.0, 0.5)
    ]
    assert len({hashes(model)[0] for model in (plain, *models)}) == 3
    assert all(hashes(model)[1:] == (None,) for model in models)  # what 0.1.0 saw of it
    (fit,) = lora.named_fits(models[0], [str(loras / "tiny_lora.safetensors")])
    assert fit.is_whole and fit.weights == 40


def test_what_any_node_adds_is_looked_at_by_its_size(pack, load) -> None:
    """The forms of a change that the host's patcher takes besides LoRA."""
    unnamed_fit = pack.module("nodes.host.lora").unnamed_fit
    for shape, is_whole in (((768, 384), True), ((7, 5), False)):
        for change in ((torch.ones(shape),), ("diff", (torch.ones(shape),)), ("set", (torch.ones(shape),))):
            model = load(BASE).clone()
            model.add_patches({"diffusion_model.blocks.0.ffn.0.weight": change}, 1.0)
            assert unnamed_fit(model).is_whole is is_whole


@pytest.mark.parametrize("name", ["dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.default.weight"])
def test_a_scale_of_rows_is_one_number_a_row(pairs, with_lora, latent, name: str) -> None:
    """DoRA: of shape (rows,) where PEFT wrote it, which the host takes in (rows, 1) alone."""
    rows = {module: pairs[f"{module}.lora_B.weight"].shape[0] for module in ("blocks.1.ffn.0", "blocks.1.ffn.2")}
    flat, column = (
        {**pairs, **{f"{module}.{name}": torch.full((count, *more), 0.5) for module, count in rows.items()}}
        for more in ((), (1,))
    )
    model, report = with_lora(flat)
    assert "40 of 40 weights changed." in report
    assert torch.equal(latent(model), latent(with_lora(column)[0]))
    assert not torch.equal(latent(model), latent(with_lora(pairs)[0]))


@pytest.mark.parametrize(
    "inputs, told",
    [
        ({"lora_name": "deeper.safetensors", "strength_model": 1.0}, True),
        ({"lora_1": {"on": True, "lora": "deeper.safetensors", "strength": 0.8}}, True),
        ({"lora_1": {"on": False, "lora": "deeper.safetensors", "strength": 0.8}}, False),
        ({"lora_name": "deeper.safetensors", "strength_model": 0.0}, False),
        ({"lora_name": "deeper.safetensors", "strength_model": 0.0, "strength_clip": 1.0}, False),
        ({"lora_stack": ["stack", 0]}, True),
    ],
)
def test_a_lora_of_any_node_before_the_sampler_is_told_if_parts_of_it_fit_nothing(
    pack, load, pairs, loras: Path, inputs: dict[str, object], told: bool
) -> None:
    import comfy.sd
    from comfy_execution.graph import DynamicPrompt

    named = {f"diffusion_model.{name}": tensor for name, tensor in pairs.items()}
    deeper = named | {name.replace("blocks.0.", "blocks.9."): tensor for name, tensor in named.items()}
    save_file({name: tensor.clone() for name, tensor in deeper.items()}, loras / "deeper.safetensors")
    model = comfy.sd.load_lora_for_models(load(BASE), None, deeper, 1.0, 0)[0]
    prompt = DynamicPrompt(
        {
            "model": {
                "class_type": "HeadForcingLoadARModel",
                "inputs": {"model_name": BASE, "lora": "deeper.safetensors"},
            },
            "stack": {"class_type": "SomeLoraStack", "inputs": {"lora_a": "deeper.safetensors", "strength_a": 1.0}},
            "power": {"class_type": "SomeLoraLoader", "inputs": {"model": ["model", 0], **inputs}},
            "sampler": {"class_type": "HeadForcingSampler", "inputs": {"model": ["power", 0]}},
        }
    )
    warnings = pack.module("nodes.request.lora_warnings").lora_warnings(model, prompt, "sampler")
    expected = "LoRA deeper.safetensors: 40 of 50 weights changed; 10 names fit nothing in this model ("
    assert [warning.startswith(expected) for warning in warnings] == [True] * told
