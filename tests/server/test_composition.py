"""The nodes work between the host's own: what stands before, after and beside them keeps its meaning."""

import json
from collections.abc import Iterator

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from devtools.server.tiny_workflow import Node, Workflow
from headforcing_core.farm.client import Client
from headforcing_core.farm.process import Server
from tests.fixtures import published
from tests.server.conftest import Refusal, SavedLatent, shown, steps
from tests.server.graphs import SIZE, node, sampling

CHECKPOINT = "self_forcing_dmd.safetensors"
ALONG_WIDTH = ("shared.weight", "q.weight", "k.weight", "v.weight", "wi_0.weight", "wi_1.weight")


@pytest.fixture(scope="module")
def plain(saved_latent: SavedLatent) -> Tensor:
    """What Load AR Model and the sampler make with nothing between them."""
    return saved_latent(sampling())


@pytest.fixture
def wide_encoder(comfyui: Server) -> Iterator[str]:
    """The name of a text encoder twice as wide as the models read."""
    folder = comfyui.folder / "models" / "text_encoders"
    with safetensors.safe_open(folder / "tiny_umt5.safetensors", "pt") as tiny:
        config = json.loads(tiny.metadata()["config"])
        tensors = {name: twice_as_wide(name, tiny.get_tensor(name)) for name in tiny.keys()}  # noqa: SIM118 - no dict
    wide = folder / "wide_umt5.safetensors"
    safetensors.torch.save_file(tensors, wide, {"config": json.dumps(config | {"d_model": 2 * config["d_model"]})})
    yield wide.name
    wide.unlink()


def test_a_lora_loader_between_changes_the_video(saved_latent: SavedLatent, plain: Tensor) -> None:
    changed = saved_latent(
        between(node("LoraLoaderModelOnly", model=["model", 0], lora_name="tiny_lora.safetensors", strength_model=1.0))
    )
    assert changed.isfinite().all() and (changed - plain).abs().max() > 0.1


@pytest.fixture(scope="module")
def small_files(comfyui: Server) -> Iterator[dict[str, str]]:
    """Names of one model's files in fp8 with scales: as lightx2v publishes it, described in the header, the first
    without one of its scales, and in full numbers."""
    folder = comfyui.folder / "models" / "diffusion_models"
    weights = safetensors.torch.load_file(folder / CHECKPOINT)
    rows, one = published.with_scales(weights), published.with_scales(weights, by="weight")
    dropped = {name: tensor for name, tensor in rows.items() if name != "model.blocks.2.ffn.0.weight_scale"}
    contents = {"rows": rows, "header": one, "dropped": dropped, "full": published.in_full(rows)}
    for name, content in contents.items():
        header = published.header_for(content) if name == "header" else {}
        safetensors.torch.save_file(content, folder / f"self_forcing_{name}.safetensors", header)
    yield {name: f"self_forcing_{name}.safetensors" for name in contents}
    for name in contents:
        (folder / f"self_forcing_{name}.safetensors").unlink()


def test_weights_that_are_stored_small_are_what_their_scales_make_of_them(
    saved_latent: SavedLatent, refusal: Refusal, plain: Tensor, small_files: dict[str, str]
) -> None:
    def made(name: str) -> Tensor:
        return saved_latent(with_model(small_files[name]))

    def off(found: Tensor, wanted: Tensor) -> float:
        return float((found - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())

    rows = made("rows")
    assert off(rows, made("full")) < 1e-3
    assert off(rows, plain) <= 0.2 and off(made("header"), plain) <= 0.2
    assert "no scale for blocks.2.ffn.0.weight" in refusal(with_model(small_files["dropped"]), "model")


def with_model(name: str) -> Workflow:
    """The plain run with another checkpoint file."""
    workflow = sampling()
    workflow["model"] = node("HeadForcingLoadARModel", model_name=name)
    return workflow


@pytest.fixture(scope="module")
def longlive_lora(comfyui: Server) -> Iterator[str]:
    """The name of a LoRA file as LongLive is published with."""
    folder = comfyui.folder / "models" / "loras"
    pairs = safetensors.torch.load_file(folder / "tiny_lora.safetensors")
    named = {name.replace("diffusion_model.", "base_model.model."): tensor for name, tensor in pairs.items()}
    path = folder / "longlive_lora.pt"
    torch.save({"generator_lora": named, "critic_lora": named, "step": 3000}, path)
    yield path.name
    path.unlink()


def test_a_lora_that_the_node_before_knows_no_name_of_is_told(
    client: Client, saved_latent: SavedLatent, plain: Tensor, longlive_lora: str
) -> None:
    loader = node("LoraLoaderModelOnly", model=["model", 0], lora_name=longlive_lora, strength_model=1.0)
    told = (
        f"LoRA {longlive_lora}: 0 of 40 weights changed; 40 were not added: half of each is missing, or the node that "
        "names the file left it out, or does not know its layout, which lora of Load AR Model does."
    )
    workflow = between(loader)
    assert torch.equal(plain, saved_latent(workflow))
    result = client.run(
        {**workflow, "sampler": node("HeadForcingSampler", **{**workflow["sampler"]["inputs"], "seed": 7})}
    )
    (warning,) = [event for event in result.events if event.kind == "head_forcing.warning"]
    assert (warning.text("node_id"), warning.text("text")) == ("sampler", told)
    assert told in json.loads(shown(result))["notes"]


def test_the_same_lora_is_added_by_load_ar_model(client: Client, saved_latent: SavedLatent, longlive_lora: str) -> None:
    workflow = sampling()
    workflow["model"]["inputs"]["lora"] = longlive_lora
    good = node("LoraLoaderModelOnly", model=["model", 0], lora_name="tiny_lora.safetensors", strength_model=1.0)
    assert torch.equal(saved_latent(workflow), saved_latent(between(good)))
    assert not [event for event in client.run(workflow).events if event.kind == "head_forcing.warning"]


@pytest.mark.parametrize("how", [{"strength_model": 0.0}, {"lora_name": "tiny_lora.safetensors"}])
def test_a_lora_that_is_off_or_fits_is_not_told(client: Client, longlive_lora: str, how: dict[str, object]) -> None:
    inputs = {"model": ["model", 0], "lora_name": longlive_lora, "strength_model": 1.0, **how}
    result = client.run(between(node("LoraLoaderModelOnly", **inputs)))
    assert not [note for note in json.loads(shown(result))["notes"] if "LoRA" in note]


def test_a_lora_of_no_strength_changes_nothing(saved_latent: SavedLatent, plain: Tensor) -> None:
    assert torch.equal(
        plain,
        saved_latent(
            between(
                node("LoraLoaderModelOnly", model=["model", 0], lora_name="tiny_lora.safetensors", strength_model=0.0)
            )
        ),
    )


def test_a_model_sampling_node_between_changes_nothing(saved_latent: SavedLatent, plain: Tensor) -> None:
    assert torch.equal(plain, saved_latent(between(node("ModelSamplingSD3", model=["model", 0], shift=8.0))))


def test_a_model_of_the_stock_loader_makes_the_same_video_and_the_report_says_what_is_not_known(
    client: Client, saved_latent: SavedLatent, plain: Tensor
) -> None:
    workflow = sampling()
    workflow["model"] = node("UNETLoader", unet_name=CHECKPOINT, weight_dtype="default")
    assert torch.equal(plain, saved_latent(workflow))
    report = json.loads(shown(client.run(workflow)))
    assert report["notes"][0] == (
        "The model was not loaded by Load AR Model, so it cannot be known whether its weights are AR-trained: taken as "
        "self_forcing, 3 frames a chunk."
    )
    assert report["settings"]["ar_trained"] is False


def test_one_text_of_the_stock_encoder_makes_the_same_video_as_a_schedule_of_it(
    saved_latent: SavedLatent, plain: Tensor
) -> None:
    workflow = sampling(schedule=None, positive=["positive", 0])
    workflow["positive"] = node("CLIPTextEncode", clip=["clip", 0], text="a red fox in deep snow")
    assert torch.equal(plain, saved_latent(workflow))


def test_sigmas_of_a_stock_scheduler_are_taken(client: Client) -> None:
    workflow = sampling(sigmas=["sigmas", 0])
    workflow["sigmas"] = node("BasicScheduler", model=["model", 0], scheduler="simple", steps=2, denoise=1.0)
    result = client.run(workflow)
    assert result.status == "success", result.error
    assert steps(result, "sampler")[-1] == 2
    assert json.loads(shown(result))["settings"]["sigmas"][::2] == [1.0, 0.0]


def test_the_hosts_own_ar_sampler_makes_the_same_video_of_the_same_model_afterwards(saved_latent: SavedLatent) -> None:
    workflow = native_after_ours(frames=9)
    theirs, ours = saved_latent(workflow, "native"), saved_latent(workflow, "sampler")
    assert ours.shape == theirs.shape == (1, 16, 9, SIZE["height"] // 8, SIZE["width"] // 8)
    assert (ours - theirs).abs().max() <= 1e-5 and theirs.std() > 0.3


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_eight_bit_weights_make_a_similar_video(saved_latent: SavedLatent, plain: Tensor, weight_dtype: str) -> None:
    workflow = sampling()
    workflow["model"]["inputs"]["weight_dtype"] = weight_dtype
    eight = saved_latent(workflow)
    assert not torch.equal(eight, plain)
    assert torch.nn.functional.cosine_similarity(eight.flatten(), plain.flatten(), dim=0) > 0.8


@pytest.mark.parametrize("source", ["schedule", "positive"])
def test_a_text_encoder_of_another_width_is_refused(refusal: Refusal, wide_encoder: str, source: str) -> None:
    workflow = sampling() if source == "schedule" else sampling(schedule=None, positive=["positive", 0])
    workflow["positive"] = node("CLIPTextEncode", clip=["clip", 0], text="a red fox in deep snow")
    workflow["clip"]["inputs"]["clip_name"] = wide_encoder
    assert refusal(workflow, "sampler") == (
        f"{source} is a text of shape (1, 512, 128), the model reads (1, tokens, 64). It was made by another text "
        "encoder, or in a batch. Use CLIPLoader with umt5_xxl, type wan."
    )


def test_a_profile_can_be_loaded_as_soon_as_it_is_saved(client: Client) -> None:
    workflow = sampling(profile=["profile", 0])
    workflow["profile"] = node(
        "HeadForcingProfileHeads", model=["model", 0], rule="random", save_as="just saved", **SIZE
    )
    assert client.run(workflow).status == "success"
    workflow["profile"] = node("HeadForcingLoadProfile", profile_name="just saved.safetensors")
    workflow["policy"]["inputs"]["preset"] = "paper"
    result = client.run(workflow)
    assert result.status == "success", result.error
    report = json.loads(shown(result))
    assert report["profile"]["rule"] == "random"


def test_a_checkpoint_replaced_under_its_name_is_loaded_anew(client: Client, comfyui: Server) -> None:
    folder = comfyui.folder / "models" / "diffusion_models"
    workflow = {
        "model": node("HeadForcingLoadARModel", model_name="replaced.safetensors"),
        "report": node("PreviewAny", source=["model", 1]),
    }
    reports = []
    for name in ("random_a.safetensors", "random_b.safetensors"):
        (folder / "replaced.safetensors").write_bytes((folder / name).read_bytes())
        reports.append(shown(client.run(workflow)))
    (folder / "replaced.safetensors").unlink()
    assert "4 layers of 3 heads" in reports[0] and reports[0] != reports[1]


def between(model_node: Node) -> Workflow:
    """A run with one node between Load AR Model and the sampler."""
    return {**sampling(model=["between", 0]), "between": model_node}


def native_after_ours(frames: int) -> Workflow:
    """Our sampler on the host's noise and full history, then the host's own on the same MODEL, in one queue entry.

    Theirs starts from our latent, so it runs second; at the first noise level, 1, nothing of it is left.
    """
    workflow = sampling(schedule=None, positive=["positive", 0], noise="native", seed=5, seconds=(4 * frames - 3) / 16)
    del workflow["schedule"]
    workflow["policy"]["inputs"] = {"preset": "full", "rope": "absolute"}
    return {
        **workflow,
        "positive": node("CLIPTextEncode", clip=["clip", 0], text="a red fox in deep snow"),
        "sampler name": node("SamplerARVideo", num_frame_per_block=3),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=4, denoise=1.0),
        "native": node(
            "SamplerCustom",
            model=["model", 0],
            add_noise=True,
            noise_seed=5,
            cfg=1.0,
            positive=["positive", 0],
            negative=["positive", 0],
            sampler=["sampler name", 0],
            sigmas=["sigmas", 0],
            latent_image=["sampler", 0],
        ),
    }


def twice_as_wide(name: str, tensor: Tensor) -> Tensor:
    """A tensor of a UMT5 encoder whose tokens are twice as wide."""
    if name.endswith(("layer_norm.weight", "o.weight", "wo.weight")):
        return torch.cat((tensor, tensor))
    return torch.cat((tensor, tensor), dim=1) if name.endswith(ALONG_WIDTH) else tensor
