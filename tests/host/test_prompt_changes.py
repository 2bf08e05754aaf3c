"""Prompt changes, start image and continuation through the real nodes."""

import json

import pytest
import torch
from torch import Tensor

from headforcing_core.rollout.transitions import TRANSITIONS
from tests.host.conftest import conditioning

FIRST, SECOND = "a red fox in snow", "a city at night, rain"


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def scenes(pack, model):
    """Run two scenes, the second at 6 s by a transition; (latent, report)."""
    clip = pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0]
    profile = pack.run("HeadForcingProfileHeads", model=model, rule="random")[0]
    policy = pack.run("HeadForcingCachePolicy", preset="paper")[0]

    def run(text: str, seconds: float = 8.0, run_name: str = "", **schedule: object) -> tuple[Tensor, dict]:
        prompts = pack.run("HeadForcingPromptSchedule", clip=clip, text=text, **schedule)[0]
        latent, _, _, report = pack.run(
            "HeadForcingSampler",
            model=model,
            schedule=prompts,
            seconds=seconds,
            width=64,
            height=48,
            profile=profile,
            policy=policy,
            run_name=run_name,
        )
        return latent["samples"], json.loads(report)

    return run


def test_every_transition_gives_its_own_video_after_the_change_and_the_same_before(scenes) -> None:
    videos = {word: scenes(f"[0s] {FIRST}\n[6s {word}] {SECOND}") for word in ("recache", "flush", "soft", "cut")}
    change = videos["cut"][1]["segments"][1]["chunks"][0] * 3
    latents = [latent for latent, _ in videos.values()]
    assert change == 24
    for number, latent in enumerate(latents):
        assert torch.equal(latent[:, :, :change], latents[0][:, :, :change])
        assert torch.isfinite(latent).all()
        for other in latents[:number]:
            assert not torch.equal(latent[:, :, change:], other[:, :, change:])
    assert {word: report["segments"][1]["transition"] for word, (_, report) in videos.items()} == {
        word: word for word in videos
    }


def test_the_transition_widget_holds_for_scenes_without_a_word(scenes) -> None:
    by_widget, by_word = (
        scenes(f"[0s] {FIRST}\n[6s] {SECOND}", transition="flush"),
        scenes(f"[0s] {FIRST}\n[6s flush] {SECOND}", transition="soft"),
    )
    assert torch.equal(by_widget[0], by_word[0])


def test_soft_chunks_decide_how_fast_the_new_prompt_comes(scenes) -> None:
    text = f"[0s] {FIRST}\n[6s soft] {SECOND}"
    assert not torch.equal(scenes(text, soft_chunks=1)[0], scenes(text, soft_chunks=3)[0])


@pytest.mark.parametrize(("widget", "soft_chunks"), [("recache", 3), ("soft", 64)])
def test_the_schedule_of_a_report_makes_the_same_segments_again(
    scenes, tmp_path, monkeypatch, widget: str, soft_chunks: int
) -> None:
    """Whatever the widgets say the second time: a text tells all of its scenes."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))

    def kept(name: str, text: str, **widgets: object) -> tuple[Tensor, str, list[dict]]:
        latent, report = scenes(text, seconds=5.0, run_name=name, **widgets)
        segments = json.loads((tmp_path / "head_forcing" / name / "run.json").read_bytes())["segments"]
        for segment in segments:
            segment["soft_chunks"] *= segment["transition"] == "soft"  # of no effect otherwise
        return latent, report["schedule"], segments

    words = ["", *(word for word in TRANSITIONS if word != "shot"), "soft 2"]
    text = "\n".join([f"[0s] {FIRST}", *(f"[{0.7 * n:g}s {word}] scene {n}" for n, word in enumerate(words, 1))])
    first, schedule, segments = kept("first", text, transition=widget, soft_chunks=soft_chunks)
    again, told, others = kept("again", schedule, transition="cut", soft_chunks=5)
    assert torch.equal(again, first) and told == schedule
    assert others[1:] == segments[1:] and len(others) == len(words) + 1
    assert [(segment["transition"], segment["soft_chunks"]) for segment in segments[1:]] == [
        (widget, soft_chunks if widget == "soft" else 0),
        ("recache", 0),
        ("flush", 0),
        ("soft", soft_chunks),
        ("cut", 0),
        ("soft", 2),
    ]


def test_after_a_flush_only_sink_and_last_frame_are_seen_and_after_a_cut_nothing_old(scenes) -> None:
    flushed = scenes(f"[0s] {FIRST}\n[6s flush] {SECOND}")[1]["chunks"]
    assert [frame for frame, _, _ in flushed[8]["seen"]["memory"]] == [0, 1, 2, 23]
    cut = scenes(f"[0s] {FIRST}\n[6s cut] {SECOND}")[1]["chunks"]
    assert cut[8]["seen"]["memory"] == [[0, 0, "sink"], [1, 1, "sink"], [2, 2, "sink"], [23, 3, "recent"]]
    assert min(frame for chunk in cut[9:] for seen in chunk["seen"].values() for frame, _, _ in seen) == 24


def test_texts_of_different_length_are_mixed_with_zeros_at_the_end(pack) -> None:
    mix = pack.module("nodes.host.conditioning").mix_conditioning
    old, new = torch.ones(1, 4, 2), torch.full((1, 6, 2), 3.0)
    mixed = mix([[old, {"a": 1}]], [[new, {"b": 2}]], 0.25)
    assert torch.equal(mixed[0][0][0, :, 0], torch.tensor([1.5, 1.5, 1.5, 1.5, 0.75, 0.75])) and mixed[0][1] == {"b": 2}


def test_cut_with_absolute_positions_is_refused(pack, model, video) -> None:
    clip = pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0]
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=f"[0s] {FIRST}\n[2s cut] {SECOND}")[0]
    policy = pack.run("HeadForcingCachePolicy", preset="uniform", rope="absolute")[0]
    with pytest.raises(ValueError, match="takes over by cut, but rope is absolute"):
        video(model, None, schedule=schedule, policy=policy)


@pytest.mark.parametrize("chunk_frames, tolerance", [(1, 0.0), (3, 1e-5)])
def test_a_start_image_equals_the_hosts_own_image_to_video(
    pack, load, native, video, vae, chunk_frames: int, tolerance: float
) -> None:
    from comfy_extras.nodes_ar_video import ARVideoI2V

    model, text = load("self_forcing_dmd.safetensors", chunk_frames=chunk_frames), conditioning(6)
    image = torch.rand(1, 90, 140, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seeded, _ = ARVideoI2V.execute(model, vae, image, 64, 48, 73, 1).args
    theirs = native.native_video(seeded, 19, chunk_frames, 5, text)
    policy = pack.run("HeadForcingCachePolicy", preset="full", rope="absolute")[0]
    latent, _, _, report = video(
        model, text, seconds=4.5625, start_image=image, vae=vae, policy=policy, noise="native", seed=5
    )
    assert json.loads(report)["settings"]["prefix_frames"] == 1
    assert latent["samples"].shape == theirs.shape == (1, 16, 19, 6, 8)
    assert (latent["samples"] - theirs)[:, :, 1:].abs().max() <= tolerance
    assert (latent["samples"] - theirs)[:, :, 0].abs().max() <= 1e-6  # theirs goes to model space and back


def test_a_continued_video_keeps_what_was_there_and_counts_seconds_from_its_end(model, video) -> None:
    text = conditioning(6)
    before = video(model, text, seconds=5.0)[0]
    latent, _, _, report = video(model, text, seconds=2.0, previous=before)
    report = json.loads(report)
    assert torch.equal(latent["samples"][:, :, :21], before["samples"])
    assert report["settings"]["prefix_frames"] == 21 and report["settings"]["chunks"] == 3
    assert report["settings"]["pixel_frames"] == 81 + 32 and latent["samples"].shape[2] == 30
    assert report["chunks"][0]["frames"] == [21, 24]
    assert [frame for frame, _, _ in report["chunks"][0]["seen"]["memory"]] == [0, 1, 2, *range(14, 21)]


@pytest.mark.parametrize(
    "inputs, message",
    [
        (
            {"previous": {"samples": torch.zeros(1, 4, 3, 12, 16)}},
            "previous has shape \\(1, 4, 3, 12, 16\\).*\\(1, 16, frames",
        ),
        ({"previous": {"samples": torch.zeros(1, 16, 3, 12, 20)}}, "Set width and height to those of the video"),
        ({"previous": {"samples": torch.zeros(2, 16, 3, 6, 8)}}, "previous has shape \\(2,"),
        ({"previous": {"samples": torch.zeros(1, 16, 12, 16)}}, "previous has shape"),
        ({"previous": {"samples": torch.zeros(1, 16, 3, 6, 8), "noise_mask": torch.ones(1)}}, "carries a noise mask"),
        ({"previous": {"samples": torch.zeros(1, 16, 3, 6, 8)}, "noise": "native"}, "noise is native, and previous"),
        ({"start_image": torch.zeros(1, 48, 64, 3)}, "start_image is connected without vae"),
        (
            {"start_image": torch.zeros(1, 48, 64, 3), "previous": {"samples": torch.zeros(1, 16, 3, 6, 8)}},
            "Both start_image and previous",
        ),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused(model, video, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        video(model, conditioning(1), seconds=1.0, **inputs)


@pytest.mark.parametrize("shape", [(48, 64, 3), (0, 48, 64, 3), (1, 48, 64, 1)])
def test_an_unreadable_start_image_is_refused(model, video, vae, shape: tuple) -> None:
    with pytest.raises(ValueError, match="start_image has shape.*Connect Load Image"):
        video(model, conditioning(1), seconds=1.0, start_image=torch.zeros(shape), vae=vae)
