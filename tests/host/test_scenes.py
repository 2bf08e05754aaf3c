"""Scenes that go on from each other: their noise, and the new part of each as a video."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning
from tests.host.test_old_runs import sealed

FRAMES, CHUNK = 6, 3


@pytest.fixture(scope="module")
def scene(pack, model) -> Callable[..., tuple]:
    """Make a scene of two chunks and 21 pictures, small; all outputs."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"model": model, "policy": policy, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.5, 0.0])}

    def make(**inputs: object) -> tuple:
        inputs = {**given, "seconds": 1.3, "width": 16, "height": 16, "seed": 3, **inputs}
        return pack.all_outputs("HeadForcingSampler", **inputs)

    return make


def latent(outputs: tuple) -> Tensor:
    return outputs[0]["samples"]


def drawn(pack, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number within its seed of each chunk that is denoised from now on."""
    noise = pack.module("headforcing_core.rollout.noise").PerChunkNoise
    initial, numbers = noise.initial, []

    def seen(self, chunk: int) -> Tensor:
        found = initial(self, chunk)
        numbers.extend(n for n in range(99) if torch.equal(found, initial(noise(self._seed, self._shape), n)))
        return found

    monkeypatch.setattr(noise, "initial", seen)
    return numbers


@pytest.mark.parametrize(
    ("frames", "noise", "numbers"),
    [
        (0, "whole_video", [0, 1]),
        (2, "whole_video", [0, 1]),
        (6, "whole_video", [2, 3]),
        (7, "whole_video", [2, 3]),
        (6, "per_chunk", [0, 1]),
        (6, None, [0, 1]),
    ],
)
def test_chunks_are_counted_from_the_beginning_of_the_whole_video(
    pack, scene, monkeypatch: pytest.MonkeyPatch, frames: int, noise: str | None, numbers: list[int]
) -> None:
    previous = {"previous": {"samples": torch.randn(1, 16, frames, 2, 2)}} if frames else {}
    found = drawn(pack, monkeypatch)
    scene(**previous, **({} if noise is None else {"noise": noise}))
    assert found == numbers


@pytest.mark.parametrize("chunk_frames", [1, 3])
def test_a_start_image_is_no_chunk(pack, load, scene, vae, monkeypatch: pytest.MonkeyPatch, chunk_frames: int) -> None:
    model = load("self_forcing_dmd.safetensors", chunk_frames=chunk_frames)
    found = drawn(pack, monkeypatch)
    scene(model=model, vae=vae, start_image=torch.rand(1, 16, 16, 3), seconds=0.8, noise="whole_video")
    assert found == list(range(len(found))) and found


def test_two_scenes_of_one_seed_are_as_one_whose_noise_goes_on(scene) -> None:
    first = latent(scene(noise="whole_video"))
    assert torch.equal(first, latent(scene()))
    once = latent(scene(seconds=2.6, noise="whole_video"))
    second = latent(scene(previous={"samples": first}, noise="whole_video"))
    assert torch.equal(second[:, :, :FRAMES], once[:, :, :FRAMES])
    assert torch.allclose(second, once, atol=2e-3)  # the past is committed from a latent of another scale
    assert not torch.allclose(latent(scene(previous={"samples": first})), once, atol=0.1)


def test_a_kept_scene_goes_on_under_either_word_where_they_mean_the_same(runs: Path, scene) -> None:
    kept = latent(scene(run_name="one"))
    outputs = scene(run_name="one", seconds=1.8, noise="whole_video")
    assert torch.equal(latent(outputs)[:, :, :FRAMES], kept)
    assert json.loads((runs / "one/run.json").read_text())["settings"]["noise"] == "per_chunk"
    assert json.loads(outputs[3])["settings"]["noise"] == "whole_video"


@pytest.mark.parametrize(("before", "after"), [("per_chunk", "whole_video"), ("whole_video", "per_chunk")])
def test_a_kept_scene_that_would_change_in_the_middle_is_refused(runs: Path, scene, before: str, after: str) -> None:
    previous = {"samples": torch.randn(1, 16, 6, 2, 2)}
    scene(run_name="two", previous=previous, noise=before)
    with pytest.raises(ValueError, match=f"was made with noise '?{before}.*noise is '?{after}.*Set noise back"):
        scene(run_name="two", previous=previous, seconds=1.8, noise=after)


def test_a_kept_scene_of_a_version_without_the_choice_is_per_chunk(runs: Path, scene) -> None:
    previous = {"samples": torch.randn(1, 16, 6, 2, 2)}
    scene(run_name="old", previous=previous, noise="per_chunk")
    path = runs / "old/run.json"
    record = json.loads(path.read_text())
    assert record["settings"].pop("noise") == "per_chunk"
    sealed(path, record)
    scene(run_name="old", previous=previous, seconds=1.8, noise="per_chunk")
    with pytest.raises(ValueError, match="noise is '?whole_video"):
        scene(run_name="old", previous=previous, seconds=1.8, noise="whole_video")
