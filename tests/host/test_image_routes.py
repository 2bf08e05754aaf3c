"""A start image goes where the family has it: held in the first chunk, or beside every chunk."""

import json
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning, off

LONGLIVE2, WORLD = "longlive2_5b_bf16.pt", "lingbot_world_v2_causal_fast.safetensors"


def picture(seed: int) -> Tensor:
    """An IMAGE of blots, of the size of the video."""
    small = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=(96, 128), mode="bilinear").movedim(1, -1)


@pytest.fixture(scope="module")
def video(video):
    """Pictures of 128 x 96: a token of Wan 2.2 covers 32 x 32 pixels."""
    return partial(video, width=128, height=96)


@pytest.fixture(scope="module")
def longlive2(load):
    return load(LONGLIVE2)


@pytest.fixture(scope="module")
def world(load):
    return load(WORLD)


@pytest.fixture(scope="module")
def of_world(pack, world, vae):
    """Run LingBot-World on a small picture; its outputs."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"model": world, "positive": conditioning(1), "policy": policy, "vae": vae, "width": 32, "height": 32}
    return lambda seconds, **inputs: pack.run("HeadForcingSampler", **{**given, "seconds": seconds, **inputs})


@pytest.fixture(scope="module")
def made(longlive2, vae22, video):
    """Two chunks of LongLive 2 with a picture, and their report."""
    latent, _, _, report = video(
        longlive2, conditioning(1), seconds=2.0, preset="full", vae=vae22, start_image=picture(1), fps=0.0
    )
    return latent["samples"], json.loads(report)


def test_the_first_frame_of_the_first_chunk_is_the_picture(made, vae22) -> None:
    latent, report = made
    assert latent.shape == (1, 48, 16, 6, 8) and report["settings"]["prefix_frames"] == 0
    assert report["settings"]["fps"] == 24 and report["settings"]["pixel_frames"] == 48
    with torch.inference_mode():
        encoded = vae22.encode(picture(1))
    assert (latent[:, :, :1] - encoded).abs().max() < 1e-5 * encoded.abs().max()


def test_the_frames_after_the_picture_are_made_with_it(made, longlive2, vae22, video) -> None:
    other, none = (
        video(longlive2, conditioning(1), seconds=0.5, preset="full", vae=vae22, start_image=image)[0]["samples"]
        for image in (picture(2), None)
    )
    for latent in (other, none):
        assert off(latent[:, :, 1:8], made[0][:, :, 1:8]) > 0.01


def test_a_kept_run_with_a_picture_goes_on_to_the_same_bits(made, longlive2, vae22, video, runs) -> None:
    given = {"preset": "full", "vae": vae22, "start_image": picture(1), "fps": 0.0, "run_name": "held"}
    video(longlive2, conditioning(1), seconds=1.0, **given)
    gone_on = video(longlive2, conditioning(1), seconds=2.0, **given)[0]["samples"]
    assert torch.equal(gone_on, made[0])
    with pytest.raises(ValueError, match="start_image"):
        video(longlive2, conditioning(1), seconds=2.0, **{**given, "start_image": picture(2)})


def test_a_picture_is_beside_every_chunk(of_world) -> None:
    one, again, other = (of_world(1.7, start_image=picture(seed)) for seed in (1, 1, 2))
    assert one[0]["samples"].shape == (1, 16, 8, 4, 4)
    assert torch.equal(one[0]["samples"], again[0]["samples"])
    for chunk in (slice(0, 4), slice(4, 8)):
        assert off(one[0]["samples"][:, :, chunk], other[0]["samples"][:, :, chunk]) > 0.01
    told = json.loads(one[3])
    assert told["settings"]["frames"] == 8
    assert any("led by a camera, which this pack leaves out" in note for note in told["notes"])


def test_a_model_that_is_given_a_picture_is_not_run_without(of_world) -> None:
    with pytest.raises(ValueError, match="start_image is not connected.*it would be given zeros"):
        of_world(1.0)
    with pytest.raises(ValueError, match="start_image is connected without vae"):
        of_world(1.0, vae=None, start_image=picture(1))


def test_a_video_goes_on_beside_its_picture(of_world, runs) -> None:
    first = of_world(1.7, start_image=picture(1))[0]
    given = {"previous": first, "seed": 1, "run_name": "world"}
    with pytest.raises(ValueError, match="start_image is not connected"):
        of_world(1.0, **given)
    both = of_world(1.0, start_image=picture(1), **given)[0]["samples"]
    assert both.shape[2] == 12 and torch.equal(both[:, :, :8], first["samples"])
    with pytest.raises(ValueError, match="previous|start_image"):
        of_world(2.0, start_image=picture(2), **given)


@pytest.mark.parametrize(("name", "fixture"), [(LONGLIVE2, "vae22"), ("self_forcing_dmd.safetensors", "vae")])
def test_a_video_and_a_picture_together_are_refused_where_one_begins_it(
    request: pytest.FixtureRequest, load, video, name: str, fixture: str
) -> None:
    model, vae = load(name), request.getfixturevalue(fixture)
    previous = {"samples": torch.zeros(1, vae.latent_channels, 8, *((6, 8) if fixture == "vae22" else (12, 16)))}
    with pytest.raises(ValueError, match="Both start_image and previous are connected"):
        video(model, conditioning(1), seconds=1.0, vae=vae, start_image=picture(1), previous=previous)


def test_what_is_beside_a_frame_is_the_picture_then_grey_for_ever(pack, world) -> None:
    samples = torch.arange(30.0).view(1, 1, 30, 1, 1).expand(1, 16, 30, 1, 1)
    beside = pack.module("nodes.request.beginning").beside_chunks(world, samples)
    first, later = (
        torch.cat([each[:, :4], world.model.process_latent_out(each[:, 4:])], 1)[0, :, :, 0, 0]
        for each in (beside(range(0, 4)), beside(range(27, 33)))
    )
    assert first.shape == (20, 4) and first[:4].tolist() == [[1, 0, 0, 0]] * 4
    assert torch.allclose(first[4], torch.tensor([0.0, 1, 2, 3]), atol=1e-5)
    assert later[:4].abs().max() == 0
    assert torch.allclose(later[19], torch.tensor([27.0, 28, 29, 29, 29, 29]), atol=1e-5)


@pytest.mark.parametrize(("name", "sink"), [(LONGLIVE2, 8), (WORLD, 6)])
def test_heads_are_measured_within_the_range_of_the_family(pack, load, clip, vae, name: str, sink: int) -> None:
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="a red fox")[0]
    given = {"model": load(name), "schedule": schedule, "width": 64, "height": 32, "reuse_saved": False}
    if name == WORLD:
        with pytest.raises(ValueError, match="start_image is not connected"):
            pack.run("HeadForcingProfileHeads", **given)
        given |= {"start_image": picture(1), "vae": vae}
    profile = pack.run("HeadForcingProfileHeads", **given)[0]
    assert profile.protocol == "fast" and profile.sink_frames == sink
    assert profile.masses is not None and profile.masses.isfinite().all()
    assert set(profile.counts) == {"local", "anchor", "memory"} and min(profile.counts.values()) > 0


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"width": 112}, "width is 112.*multiple of 32.*Set width to 96 or 128"),
        ({"height": 720}, "Set height to 704 or 736"),
    ],
)
def test_a_size_is_of_whole_tokens_of_the_family(longlive2, pack, size: dict[str, int], message: str) -> None:
    given = {"model": longlive2, "positive": conditioning(1), "seconds": 1.0, "width": 128, "height": 96, **size}
    with pytest.raises(ValueError, match=message):
        pack.run("HeadForcingSampler", **given)


@pytest.mark.parametrize(("name", "fixture", "wanted"), [(LONGLIVE2, "vae", "wan2.2"), (WORLD, "vae22", "wan_2.1")])
def test_the_vae_of_another_latent_space_is_refused(
    request: pytest.FixtureRequest, load, video, name: str, fixture: str, wanted: str
) -> None:
    with pytest.raises(ValueError, match=f"makes video of .*Load {wanted}_vae.safetensors"):
        video(load(name), conditioning(1), vae=request.getfixturevalue(fixture), start_image=picture(1))
