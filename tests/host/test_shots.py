"""Shots of LongLive-2.0 through the real nodes: read, told, kept, typed; refused for models not taught any."""

import json
from collections.abc import Callable

import pytest
import torch

from headforcing_core.families.longlive2 import LONGLIVE2
from headforcing_core.rollout.plan import Segment
from tests.host.conftest import Pack
from tests.host.test_live_prompts import CITY, FOX, NODE, RIVER, Typist, typist

__all__ = ["typist"]
SHOT = f"[0s] {FOX}\n[3.875s shot] {RIVER}"  # on chunk 3 of 6
WHOLE, HALF = 7.5, 5.0  # seconds, of 6 and of 4 chunks


@pytest.fixture(scope="module")
def make(pack: Pack, load, clip) -> Callable[..., tuple]:
    """Make a small video of LongLive-2.0 on the node 7 from a schedule's text; LATENT's samples and the report."""
    model, policy = load("longlive2_5b_bf16.pt"), pack.run("HeadForcingCachePolicy", preset="uniform")[0]

    def run(text: str = SHOT, seconds: float = WHOLE, **inputs: object) -> tuple[torch.Tensor, dict]:
        schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=text)[0]
        given = {"model": model, "schedule": schedule, "policy": policy, "seconds": seconds, "fps": 0.0, **inputs}
        latent, _, _, report = pack.run("HeadForcingSampler", unique_id=NODE, width=64, height=64, **given)
        return latent["samples"], json.loads(report)

    return run


@pytest.fixture(scope="module")
def made(make) -> tuple[torch.Tensor, dict]:
    return make()


def test_a_shot_is_read_across_a_gap_and_pinned_until_the_end(made) -> None:
    report = made[1]
    assert [(each["transition"], each["chunks"]) for each in report["segments"]] == [(None, [0, 2]), ("shot", [3, 5])]
    assert report["schedule"] == SHOT
    seen = [chunk["seen"]["local"] for chunk in report["chunks"]]
    sink = [[frame, frame, "sink"] for frame in range(8)]
    assert seen[3] == sink + [[frame, frame - 8, "recent"] for frame in range(16, 24)]
    pinned = [[frame, frame - 16, "pinned"] for frame in range(24, 32)]
    assert seen[5] == sink + pinned + [[frame, frame - 16, "recent"] for frame in range(32, 40)]


def test_the_first_chunk_has_the_words_of_its_authors_before_the_prompt(pack: Pack, clip, made, make) -> None:
    sockets, scenes = pack.module("nodes.sockets"), pack.module("nodes.request.run_scenes")
    schedule = sockets.PromptSchedule((), (), "soft", 1, clip)
    taught = scenes.as_taught(Segment(3, schedule.encode(RIVER), "shot", prompt=RIVER), schedule, LONGLIVE2.shots)
    assert torch.equal(taught.first_text[0][0], schedule.encode(f"The scene transitions. {RIVER}")[0][0])
    assert torch.equal(taught.text[0][0], schedule.encode(RIVER)[0][0])
    assert scenes.as_taught(Segment(3, [], "cut"), schedule, LONGLIVE2.shots).first_text is None
    cut = make(SHOT.replace("shot", "cut"), HALF)[0]
    assert torch.equal(cut[:, :, :24], made[0][:, :, :24]) and not torch.equal(cut[:, :, 24:], made[0][:, :, 24:32])


def test_a_kept_run_with_a_shot_goes_on_to_the_same_bits(made, make, runs) -> None:
    make(seconds=HALF, run_name="shots")
    assert torch.equal(make(run_name="shots")[0], made[0])
    with pytest.raises(ValueError, match="takes over by shot, now by cut"):
        make(SHOT.replace("shot", "cut"), run_name="shots")


def test_a_live_shot_is_that_of_the_schedule(made, make, typist: Typist) -> None:
    typist.at = {2: (RIVER, "shot")}
    live, report = make(FOX)
    assert torch.equal(live, made[0]) and report["schedule"] == SHOT


def test_a_model_that_was_not_taught_shots_refuses_one(pack: Pack, load, make) -> None:
    with pytest.raises(ValueError, match=r"by shot, but this model's family was never taught .* Use cut"):
        make(f"[0s] {FOX}\n[2s shot] {CITY}", model=load("self_forcing_dmd.safetensors"))
