"""Profile Heads measures what attention really does, and profiles are kept and found again."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.host.conftest import PROMPT_TOKENS, Pack, conditioning

TOKENS = 12  # of a frame at 64 x 48
# built into the fixture: tests/fixtures/README.md
ANCHORS, LOCALS = {(0, 0), (1, 1), (2, 2)}, {(1, 2), (3, 0)}


@pytest.fixture(scope="module")
def schedule(pack):
    clip = pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0]
    return pack.run("HeadForcingPromptSchedule", clip=clip, text="[0s] a red fox in snow\n[12s] a city at night, rain")[
        0
    ]


@pytest.fixture(scope="module")
def profile_heads(pack, schedule):
    def run(model, **inputs):
        return pack.run(
            "HeadForcingProfileHeads",
            **{"model": model, "schedule": schedule, "width": 64, "height": 48, "reuse_saved": False, **inputs},
        )

    return run


def test_masses_equal_a_brute_force_softmax_over_the_tensors_that_attention_was_given(
    pack, load, profile_heads
) -> None:
    model, given = load("self_forcing_dmd.safetensors").clone(), []

    def capture(function, q, k, v, heads, **options):
        if q.shape[1] == 3 * TOKENS and k.shape[1] != PROMPT_TOKENS:  # not cross-attention
            given.append((q.unflatten(2, (heads, -1)).double(), k.unflatten(2, (heads, -1)).double()))
        return function(q, k, v, heads, **options)

    model.model_options["transformer_options"]["optimized_attention_override"] = capture
    profile = profile_heads(model)[0]
    layers = 4
    passes = [given[start : start + layers] for start in range(0, len(given), layers)]
    # per prompt: chunks 0 to 5 have four steps and a commit pass, chunk 6 is the last and has no commit pass
    per_prompt = 6 * 5 + 4
    assert len(passes) == 2 * per_prompt
    states = []
    for prompt in range(2):
        for chunk in range(3, 7):
            first = prompt * per_prompt + chunk * 5
            states += [_masses(each) for each in passes[first : first + 4]]
    expected = torch.stack(states).quantile(0.5, dim=0)
    assert profile.masses is not None
    assert (profile.masses.double() - expected).abs().max() <= 1e-5
    for state in states:
        assert (state[..., :3].sum(dim=-1) - 1).abs().max() <= 1e-9


def _masses(layers: list) -> torch.Tensor:
    rows = []
    for q, k in layers:
        weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=(0, 2))
        end = k.shape[1] - 3 * TOKENS
        parts = (slice(0, 3 * TOKENS), slice(3 * TOKENS, end), slice(end, None), slice(end - TOKENS, end))
        rows.append(torch.stack([weights[:, part].sum(dim=1) for part in parts], dim=1))
    return torch.stack(rows)


def test_the_heads_built_into_the_checkpoint_are_found(load, profile_heads) -> None:
    profile, picture, report = profile_heads(load("self_forcing_dmd.safetensors"))
    found = {
        kind: {
            (layer, head) for layer, row in enumerate(profile.labels) for head, label in enumerate(row) if label == kind
        }
        for kind in ("anchor", "local")
    }
    assert found == {"anchor": ANCHORS, "local": LOCALS}
    assert picture.ndim == 4 and picture.shape[-1] == 3 and picture.max() <= 1
    assert "4 layers of 3 heads: 2 local, 3 anchor, 7 memory" in report
    assert profile.reliability["sink"] > 0.7 and "rank correlation" in report


def test_another_seed_finds_the_same_heads(pack, load, profile_heads, monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = pack.module("nodes.status.node_status").NodeStatus, []
    original = status.say
    monkeypatch.setattr(status, "say", lambda self, text: (said.append(text), original(self, text)))
    model = load("self_forcing_dmd.safetensors")
    assert profile_heads(model, seed=1)[0].labels == profile_heads(model, seed=2)[0].labels
    assert said[-1] == "profiled on 2 prompts"


def test_controls_measure_nothing_and_need_no_schedule(load, profile_heads) -> None:
    model = load("self_forcing_dmd.safetensors")
    random, again, other = (profile_heads(model, schedule=None, rule="random", seed=seed)[0] for seed in (1, 1, 2))
    assert random.masses is None and random.counts == {"local": 2, "anchor": 3, "memory": 7}
    assert random.labels == again.labels and random.labels != other.labels
    assert profile_heads(model, schedule=None, rule="all_memory")[0].counts["memory"] == 12


def test_swap_and_forcing_kv_and_protected_layers(load, profile_heads) -> None:
    model = load("self_forcing_dmd.safetensors")
    swapped = profile_heads(model, rule="swap")[0].labels
    assert all(
        (swapped[layer][head] == "memory") == ((layer, head) in LOCALS)
        for layer in range(4)
        for head in range(3)
        if (layer, head) not in ANCHORS
    )
    assert "anchor" not in {label for row in profile_heads(model, rule="forcing_kv")[0].labels for label in row}
    assert set(profile_heads(model, protect_layers="0, 2-3")[0].labels[3]) == {"memory"}


def test_a_measuring_rule_without_prompts_is_refused(load, profile_heads) -> None:
    with pytest.raises(ValueError, match="schedule is not connected.*needs prompts.*random or all_memory"):
        profile_heads(load("self_forcing_dmd.safetensors"), schedule=None)


def test_a_saved_profile_is_reused_loaded_and_found_by_the_sampler(pack, load, video, schedule, profile_heads) -> None:
    model = load("random_a.safetensors")
    made, _, report = profile_heads(model, save_as="my profile (1)")
    assert "Saved as my profile (1).safetensors" in report
    loaded, picture = pack.run("HeadForcingLoadProfile", profile_name="my profile (1).safetensors")
    assert loaded.labels == made.labels and torch.equal(loaded.masses, made.masses) and picture.ndim == 4
    reused, _, said = profile_heads(model, reuse_saved=True)
    assert "nothing was measured" in said and torch.equal(reused.masses, made.masses)
    assert "nothing was measured" not in profile_heads(model, reuse_saved=True, anchor_fraction=0.5)[2]
    notes = json.loads(video(model, conditioning(1), seconds=0.5, preset="paper")[3])["notes"]
    assert any("saved profile my profile (1).safetensors" in note for note in notes)


def test_a_profile_of_other_weights_is_used_with_a_warning_and_of_another_size_refused(
    load, video, profile_heads
) -> None:
    other = profile_heads(load("random_b.safetensors"), rule="random")[0]
    report = video(load("self_forcing_dmd.safetensors"), conditioning(1), seconds=0.5, preset="paper", profile=other)[3]
    assert "other weights of the same architecture" in report
    with pytest.raises(ValueError, match="4 layers of 3 heads, the model has 2 of 1.*Run Profile Heads"):
        video(load("longlive_base.pt"), conditioning(1), seconds=0.5, preset="paper", profile=other)


def test_without_profile_the_sampler_measures_one_and_says_so(load, video) -> None:
    report = json.loads(video(load("random_b.safetensors"), conditioning(1), seconds=0.5, preset=None)[3])
    assert any("one was measured first (protocol fast)" in note for note in report["notes"])
    assert report["profile"]["rule"] == "head_forcing" and len(report["profile"]["labels"]) == 4


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", ".hidden", "C:x", "con", "NUL.txt", "x" * 121, "x ", "\u0430bc"]
)
def test_profile_names_stay_in_their_folder(pack, load, profile_heads, name: str) -> None:
    node = pack.nodes["HeadForcingProfileHeads"]
    assert "must stay in its folder" in str(node.validate_inputs(save_as=name))
    with pytest.raises(ValueError, match="must stay in its folder"):
        profile_heads(load("longlive_base.pt"), rule="random", save_as=name)


def test_a_damaged_profile_is_refused(pack, tmp_path) -> None:
    profile = pack.module("headforcing_core.heads.profile_file")
    path = tmp_path / "x.safetensors"
    for content in (b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", b"garbage" * 50):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match="Profile the model again|profile the model again"):
            profile.load_profile(path)


def test_an_empty_list_of_profiles_is_an_error_only_when_run(pack) -> None:
    with pytest.raises(RuntimeError, match="no head profile .* yet.*Run Profile Heads"):
        pack.run("HeadForcingLoadProfile", profile_name="(none found)")


@pytest.fixture(scope="module")
def measured(pack, load, profile_heads):
    """A profile of random_a.safetensors."""
    return profile_heads(load("random_a.safetensors"))[0]


@pytest.fixture
def library(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty models folder, in which profiles are looked for as when the host has just started."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "head_profiles")
    pack.module("nodes.profiles.library").register_folder()
    folder = tmp_path / "models" / "head_profiles"
    folder.mkdir(parents=True)
    yield folder
    folder_paths.filename_list_cache.pop("head_profiles", None)


def lead_nowhere(link: Path) -> None:
    link.symlink_to("/mnt/not/there.safetensors")


def lead_round(link: Path) -> None:
    link.symlink_to(link)


def be_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def be_empty(path: Path) -> None:
    path.touch()


def vanish(path: Path) -> None:
    """As a file that another program removes once the folder has been listed."""
    (path.parent / "drive").mkdir()
    (path.parent / "drive" / path.name).touch()
    path.symlink_to(path.parent / "drive" / path.name)
    import folder_paths

    assert path.name in folder_paths.get_filename_list("head_profiles")
    (path.parent / "drive" / path.name).unlink()


@pytest.mark.parametrize("become", [lead_nowhere, lead_round, be_a_pipe, be_empty, vanish])
def test_a_file_that_cannot_be_read_is_passed_over_with_a_line(
    pack, load, video, profile_heads, measured, library: Path, become
) -> None:
    model = load("random_a.safetensors")
    pack.module("nodes.profiles.library").store_profile(measured, "good")
    become(library / "bad.safetensors")
    report = json.loads(video(model, conditioning(1), seconds=0.5, preset="paper")[3])
    told = [note for note in report["notes"] if "bad.safetensors" in note]
    assert len(told) == 1 and told[0].startswith("The saved profile bad.safetensors was passed over: ")
    assert "Heads from the saved profile good.safetensors." in report["notes"]
    assert report["profile"]["labels"] == [list(row) for row in measured.labels]
    said = profile_heads(model, rule="random", reuse_saved=True)[2]
    assert "profile bad.safetensors was passed over" in said
    with pytest.raises(RuntimeError, match="bad.safetensors"):
        pack.run("HeadForcingLoadProfile", profile_name="bad.safetensors")
    assert pack.nodes["HeadForcingLoadProfile"].fingerprint_inputs("bad.safetensors").startswith("bad.safetensors")


@pytest.mark.parametrize("settings", ["", "  is_default: true\n"])
def test_folders_of_extra_model_paths_are_searched_beside_our_own(
    pack, load, video, measured, library: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    import folder_paths
    from utils.extra_config import load_extra_path_config

    monkeypatch.delitem(folder_paths.folder_names_and_paths, "head_profiles")
    extra, profiles = library.parent / "extra", pack.module("nodes.profiles.library")
    config = library.parent / "extra_model_paths.yaml"
    config.write_text(f"mine:\n{settings}  head_profiles: {extra}\n", encoding="ascii")
    load_extra_path_config(str(config))  # the host reads it before it loads packs
    profiles.register_folder()
    profiles.register_folder()  # as when the pack is there twice
    extra.mkdir()
    (extra / "notes.txt").touch()
    (extra / "model.pt").touch()
    profiles.store_profile(measured, "there").rename(extra / "there.safetensors")
    assert profiles.store_profile(replace(measured, fingerprint="another"), "here") == library / "here.safetensors"
    (shown,) = pack.nodes["HeadForcingLoadProfile"].define_schema().inputs
    assert shown.options == ["here.safetensors", "there.safetensors"]
    report = json.loads(video(load("random_a.safetensors"), conditioning(1), seconds=0.5, preset="paper")[3])
    assert "Heads from the saved profile there.safetensors." in report["notes"]


def test_a_profile_that_cannot_be_saved_is_used_all_the_same(load, profile_heads, library: Path, caplog) -> None:
    library.rmdir()
    library.symlink_to("/mnt/not/there")
    made, _, report = profile_heads(load("self_forcing_dmd.safetensors"), rule="random", save_as="lost")
    assert made.counts == {"local": 2, "anchor": 3, "memory": 7}
    assert "could not be saved as lost.safetensors" in report and "could not be saved as lost" in caplog.text
