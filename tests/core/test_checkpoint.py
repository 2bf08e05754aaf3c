"""Families by name, odd checkpoint contents, fingerprints and noise levels."""

import pytest
import torch

from headforcing_core.checkpoint.ar_facts import facts_for
from headforcing_core.checkpoint.fingerprint import shapes_fingerprints, weights_fingerprint
from headforcing_core.checkpoint.wan_weights import unwrap
from headforcing_core.families.family import check_sigmas


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
    ],
)
def test_the_family_is_told_by_name_and_folder(name: str, family: str) -> None:
    assert facts_for(name, "auto", 0, "x")[0].family == family


def test_frame_wise_checkpoints_make_one_frame_at_a_time() -> None:
    assert facts_for("framewise/causal_forcing.pt", "auto", 0, "x")[0].chunk_frames == 1


@pytest.mark.parametrize(
    "family, chunk, message",
    [
        ("wan", 0, "family is 'wan'"),
        ("auto", 21, "chunk_frames is 21.*Use 1 to 20"),
        ("auto", -1, "chunk_frames is -1"),
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
