"""What other nodes, encoders and VAEs hand over that is no plain video, text or picture: refused or told where it comes
in."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning, load_vae

FRAMES = (1, 16, 3, 6, 8)


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def made(video, model) -> Callable[..., tuple]:
    """The outputs of one chunk in two steps; without a text of its own, under a plain one."""

    def run(**inputs: object) -> tuple:
        text = inputs.pop("positive", conditioning(4))
        return video(model, text, **{"seconds": 0.5, "sigmas": torch.tensor([1.0, 0.5, 0.0]), "seed": 3, **inputs})

    return run


def _spoiled(shape: tuple[int, ...], number: float) -> Tensor:
    """Plain numbers, one of which is none."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values.view(-1)[-1] = number
    return values


def _vae(change: Callable[[dict[str, Tensor]], None], tmp_path: Path, **given: object):
    """The fixture VAE, with other weights."""
    import comfy.sd
    import comfy.utils
    import folder_paths

    weights = comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("vae", "wan_2.1_vae.safetensors"))
    change(weights)
    return comfy.sd.VAE(sd=weights, **given)


def _spoil_encoder(weights: dict[str, Tensor]) -> None:
    weights["encoder.head.2.bias"] = weights["encoder.head.2.bias"] * float("nan")


def _spoil_decoder(weights: dict[str, Tensor]) -> None:
    weights["decoder.head.2.bias"] = weights["decoder.head.2.bias"] * float("nan")


def _overflow_half(weights: dict[str, Tensor]) -> None:
    weights["decoder.conv1.bias"] = weights["decoder.conv1.bias"] + 1e6


def _decode_to(channels: int) -> Callable[[dict[str, Tensor]], None]:
    def change(weights: dict[str, Tensor]) -> None:
        for name in ("decoder.head.2.weight", "decoder.head.2.bias"):
            weights[name] = torch.cat([weights[name]] * 4)[:channels]

    return change


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["previous", "positive"])
def test_numbers_that_are_none_are_refused_where_they_come_in(made, name: str, number: float) -> None:
    given = {"previous": {"samples": _spoiled(FRAMES, number)}, "positive": [[_spoiled((1, 512, 64), number), {}]]}
    remedy = {"previous": "--fp32-vae", "positive": "--fp32-text-enc"}[name]
    with pytest.raises(ValueError, match=f"^{name} holds NaN or infinity. .*{remedy}"):
        made(**{name: given[name]})


def test_a_scene_that_its_encoder_spoiled_is_refused(pack, made) -> None:
    schedule = pack.module("nodes.sockets").PromptSchedule
    scenes = pack.module("headforcing_core.schedule.reading").parse_schedule("a fox", {"recache": None})
    spoiled = schedule(scenes, ([[_spoiled((1, 512, 64), float("nan")), {}]],), "recache", 4, None)
    with pytest.raises(ValueError, match="^schedule holds NaN or infinity. "):
        made(positive=None, schedule=spoiled)


def test_a_start_image_that_its_vae_spoiled_is_refused(made, tmp_path: Path) -> None:
    image = torch.rand(1, 48, 64, 3)
    with pytest.raises(ValueError, match="^start_image, encoded by this vae, holds NaN or infinity. .*--fp32-vae"):
        made(start_image=image, vae=_vae(_spoil_encoder, tmp_path))


NO_PICTURES = {
    "NaN": (_spoil_decoder, {}, "NaN or infinity, which would be black pictures"),
    "numbers beyond 16 bits": (_overflow_half, {"dtype": torch.float16}, "NaN or infinity, which would be black"),
    "four small pictures in one": (_decode_to(12), {}, "makes 12 channels, and a picture has 3"),
    "one channel": (_decode_to(1), {}, "makes 1 channels, and a picture has 3"),
}


@pytest.mark.parametrize("case", NO_PICTURES)
def test_a_vae_that_makes_no_pictures_costs_the_video_and_not_the_run(made, tmp_path: Path, case: str) -> None:
    change, given, said = NO_PICTURES[case]
    name = case.replace(" ", "-")
    latent, shown, _, report = made(vae=_vae(change, tmp_path, **given), run_name=name)
    assert latent["samples"].isfinite().all()
    (note,) = [note for note in json.loads(report)["notes"] if note.startswith("The video stopped after 0 of 8 ")]
    assert said in note
    with pytest.raises(RuntimeError, match="The video stopped after 0 of 8 "):
        shown.get_components()


@pytest.mark.parametrize("case", NO_PICTURES)
def test_nor_is_black_shown_of_a_vae_that_decodes_the_whole(
    pack, made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, given, said = NO_PICTURES[case]
    monkeypatch.setattr(pack.module("nodes.video.latent_video"), "can_stream", lambda vae: False)
    video = pack.module("nodes.video.latent_video").LatentVideo(
        made()[0]["samples"], _vae(change, tmp_path, **given), 8, 16.0
    )
    with torch.inference_mode(), pytest.raises(RuntimeError, match=said):  # as when the host executes a node
        video.get_components()


def test_of_pictures_with_a_fourth_channel_three_are_shown(pack, made, tmp_path: Path) -> None:
    four = made(vae=_vae(_decode_to(4), tmp_path), run_name="four")
    three = made(vae=load_vae(), run_name="three")
    assert not any("video" in note for note in json.loads(four[3])["notes"])
    assert torch.equal(*(outputs[1].get_components().images for outputs in (four, three)))


def test_a_latent_of_video_and_sound_is_refused(made) -> None:
    from comfy.nested_tensor import NestedTensor

    both = NestedTensor((torch.zeros(FRAMES), torch.zeros(1, 8, 16, 16)))
    with pytest.raises(ValueError, match="^previous is a NestedTensor, of a model that makes video and sound "):
        made(previous={"samples": both})


@pytest.mark.parametrize("shape", [(1, 48, 64, 1), (1, 48, 64, 2), (1, 3, 48, 64), (48, 64, 3), (0, 48, 64, 3)])
def test_what_is_no_picture_is_refused_as_start_image(made, tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="^start_image has shape .* An image is "):
        made(start_image=torch.rand(shape), vae=load_vae())


def test_levels_may_come_in_any_shape_that_is_a_row(made) -> None:
    levels = torch.tensor([1.0, 0.5, 0.0])
    plain = made(sigmas=levels)[0]["samples"]
    for same in (levels[None], levels.double(), levels[:, None]):
        assert torch.equal(made(sigmas=same)[0]["samples"], plain)
    with pytest.raises(ValueError, match=r"^sigmas are \(1\)\. "):
        made(sigmas=torch.tensor(1.0))


def _seen() -> object:
    """What CLIP Vision Encode gives."""
    from comfy.clip_vision import Output

    seen = Output()
    seen.penultimate_hidden_states = torch.zeros(1, 257, 1280)
    return seen


CARRIED = {
    "control video of VACE": {"vace_frames": [torch.zeros(1, 32, 3, 12, 16)], "vace_strength": [1.0]},
    "CLIP vision": {"clip_vision_output": None},
    "guidance of Flux": {"guidance": 3.5},
    "camera": {"camera_conditions": torch.zeros(1)},
}


@pytest.mark.parametrize("case", CARRIED)
def test_what_a_text_to_video_model_does_not_read_is_told(made, case: str) -> None:
    carried = {key: _seen() if value is None else value for key, value in CARRIED[case].items()}
    text = conditioning(4)[0][0]
    latent, _, _, report = made(positive=[[text, {"pooled_output": None, **carried}]])
    said = f"positive carries {', '.join(sorted(carried))}. A Wan 2.1 text-to-video model reads the text alone, so "
    assert any(note.startswith(said) for note in json.loads(report)["notes"])
    assert torch.equal(latent["samples"], made()[0]["samples"])


def test_what_encoders_give_along_is_not_told(made) -> None:
    along = {"pooled_output": torch.zeros(1, 768), "attention_mask": torch.ones(1, 512)}
    notes = json.loads(made(positive=[[conditioning(4)[0][0], along]])[3])["notes"]
    assert not any("carries" in note for note in notes)


STEERED = {
    "hooks": "carries hooks, as of a LoRA .* put the LoRA on the model, with a LoRA loader",
    "control": "carries control. .* Take the ControlNet or GLIGEN node out",
    "gligen": "carries gligen. .* Take the ControlNet or GLIGEN node out",
    "mask": "carries mask. .* limited in time or area",
}


@pytest.mark.parametrize("key", STEERED)
def test_what_cannot_be_done_is_refused_for_what_it_is(made, key: str) -> None:
    with pytest.raises(ValueError, match=f"^positive {STEERED[key]}"):
        made(positive=[[conditioning(4)[0][0], {key: object()}]])
