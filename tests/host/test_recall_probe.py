"""What tells by which layers a checkpoint recalls: the tiny model, a trained one, and a profile that is written."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import recall_probe
from benchmarks.recall import film
from benchmarks.recall.telling import Look, recommend, tell
from headforcing_core.families import causal_forcing, longlive2
from headforcing_core.heads.profile_file import load_profile
from headforcing_core.rollout.loop import rollout
from headforcing_core.rollout.plan import RolloutPlan
from testbed.head_profile import PROFILE_FILE
from testbed.model_files import MODEL_FILE
from testbed.prompts import Prompt
from testbed.text_encoder import ENCODER_FILE


def made(pack, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[object, dict]:
    """What is recommended, and all that was measured, with the models that these options name."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    given = recall_probe.options([*words, f"--json={folder / 'found.json'}"])
    model = recall_probe.load_model(pack.nodes["HeadForcingLoadARModel"], given.checkpoint)
    found = recall_probe.probe(model, recall_probe.load_encoder(given.text_encoder), given)
    return found, json.loads((folder / "found.json").read_text())


def script(folder: Path, *prompts: str) -> Path:
    (folder / "prompts.txt").write_text("\n\n".join(prompts) + "\n")
    return folder / "prompts.txt"


def test_the_layers_of_a_trained_model_tell_its_places_apart(
    pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "world.safetensors"
    shutil.copy(PROFILE_FILE, profile)
    harbour, meadow = (Prompt(place=place, camera="holds still").text for place in ("harbour", "meadow"))
    found, told = made(
        pack,
        tmp_path,
        monkeypatch,
        checkpoint=MODEL_FILE,
        text_encoder=ENCODER_FILE,
        prompts=script(tmp_path, harbour, meadow, harbour, meadow),
        size="128x64",
        save=profile,
    )
    assert told["settings"]["looks"] == 2 and told["settings"]["scenes"] == "A B A B"
    layers, sets = told["tables"]["layers"], told["tables"]["sets"]
    assert [row["layers"] for row in layers] == [str(layer) for layer in range(12)]
    tenth, usual = layers[10], sets[-1]
    assert usual["layers"] == "6, 8, 10"
    for row in (tenth, usual):  # recall.md: 0.952 to 0.995 for the right ones, at most 0.913 for wrong ones
        assert row["right at 0.2"] == 1 and row["margin"] > 0.05
        assert row["same, least"] > 0.9 > row["other, mean"] and row["from share"] <= 0.1 and row["to share"] >= 0.3
    assert tenth["margin"] > 10 * max(row["margin"] for row in layers[:5])
    (go_by,) = told["tables"]["recommended"]
    assert go_by == {"layers": "6, 8, 10", "share": 0.2, "right": 1, "usual": "6, 8, 10"}
    before, after = load_profile(PROFILE_FILE), load_profile(profile)
    assert (after.recall_layers, after.recall_share) == (found.layers, found.share) == ((6, 8, 10), 0.2)
    assert (after.labels, after.fingerprint) == (before.labels, before.fingerprint)


def test_any_checkpoint_gets_a_row_a_layer(pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Path(pack.module("nodes.load_ar_model").folder_paths.models_dir)
    tiny = {
        "checkpoint": models / "diffusion_models" / "self_forcing_dmd.pt",
        "text_encoder": models / "text_encoders" / "tiny_umt5.safetensors",
        "size": "64x48",
    }
    found, told = made(pack, tmp_path, monkeypatch, **tiny, prompts=script(tmp_path, "a fox", "a river", "a fox"))
    assert len(told["tables"]["layers"]) == 4 and len(told["tables"]["sets"]) == 4 + 1
    for row in told["tables"]["layers"] + told["tables"]["sets"]:
        numbers = [row[name] for name in ("same, least", "same, mean", "other, mean", "other, greatest")]
        assert all(-1 <= number <= 1 + 1e-5 for number in numbers)
        assert numbers[0] <= numbers[1] and numbers[2] <= numbers[3]
        assert 0 <= row["right at 0.2"] <= row["right at best"] <= 1 and row["from share"] <= row["to share"] < 1
    assert set(found.layers) <= set(range(4)) and 0 <= found.share < 1
    with pytest.raises(ValueError, match="is for 12 layers of 2 heads, the model has 4 of 3"):
        made(pack, tmp_path, monkeypatch, **tiny, save=PROFILE_FILE)
    with pytest.raises(ValueError, match="has the scenes A B B, and returns to none of them"):
        made(pack, tmp_path, monkeypatch, **tiny, prompts=script(tmp_path, "a fox", "a river", "a river"))


def test_the_film_is_made_as_the_family_of_the_checkpoint_makes_films(
    pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Path(pack.module("nodes.load_ar_model").folder_paths.models_dir)
    one_step = models / "diffusion_models" / "framewise-1step.safetensors"
    shutil.copy(models / "diffusion_models" / "self_forcing_dmd.safetensors", one_step)
    plans: list[RolloutPlan] = []
    monkeypatch.setattr(film, "rollout", lambda *given: plans.append(given[2]) or rollout(*given))
    for checkpoint, family, counts in (
        (one_step, causal_forcing.ONE_STEP, [4] + 26 * [1]),
        (models / "diffusion_models" / "longlive2_5b_bf16.pt", longlive2.LONGLIVE2, 9 * [4]),
    ):
        encoder = models / "text_encoders" / "tiny_umt5.safetensors"
        given = {"checkpoint": checkpoint, "text_encoder": encoder, "size": "64x32"}
        told = made(pack, tmp_path, monkeypatch, **given, prompts=script(tmp_path, "a fox", "a river", "a fox"))[1]
        assert len(told["tables"]["layers"]) == 4 and told["settings"]["looks"] > 0
        plan = plans.pop()
        assert (plan.solver, plan.timesteps) == (family.solver, family.steps.timesteps)
        assert [plan.steps_of(chunk).count for chunk in range(plan.chunks)] == counts
        assert (plan.latent_height, plan.latent_width) == (32 // family.space.stride, 64 // family.space.stride)
    world = models / "diffusion_models" / "lingbot_world_v2_causal_fast.safetensors"
    with pytest.raises(ValueError, match="lingbot_world_v2, which is given a picture beside every chunk"):
        made(pack, tmp_path, monkeypatch, **{**given, "checkpoint": world})
    of_videos = one_step.rename(one_step.with_name("streamdiffusion_v2.safetensors"))
    with pytest.raises(ValueError, match="streamdiffusion_v2, which is given a video to make another one of"):
        made(pack, tmp_path, monkeypatch, **{**given, "checkpoint": of_videos})


def look(same: str, *rows: list[float]) -> Look:
    return Look(9, tuple(each == "s" for each in same), torch.tensor(rows))


def test_a_choice_is_right_when_it_is_the_newest_two_of_the_scene() -> None:
    (found,) = tell([look("soss", [0.9, 0.1, 0.8, 0.7])], [(0,)])
    # 0.7 is a quarter of the way from 0.9 to 0.1; 0.1 is the whole way, which no share is
    assert found.shares == (25, 99) and found.best == 1 and found.share == 0.62
    assert found.right_at(0.2) == 0 and found.right_at(0.25) == 1
    assert (found.same_least, found.same_mean, found.other_mean) == pytest.approx((0.7, 0.8, 0.1))
    assert found.margin == pytest.approx(0.6)


def test_another_scene_that_is_newer_and_near_enough_makes_it_wrong() -> None:
    (found,) = tell([look("sso", [1.0, 0.9, 0.8]), look("o", [0.5]), look("ss", [0.5, 0.2])], [(0,)])
    # 0.9 is half of the way to 0.8; looks without a choice between scenes do not count
    assert (found.shares, found.right_at(0.2), found.best) == ((50, 99), 0, 1)
    (never,) = tell([look("sos", [0.2, 0.9, 0.1])], [(0,)])
    assert never.best == 0 and never.margin == pytest.approx(-0.8)


def test_one_chunk_of_the_scene_is_all_that_can_be_chosen() -> None:
    (found,) = tell([look("oso", [0.1, 0.9, 0.5])], [(0,)])
    assert found.shares == (0, 49) and found.share == 0.2


def test_sets_of_layers_are_means_and_the_usual_ones_are_kept_where_they_are_as_good() -> None:
    good, bad = [0.1, 0.9, 0.9], [0.9, 0.1, 0.1]
    all_good = recommend([look("oss", good, good, good, good, good, good)])[0]
    assert all_good.layers == (3, 4, 5) and all_good.right_at(0.2) == 1
    found, ranked = recommend([look("oss", good, good, good, bad, bad, bad)])
    assert found.layers == (0, 1, 2) == ranked[0].layers and len(ranked) == 20
    (mixed,) = tell([look("oss", good, bad)], [(0, 1)])
    assert mixed.same_least == pytest.approx(0.5) == mixed.other_greatest


@pytest.mark.parametrize("size", ["832", "832x", "832x481", "0x0", "a fox"])
def test_a_size_that_cannot_be_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recall_probe.options(["--checkpoint=a", "--text-encoder=b", f"--size={size}"])
    assert f"{size} is no size such as 832x480" in capsys.readouterr().err
    assert isinstance(recall_probe.options(["--checkpoint=a", "--text-encoder=b"]), argparse.Namespace)
