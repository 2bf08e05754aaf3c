"""What a profile says about recall reaches the run, its record and its report, and stays with the checkpoint."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headforcing_core.rollout.episodes import descriptor_layers
from tests.host.conftest import conditioning

SECONDS, LAYERS = 1.7, 4


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def labelled(pack, model):
    return pack.run("HeadForcingProfileHeads", model=model, rule="random", seed=5)[0]


@pytest.fixture
def saved(pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The library of profiles, empty."""
    import folder_paths

    library = pack.module("nodes.profiles.library")
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "head_profiles")
    library.register_folder()
    yield library
    folder_paths.filename_list_cache.pop("head_profiles", None)


@pytest.fixture(scope="module")
def film(video, model) -> Callable[..., dict]:
    """The profile in the report of a short film."""
    return lambda preset, profile, **inputs: json.loads(
        video(model, conditioning(1), **{"seconds": SECONDS, "preset": preset, "profile": profile, **inputs})[3]
    )["profile"]


def test_the_report_says_by_what_it_was_recalled(film, labelled) -> None:
    told = film("recall", replace(labelled, recall_layers=(0, 3), recall_share=0.35))
    assert (told["recall_layers"], told["recall_share"]) == ([0, 3], 0.35)
    told = film("recall", labelled)
    assert (told["recall_layers"], told["recall_share"]) == ([*descriptor_layers(LAYERS)], 0.2)
    told = film("paper", replace(labelled, recall_layers=(0, 3), recall_share=0.35))
    assert (told["recall_layers"], told["recall_share"]) == (None, None)


def test_heads_that_a_run_measures_itself_say_nothing_of_recall(video, model, saved) -> None:
    report = json.loads(video(model, conditioning(1), seconds=SECONDS, preset="recall")[3])
    assert (report["profile"]["recall_layers"], report["profile"]["recall_share"]) == (
        [*descriptor_layers(LAYERS)],
        0.2,
    )
    measured = [
        note for note in report["notes"] if note.startswith(("No profile was connected", "Measured by protocol"))
    ]
    assert len(measured) == 2 and not any("as the profile says" in note for note in report["notes"])


def test_a_kept_run_brings_its_layers_along_and_refuses_others(film, labelled, saved, runs: Path) -> None:
    found = replace(labelled, recall_layers=(0, 3), recall_share=0.35)
    film("recall", found, run_name="film")
    kept = json.loads((runs / "film" / "run.json").read_bytes())["profile"]
    assert (kept["recall_layers"], kept["recall_share"]) == ([0, 3], 0.35)
    for profile in (None, found):  # without a profile it goes on by its own
        told = film("recall", profile, run_name="film", on_existing_run="resume", seconds=SECONDS + 0.7)
        assert (told["recall_layers"], told["recall_share"]) == ([0, 3], 0.35)
    for other in (labelled, replace(found, recall_share=0.3), replace(found, recall_layers=(0,))):
        with pytest.raises(ValueError, match="was made with recall by layers 0, 3 and share 0.35, now recall by"):
            film("recall", other, run_name="film")
    film("paper", found, run_name="other")
    film("paper", labelled, run_name="other")  # which does not recall, so that it makes no difference


def test_heads_that_are_measured_anew_keep_what_is_known_of_recall(pack, model, labelled, saved) -> None:
    def run(**inputs: object) -> tuple:
        return pack.run("HeadForcingProfileHeads", **{"model": model, "rule": "random", "save_as": "mine", **inputs})

    assert "Recalls by" not in run()[2]
    saved.store_profile(replace(labelled, recall_layers=(1, 2), recall_share=0.3), "mine")
    for inputs in ({"reuse_saved": False}, {"reuse_saved": False, "seed": 9}, {"seed": 5}, {"save_as": "another"}):
        profile, _, report = run(**inputs)
        assert (profile.recall_layers, profile.recall_share) == ((1, 2), 0.3)
        assert "Recalls by layers 1, 2 and share 0.3, as the profile says." in report
    loaded = [pack.run("HeadForcingLoadProfile", profile_name=f"{name}.safetensors")[0] for name in ("mine", "another")]
    assert [each.recall_layers for each in loaded] == [(1, 2), (1, 2)]


def test_what_is_known_of_another_checkpoint_is_not_taken(pack, load, model, labelled, saved) -> None:
    saved.store_profile(replace(labelled, recall_layers=(1, 2)), "mine")
    other = load("random_a.safetensors")
    profile = pack.run("HeadForcingProfileHeads", model=other, rule="random")[0]
    assert profile.layers == labelled.layers and profile.recall_layers is None
