"""The Head-Forced Sampler: length, memory, report, and bad input before the first step."""

import copy
import json

import pytest
import torch

from tests.host.conftest import conditioning

HEAD_DIM = 128
SMALL = {"width": 32, "height": 32}


@pytest.fixture(scope="module")
def schedule(pack):
    clip = pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0]
    return lambda text, **more: pack.run("HeadForcingPromptSchedule", clip=clip, text=text, **more)[0]


@pytest.mark.parametrize(
    "preset, seconds, frames",
    [("paper", 59.8, 240), ("low_vram", 10.0, 42), ("max", 10.0, 42), ("uniform", 10.0, 42), ("uniform_21", 10.0, 42)],
)
def test_kv_bytes_are_the_arithmetic_from_the_first_compressed_chunk_to_the_last(
    pack, model, labelled, video, preset: str, seconds: float, frames: int
) -> None:
    report = json.loads(video(model, conditioning(1), seconds=seconds, preset=preset, profile=labelled, **SMALL)[3])
    assert report["settings"]["frames"] == frames and len(report["chunks"]) == frames // 3
    policy = pack.module("headforcing_core.policy.presets").PRESETS[preset]
    counts = labelled.counts if policy.needs_profile else {"memory": 12}
    head_frames = sum(count * policy.tiers(head_type).frames for head_type, count in counts.items())
    expected = head_frames * 4 * HEAD_DIM * 2 * 4  # 4 tokens; K and V, float32
    first = report["settings"]["compress_from_chunk"]
    assert {chunk["kv_bytes"] for chunk in report["chunks"][first - 1 :]} == {expected}
    assert report["kv_bytes"] == expected <= report["peak_bytes"]


@pytest.mark.parametrize(("episode", "places"), [("chunk", [0, 1, 2]), ("frame", [1])])
def test_an_episode_is_a_whole_chunk_or_its_middle_frame(
    pack, model, labelled, video, episode: str, places: list[int]
) -> None:
    policy, told = pack.run("HeadForcingCachePolicy", preset="paper", episode=episode)
    assert f"episode {episode}" in told
    report = json.loads(video(model, conditioning(1), seconds=13.0, policy=policy, profile=labelled)[3])
    assert report["settings"]["episode"] == episode
    seen = report["chunks"][-1]["seen"]["memory"]
    found = [frame % 3 for frame, _, tier in seen if tier == "episode"]  # places in their chunks
    assert len(found) >= 2 and found == places * (len(found) // len(places))


def test_a_run_is_repeated_exactly_and_another_seed_differs(model, video) -> None:
    first, again, other = (video(model, conditioning(1), seconds=1.5, seed=seed)[0]["samples"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_longer_video_begins_with_the_shorter_one(model, labelled, video) -> None:
    short, long = (
        video(model, conditioning(1), seconds=seconds, preset="paper", profile=labelled)[0]["samples"]
        for seconds in (7.0, 9.0)
    )
    assert torch.equal(long[:, :, : short.shape[2]], short)


def test_a_prompt_change_leaves_what_came_before_and_changes_what_comes_after(pack, model, video, schedule) -> None:
    outputs = [
        pack.run(
            "HeadForcingSampler",
            model=model,
            schedule=schedule(text),
            seconds=4.0,
            width=64,
            height=48,
            policy=pack.run("HeadForcingCachePolicy", preset="uniform")[0],
        )
        for text in ("a red fox", "[0s] a red fox\n[2s] a city at night")
    ]
    plain, changed = (output[0]["samples"] for output in outputs)
    report = json.loads(outputs[1][3])
    assert [segment["chunks"] for segment in report["segments"]] == [[0, 2], [3, 5]]
    assert report["segments"][1]["transition"] == "recache"
    assert any("2 s begins at 2.06 s (chunk 3)" in note for note in report["notes"])
    assert torch.equal(plain[:, :, :9], changed[:, :, :9]) and not torch.equal(plain[:, :, 9:], changed[:, :, 9:])


def test_a_scene_after_the_end_is_a_note_not_an_error(pack, model, schedule) -> None:
    report = pack.run(
        "HeadForcingSampler",
        model=model,
        schedule=schedule("[0s] a fox\n[90s] a city"),
        seconds=1.0,
        width=64,
        height=48,
        policy=pack.run("HeadForcingCachePolicy", preset="uniform")[0],
    )[3]
    assert "90 s begins after the end of the video" in report


def test_the_report_says_what_every_head_type_saw(pack, model, labelled, video) -> None:
    latent, made, timeline, text = video(model, conditioning(1), seconds=10.0, preset="paper", profile=labelled)
    report = json.loads(text)
    assert report["format"] == "headforcing.report/1" and made.get_components is not None
    assert latent["samples"].shape == (1, 16, 42, 6, 8) and timeline.shape[-1] == 3
    first, last = report["chunks"][7], report["chunks"][-1]
    assert first["frames"] == [21, 24] and first["position"] == 18
    assert first["seen"]["local"] == [[20, 17, "recent"]]
    assert first["seen"]["anchor"] == [[0, 14, "sink"], [1, 15, "sink"], [2, 16, "sink"], [20, 17, "recent"]]
    tiers = [tier for _, _, tier in last["seen"]["memory"]]
    assert tiers.count("sink") == 3 and tiers.count("recent") == 6 and 1 <= tiers.count("episode") <= 6
    assert any(chunk["decision"] for chunk in report["chunks"])
    assert [chunk["chunk"] for chunk in report["chunks"]] == list(range(14))


BAD = {
    "no prompt at all": ({"positive": None}, "Neither schedule nor positive is connected"),
    "no length": ({"seconds": 0.0}, "seconds is 0.0"),
    "endless": ({"seconds": float("inf")}, "seconds is inf"),
    "odd width": ({"width": 130}, "width is 130.*multiple of 16.*Set width to 128 or 144"),
    "odd height": ({"height": 90}, "height is 90.*Set height to 80 or 96"),
    "sigmas that do not end": ({"sigmas": torch.tensor([1.0, 0.5])}, "sigmas are \\(1, 0.5\\).*exactly 0"),
    "sigmas that rise": ({"sigmas": torch.tensor([0.5, 1.0, 0.0])}, "must fall"),
    "sigmas above one": ({"sigmas": torch.tensor([14.6, 1.0, 0.0])}, "must fall from at most 1"),
    "two texts": ({"positive": conditioning(1) + conditioning(2)}, "positive has 2 entries"),
    "text for part of the steps": (
        {"positive": [[conditioning(1)[0][0], {"start_percent": 0.0, "end_percent": 0.5}]]},
        "end_percent, start_percent",
    ),
    "text of another encoder": ({"positive": [[torch.zeros(1, 77, 768), {}]]}, "the model reads \\(1, tokens, 64\\)"),
    "reference frames": (
        {"positive": [[conditioning(1)[0][0], {"time_dim_concat": torch.zeros(1, 16, 1, 12, 16)}]]},
        "carries time_dim_concat. Reference frames would be taken for frames of the video",
    ),
    "native noise for ten hours": (
        {"seconds": 36000.0, "noise": "native", "width": 832, "height": 480},
        "noise is native, which draws all",
    ),
    "longer than ten hours": ({"seconds": 1e6}, "seconds is 1000000.0.*up to 36000"),
    "too wide": ({"width": 8192}, "width is 8192.*up to 4096"),
    "a batch of texts": ({"positive": [[torch.zeros(2, 512, 64), {}]]}, "in a batch"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_the_first_step(pack, model, video, case: str) -> None:
    inputs, message = BAD[case]
    given = {"text": conditioning(1), "seconds": 1.0, "preset": "uniform"} | {
        {"positive": "text"}.get(name, name): value for name, value in inputs.items()
    }
    watched, passes = model.clone(), []
    watched.set_model_patch_replace(
        lambda args, extra: passes.append(1) or extra["original_block"](args), "dit", "double_block", 0
    )
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    arguments = {"model": watched, "positive": given.pop("text"), "width": 64, "height": 48, "policy": policy} | given
    arguments.pop("preset")
    with pytest.raises(ValueError, match=message):
        pack.run("HeadForcingSampler", **arguments)
    assert passes == []


def test_schedule_and_positive_together_are_refused(model, video, schedule) -> None:
    with pytest.raises(ValueError, match="Both schedule and positive are connected"):
        video(model, conditioning(1), schedule=schedule("a fox"))


def test_two_scenes_on_one_chunk_are_refused(pack, model, schedule) -> None:
    with pytest.raises(ValueError, match="Schedule line 2: the scenes at 0 s and 0.2 s both begin on chunk 0"):
        pack.run(
            "HeadForcingSampler",
            model=model,
            schedule=schedule("[0s] a fox\n[0.2s] a city"),
            seconds=2.0,
            width=64,
            height=48,
        )


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"preset": "paper", "memory_episodes": 12}, "memory heads keep 21 frames.*Shrink memory_episodes by 3"),
        (
            {"preset": "paper", "memory_episodes": 2},
            "memory_episodes is 2 frames, but an episode is a whole chunk of 3",
        ),
        ({"preset": "uniform", "trained_frames": 9}, "local heads keep 10 frames.*Shrink local_recent by 4"),
        ({"preset": "uniform", "compress_from_chunk": 9}, "compress_from_chunk is 9, but chunk 7"),
        ({"preset": "full"}, "keeps all 24 frames.*only rope = absolute"),
    ],
)
def test_a_policy_that_does_not_fit_names_what_to_change(pack, model, video, inputs: dict, message: str) -> None:
    policy = pack.run("HeadForcingCachePolicy", **inputs)[0]
    with pytest.raises(ValueError, match=message):
        video(model, conditioning(1), seconds=5.5, policy=policy)


def test_a_vae_of_another_model_is_refused_before_the_first_step(model, video, vae) -> None:
    other = copy.copy(vae)
    other.latent_channels = 48
    with pytest.raises(ValueError, match="vae is a video VAE of 48 channels. Wan 2.1 makes video of 16"):
        video(model, conditioning(1), seconds=1.0, vae=other)


def test_the_video_is_decoded_when_taken_and_shows_the_decoded_latent(model, video, vae) -> None:
    latent, clip, _, _ = video(model, conditioning(1), seconds=0.5, vae=vae)
    with torch.inference_mode():
        pictures = clip.get_components().images
        whole = vae.decode(latent["samples"]).reshape(-1, 48, 64, 3)
    assert pictures.shape == (8, 48, 64, 3) and clip.get_dimensions() == (64, 48)
    apart = torch.cdist(pictures.flatten(1), whole.flatten(1), p=1)  # (pictures, pictures of whole chunks)
    assert torch.equal(apart.argmin(dim=1), torch.arange(8))  # through H.264, so not the same bits
    with pytest.raises(ValueError, match="vae is not connected, but the video output is used"):
        video(model, conditioning(1), seconds=0.5)[1].get_components()


def test_a_model_on_several_gpus_is_refused(model, video) -> None:
    spread = model.clone()
    spread.set_additional_models("multigpu", [model.clone()])
    with pytest.raises(ValueError, match="spread over several GPUs"):
        video(spread, conditioning(1))


def test_a_model_with_context_windows_is_refused(model, video) -> None:
    windowed = model.clone()
    windowed.model_options["context_handler"] = object()
    with pytest.raises(ValueError, match="context windows.*Remove the context windows node"):
        video(windowed, conditioning(1))


@pytest.mark.parametrize("disabled", [False, True])
def test_noise_is_pinned_unless_the_host_was_told_not_to(
    pack, model, monkeypatch: pytest.MonkeyPatch, disabled: bool
) -> None:
    """By runs, and by the measurement of a profile."""
    import comfy.cli_args

    noise = pack.module("headforcing_core.rollout.noise").PerChunkNoise
    fresh, seen = noise.fresh, []

    def seeing(self, *args: object) -> torch.Tensor:
        seen.append(self._pins)
        return fresh(self, *args)

    monkeypatch.setattr(comfy.cli_args.args, "disable_pinned_memory", disabled)
    monkeypatch.setattr(noise, "fresh", seeing)
    given = {"positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.5, 0.0])}
    pack.run("HeadForcingSampler", model=model, seconds=0.5, width=16, height=16, **given)  # measures one first
    assert len(seen) > 5 and set(seen) == {not disabled}
