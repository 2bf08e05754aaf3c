"""Families by name, odd checkpoint contents, fingerprints and noise levels."""

import pytest
import torch

from headforcing_core.checkpoint.ar_facts import assumed_facts, facts_for
from headforcing_core.checkpoint.fingerprint import shapes_fingerprints, weights_fingerprint
from headforcing_core.checkpoint.found_words import facts_in_words
from headforcing_core.checkpoint.saved_choice import SavedChoice
from headforcing_core.checkpoint.wan_weights import unwrap
from headforcing_core.families.family import check_sigmas
from headforcing_core.families.table import FAMILIES, Channels


@pytest.mark.parametrize(
    "name, family",
    [
        ("self_forcing_dmd.pt", "self_forcing"),
        ("Self-Forcing/x.safetensors", "self_forcing"),
        ("framewise/causal_forcing.pt", "causal_forcing_framewise"),
        ("chunkwise/causal_forcing.pt", "causal_forcing"),
        ("LongLive-1.3B/longlive_base.pt", "longlive"),
        ("rewardforcing.pt", "reward_forcing"),
        ("krea-realtime-video-14b.safetensors", "krea_realtime"),
        ("causal-forcing++/framewise-2step.pt", "causal_forcing_2step"),
        ("Causal-Forcing/causal-forcing++/framewise-1step.pt", "causal_forcing_1step"),
        ("causal_forcing_2step.pt", "causal_forcing_2step"),
        ("causal-forcing-1step.safetensors", "causal_forcing_1step"),
        ("checkpoints/one_forcing.pt", "one_forcing"),
        ("OneForcing/model.pt", "one_forcing"),
        ("Self_Gradient_Forcing/framewise/ar/model.pt", "self_gradient_forcing_framewise"),
        ("Self_Gradient_Forcing/chunkwise/ar/model.pt", "self_gradient_forcing"),
        ("Self-Gradient-Forcing_framewise.pt", "self_gradient_forcing_framewise"),
        ("Infinite-Forcing/model.pt", "infinite_forcing"),
        ("MemFlow/base.pt", "memflow"),
        ("AAD-1/model.pt", "aad_1"),
        ("14b_i2v_1step_transformer.safetensors", "aad_1"),
        ("wan_causal_dmd_v2v/model.pt", "streamdiffusion_v2"),
        ("StreamDiffusionV2/model.pt", "streamdiffusion_v2"),
        ("LongLive-2.0-5B/model_bf16.pt", "longlive2"),
        ("LongLive-2.0-5B-NVFP4-S4/model_te.pt", "longlive2"),
        ("LongLive-2.0-5B-NVFP4-S2/model_te.pt", "longlive2_2step"),
        ("longlive2_5b_bf16.pt", "longlive2"),
        ("longlive2_2step.safetensors", "longlive2_2step"),
        ("lingbot-world-fast/lingbot_world_fast.safetensors", "lingbot_world"),
        ("lingbot-world-v2/transformers/14b-causal-fast.safetensors", "lingbot_world_v2"),
        ("1.3b-causal-fast.safetensors", "lingbot_world_v2"),
        ("rolling_forcing_dmd.pt", "rolling_forcing"),
        ("RollingForcing/checkpoints/model.pt", "rolling_forcing"),
        ("Causal-Forcing/chunkwise/longvideo.pt", "causal_forcing_longvideo"),
        ("longvideo.pt", "causal_forcing_longvideo"),
    ],
)
def test_the_family_is_told_by_name_and_folder(name: str, family: str) -> None:
    record = FAMILIES[family]
    channels = Channels(record.in_channels, record.space.channels)
    for known in (None, channels):
        facts, told = facts_for(name, "auto", 0, "x", channels=known)
        assert (facts.family, facts.family_guessed) == (family, False) and "told by the file name" in told


@pytest.mark.parametrize(
    "name, channels, family, guessed",
    [
        ("longlive_base.pt", (48, 48), "longlive2", True),
        ("self_forcing.pt", (36, 16), "lingbot_world", True),
        ("longlive2_2step.pt", (16, 16), "longlive", False),
        ("lingbot_v2_framewise.pt", (36, 16), "lingbot_world_v2", False),
        ("lingbot_v2_framewise.pt", (16, 16), "causal_forcing_framewise", False),
        ("model.pt", (48, 48), "longlive2", True),
        ("model.pt", (16, 16), "self_forcing", True),
    ],
)
def test_a_name_tells_only_among_families_of_the_same_channels(
    name: str, channels: tuple[int, int], family: str, guessed: bool
) -> None:
    facts, _ = facts_for(name, "auto", 0, "x", channels=Channels(*channels))
    assert (facts.family, facts.family_guessed) == (family, guessed)
    assert assumed_facts("x", (), Channels(*channels)).family == next(
        each for each, record in FAMILIES.items() if Channels(*channels).fit(record)
    )


@pytest.mark.parametrize("saved", ["self_forcing", "lingbot_world", "wan"])
def test_a_saved_choice_counts_among_families_of_the_same_channels(saved: str) -> None:
    facts, _ = facts_for("x.pt", "auto", 0, "x", SavedChoice("longlive2_2step.pt", saved, 0), Channels(48, 48))
    assert facts.family == "longlive2_2step"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_told_in_words(family: str) -> None:
    record = FAMILIES[family]
    first, *more = facts_in_words(facts_for("x.pt", family, 0, "x")[0])
    levels = ", ".join(f"{sigma:g}" for sigma in record.steps.sigmas)
    assert f"{record.chunk_frames} frames a chunk, {record.steps.count} step" in first and f"({levels})" in first
    assert first.endswith(f"trained on {record.trained_frames} frames.") and len(more) == 1 + bool(record.first_steps)
    assert f"{record.fps:g} pictures a second" in more[-1] and record.space.vae_file in more[-1]


def test_frame_wise_checkpoints_make_one_frame_at_a_time() -> None:
    assert facts_for("framewise/causal_forcing.pt", "auto", 0, "x")[0].chunk_frames == 1


@pytest.mark.parametrize(
    "family, chunk, message",
    [
        ("wan", 0, "family is 'wan'"),
        ("auto", 21, "chunk_frames is 21.*Use 1 to 20"),
        ("auto", -1, "chunk_frames is -1"),
        ("rolling_forcing", 5, "chunk_frames is 5.*20 frames of noise behind it.*Use 1 to 4; rolling_forcing uses 3"),
    ],
)
def test_unknown_families_and_chunks_are_refused(family: str, chunk: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        facts_for("x.pt", family, chunk, "x")


@pytest.mark.parametrize(
    "raw",
    [
        None,
        3,
        "text",
        [1, 2],
        (),
        {},
        {"a": 1},
        {"generator": {}},
        {"generator": {"step": 3}},
        {"state_dict": []},
        {"model": {"x": torch.zeros(1)}},
        {1: torch.zeros(1)},
        torch.zeros(3),
        {"generator": 5, "model": None},
    ],
)
def test_any_content_that_is_no_model_is_refused_with_three_parts(raw: object) -> None:
    with pytest.raises(ValueError) as refusal:
        unwrap(raw, "x.pt")
    assert str(refusal.value).startswith("x.pt ") and str(refusal.value).count(". ") >= 2


def test_a_fingerprint_changes_with_a_name_a_shape_a_type_and_a_value() -> None:
    base = {"a": torch.zeros(4), "b": torch.ones(2, 2)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2, 2)},
        {"a": torch.zeros(4), "b": torch.ones(4)},
        {"a": torch.zeros(4), "b": torch.ones(2, 2).half()},
        {"a": torch.tensor([0.0, 0, 0, 1e-30]), "b": torch.ones(2, 2)},
    ]
    prints = {weights_fingerprint(each) for each in (base, *others)}
    assert len(prints) == 5 and weights_fingerprint(dict(reversed(base.items()))) in prints
    assert shapes_fingerprints({"a": (4,)})[0].startswith("shapes:")


@pytest.mark.parametrize(
    "sigmas",
    [(), (1.0,), (1.0, 0.5), (0.5, 1.0, 0.0), (1.0, 1.0, 0.0), (1.5, 0.0), (0.0, 0.0), (1.0, float("nan"), 0.0)],
)
def test_noise_levels_that_do_not_fall_to_zero_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must fall from at most 1 to exactly 0"):
        check_sigmas(sigmas)


def test_usual_noise_levels_are_taken() -> None:
    check_sigmas((1.0, 0.9375, 0.8333, 0.625, 0.0))
