"""What is wired into the sampler and cannot make a video is refused there, before the first step."""

import pytest

from devtools.server.tiny_workflow import TINY_HEIGHT, TINY_WIDTH, Node, Workflow
from tests.server.conftest import Refusal, Rejection
from tests.server.graphs import SIZE, node, sampling

VAE = node("VAELoader", vae_name="wan_2.1_vae.safetensors")
PICTURE = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
TEXT = node("CLIPTextEncode", clip=["clip", 0], text="a city at night")
VIDEO = {"length": 9, "batch_size": 1}
WIRED: dict[str, tuple[Workflow, dict[str, object], str]] = {
    # what is wrong: (nodes that are added, the sampler's inputs, how the message begins)
    "previous of a picture model": (
        {"latent": node("EmptyLatentImage", width=TINY_WIDTH, height=TINY_HEIGHT, batch_size=1)},
        {"previous": ["latent", 0]},
        f"previous has shape (1, 4, {TINY_HEIGHT // 8}, {TINY_WIDTH // 8}). At {TINY_WIDTH} x {TINY_HEIGHT} ",
    ),
    "previous of another size": (
        {"latent": node("EmptyHunyuanLatentVideo", width=256, height=96, **VIDEO)},
        {"previous": ["latent", 0]},
        f"previous has shape (1, 16, 3, 12, 32). At {TINY_WIDTH} x {TINY_HEIGHT} ",
    ),
    "previous of two videos": (
        {"latent": node("EmptyHunyuanLatentVideo", **SIZE, length=9, batch_size=2)},
        {"previous": ["latent", 0]},
        "previous has shape (2, 16, 3, ",
    ),
    "previous with a mask": (
        {
            "video": node("EmptyHunyuanLatentVideo", **SIZE, **VIDEO),
            "mask": node("SolidMask", value=1.0, **SIZE),
            "latent": node("SetLatentNoiseMask", samples=["video", 0], mask=["mask", 0]),
        },
        {"previous": ["latent", 0]},
        "previous carries a noise mask. ",
    ),
    "a video without a VAE": (
        {"image": PICTURE},
        {"video": ["image", 0]},
        "video is connected without vae. It cannot be encoded. Connect the Wan 2.1 VAE (wan_2.1_vae.safetensors).",
    ),
    "a video and a start image": (
        {"image": PICTURE, "vae": VAE},
        {"video": ["image", 0], "start_image": ["image", 0], "vae": ["vae", 0]},
        "Both start_image and video are connected. ",
    ),
    "two beginnings": (
        {"latent": node("EmptyHunyuanLatentVideo", **SIZE, **VIDEO), "image": PICTURE, "vae": VAE},
        {"previous": ["latent", 0], "start_image": ["image", 0], "vae": ["vae", 0]},
        "Both start_image and previous are connected. ",
    ),
    "an image without a vae": ({"image": PICTURE}, {"start_image": ["image", 0]}, "start_image is connected without "),
    "native noise that goes on": (
        {"latent": node("EmptyHunyuanLatentVideo", **SIZE, **VIDEO)},
        {"previous": ["latent", 0], "noise": "native"},
        "noise is native, and previous is connected. ",
    ),
    "native noise that is kept": ({}, {"run_name": "fox", "noise": "native"}, "noise is native, and run_name is set. "),
    "a chunk of nothing": ({}, {"from_chunk": 3}, "from_chunk is 3, but run_name is empty. "),
    "a chunk of a new run": ({}, {"run_name": "nothing-yet", "from_chunk": 3}, "from_chunk is 3, but "),
    "two texts at once": (
        {
            "one": TEXT,
            "two": TEXT,
            "both": node("ConditioningCombine", conditioning_1=["one", 0], conditioning_2=["two", 0]),
        },
        {"schedule": None, "positive": ["both", 0]},
        "positive has 2 entries. ",
    ),
    "a text for half of the steps": (
        {
            "one": TEXT,
            "half": node("ConditioningSetTimestepRange", conditioning=["one", 0], start=0.0, end=0.5),
        },
        {"schedule": None, "positive": ["half", 0]},
        "positive carries end_percent, start_percent. ",
    ),
    "heads of another model": (
        {
            "other": node("HeadForcingLoadARModel", model_name="longlive_base.pt"),
            "profile": node("HeadForcingProfileHeads", model=["other", 0], rule="random"),
            "policy": node("HeadForcingCachePolicy", preset="paper"),
        },
        {"profile": ["profile", 0]},
        "The profile is for 2 layers of 1 heads, the model has 4 of 3. ",
    ),
    "no such vae": (
        {"vae": node("VAELoader", vae_name="pixel_space")},
        {"vae": ["vae", 0]},
        "vae is a picture VAE of 3 channels. ",
    ),
}
SIGMAS = {"not down to 0": "1, 0.5", "rising": "0.5, 1, 0", "one": "0", "none": "", "beyond 1": "2, 1, 0"}
NAMES = [
    "../fox",
    "a/fox",
    "a\\fox",
    ".fox",
    "/fox",
    "C:fox",
    "con",
    "nul.txt",
    "fox.",
    "f\u043ex",
    "x" * 121,
    "x" * 10_000,
]


@pytest.mark.parametrize("case", WIRED)
def test_what_is_wired_wrong_is_refused_on_the_sampler(refusal: Refusal, case: str) -> None:
    added, inputs, begins = WIRED[case]
    message = refusal({**sampling(**inputs), **added}, "sampler")
    assert message.startswith(begins) and message.endswith(".") and message.count(". ") >= 2, message


@pytest.mark.parametrize("case", SIGMAS)
def test_noise_levels_that_do_not_end_a_chunk_are_refused(refusal: Refusal, case: str) -> None:
    levels: Node = node("ManualSigmas", sigmas=SIGMAS[case])
    message = refusal({**sampling(sigmas=["levels", 0]), "levels": levels}, "sampler")
    assert message.startswith("sigmas ") and message.endswith("."), message


@pytest.mark.parametrize("name", NAMES)
def test_a_run_name_that_is_no_file_name_is_rejected(rejection: Rejection, name: str) -> None:
    assert rejection(sampling(run_name=name), "sampler")["run_name"].startswith(
        f"run_name is {name[:120]!r}. It becomes a file name and must stay in its folder. Use "
    )


def test_a_run_name_from_another_node_is_held_to_the_same(refusal: Refusal) -> None:
    workflow = sampling(run_name=["name", 0])
    workflow["name"] = node("PrimitiveString", value="../fox")
    assert refusal(workflow, "sampler").startswith("run_name is '../fox'. ")


def test_more_than_the_disk_can_hold_is_refused(refusal: Refusal) -> None:
    message = refusal(sampling(run_name="endless", seconds=36000.0, width=4096, height=4096), "sampler")
    assert "free" in message and message.endswith("."), message
