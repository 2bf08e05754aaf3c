"""The measures find what is there and what is not, and an evaluation goes on where it was stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from testbed.evaluate import main, read_results
from testbed.evaluation_script import CHUNK_FRAMES, evaluation_script
from testbed.latents import load_basis, world_latent
from testbed.measures import Measured, measure
from testbed.policies import COMPARED
from testbed.prompts import Prompt, Scene, Script
from testbed.quality import CHANGE, MEMORY, PICTURE, differences, draw_recall, table
from testbed.statistics import ABSENCES, Result, difference, mean_of, measured, recall
from testbed.world import World

PERFECT = {
    "landmarks_clear": 1,
    "landmarks_steady": 1,
    "thing_shape": 1,
    "thing_colour": 1,
    "camera_obeyed": 1,
    "sky_delay": 0,
    "thing_delay": 0,
}


def shown(world: World, frames: int) -> Tensor:
    basis = load_basis()
    return basis.pictures(world_latent(world, range(frames), basis))


def measure_world(world: World, frames: int, script: Script | None = None) -> Measured:
    return measure(shown(world, frames), script or world.script, CHUNK_FRAMES)


@pytest.mark.parametrize("seed", range(3))
def test_the_truth_is_perfect(seed: int) -> None:
    found = measure_world(World(seed, evaluation_script(seed, 240)), 240)
    assert {name: found.values[name] for name in PERFECT} == PERFECT
    assert found.values["thing_motion"] == pytest.approx(1, abs=0.02)
    assert abs(found.values["sky_drift"] or 0) < 0.5 and abs(found.values["join_flicker"] or 0) < 0.5
    assert len(found.returns) > 40 and all(each.right for each in found.returns)


@pytest.mark.parametrize("seed", range(6))
def test_every_script_takes_landmarks_away_for_each_length(seed: int) -> None:
    found = measure_world(World(seed, evaluation_script(seed, 240)), 240)
    for shortest, longest in ABSENCES.values():
        assert sum(shortest <= each.absence <= longest for each in found.returns) >= 4


AWAY = (
    Scene(0, Prompt()),
    Scene(3, Prompt(camera="pans right")),
    Scene(15, Prompt(camera="pans left")),
    Scene(27, Prompt()),
)


def test_another_landscape_on_the_way_back_is_no_recall() -> None:
    pictures = torch.cat([shown(World(1, AWAY), 30)[:15], shown(World(2, AWAY), 30)[15:]])
    found = measure(pictures, AWAY, CHUNK_FRAMES)
    world, other = World(1, AWAY), World(2, AWAY)
    same = sum(world.landmark(slot) == other.landmark(slot) for slot in range(8))
    assert sum(each.right for each in found.returns) <= same < len(found.returns)
    assert all(each.right for each in measure_world(world, 30).returns)


def test_a_landscape_of_one_landmark_everywhere_is_told_by_chance() -> None:
    same = {slot: ("tree", "red") for slot in range(-40, 41)}
    found = measure_world(World(1, AWAY, landmarks=same), 30)
    assert found.returns and all(each.right and each.elsewhere == 1 for each in found.returns)


def test_a_frozen_video_has_neither_motion_nor_camera() -> None:
    first = shown(World(1, AWAY), 1)
    found = measure(first.expand(30, -1, -1, -1), AWAY, CHUNK_FRAMES).values
    assert found["thing_motion"] in (None, 0) and (found["camera_obeyed"] or 0) < 0.3


def test_an_empty_video_shows_nothing() -> None:
    found = measure(torch.full((30, 64, 128, 3), 0.5), AWAY, CHUNK_FRAMES)
    assert not found.returns
    assert {found.values[name] for name in ("landmarks_clear", "landmarks_steady", "thing_shape")} == {0}


def test_a_prompt_that_is_obeyed_late_has_its_delay() -> None:
    def script(change: int) -> Script:
        return (Scene(0, Prompt()), Scene(change, Prompt(sky="night", shape="box", colour="white")))

    found = measure_world(World(1, script(15)), 30, script=script(9))
    assert found.values["sky_delay"] == found.values["thing_delay"] == 2
    assert (found.values["sky_error"] or 0) > 5


def test_a_fading_sky_drifts() -> None:
    script = (Scene(0, Prompt(sky="day")),)
    fade = torch.linspace(0, 0.2, 60)[:, None, None, None]
    found = measure(shown(World(1, script), 60) - fade, script, CHUNK_FRAMES).values
    assert found["sky_drift"] == pytest.approx(0.2 * 255 * 240 / 59, rel=0.05)


def test_a_jump_at_every_join_is_flicker() -> None:
    script = (Scene(0, Prompt(sky="day")),)
    step = (torch.arange(30) // CHUNK_FRAMES % 2)[:, None, None, None] * 0.1
    found = measure(shown(World(1, script), 30) + step, script, CHUNK_FRAMES).values
    assert found["join_flicker"] == pytest.approx(25.5, abs=0.5)


def result(policy: str, seed: int, clear: float, absent: int, right: bool) -> Result:
    returned = {"absence": absent, "kind": right, "colour": right, "elsewhere": 0.0}
    return {"policy": policy, "seed": seed, "measures": {"landmarks_clear": clear}, "returns": [returned]}


def test_intervals_hold_the_mean_and_pairs_are_of_one_seed() -> None:
    values = [0.1, 0.4, 0.7, 0.8]
    results = [result("one", seed, value, 10, True) for seed, value in enumerate(values)]
    results += [result("other", seed, value - 0.05, 80, False) for seed, value in enumerate(values)]
    clear = measured("landmarks_clear")
    found, less = mean_of(results, "one", clear), difference(results, "one", "other", clear)
    assert found and less
    assert found.mean == pytest.approx(0.5) and found.low < 0.4 < 0.6 < found.high and found.seeds == 4
    assert less.mean == pytest.approx(0.05) and less.high - less.low < 1e-9
    assert mean_of(results, "one", recall("84")) is None
    assert difference(results, "one", "other", recall("10")) is None


def test_a_small_evaluation_runs_goes_on_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    policies = ("paper", "uniform")

    def evaluate(seeds: str) -> None:
        main(["--seeds", seeds, "--json", str(path), "--frames", "60", "--policies", *policies])

    evaluate("0:3")
    first = path.read_text()
    path.write_text(first + '{"policy": "paper", "se')
    evaluate("0:4")
    assert path.read_text().startswith(first)
    results = read_results(path)
    assert {(line["policy"], line["seed"]) for line in results} == {(p, s) for p in policies for s in range(4)}
    assert len(results) == 8 and all(line["kv_bytes"] > 0 for line in results)
    assert any(line["returns"] for line in results)
    assert json.loads(first.splitlines()[0]) == results[0]
    for line in results:  # a broken model, decoder or player would not show a landscape that pans
        assert line["measures"]["camera_obeyed"] > 0.9 and line["measures"]["landmarks_clear"] > 0.5
    text = "\n".join(table(results, [*COMPARED], columns) for columns in (MEMORY, PICTURE, CHANGE))
    assert text.count("`paper`") == text.count("`uniform`") == 3 and "`max`" not in text
    assert "`paper`" in differences(results, policies, "uniform", PICTURE)
    assert draw_recall(results, {"paper": "#D55E00"}).getcolors(2**16) != draw_recall([], {}).getcolors(2**16)


@pytest.mark.parametrize("frames", ["0", "3", "61"])
def test_an_impossible_length_is_refused(frames: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--seeds", "0:1", "--json", str(tmp_path / "none"), "--frames", frames])
    assert "give a multiple" in capsys.readouterr().err


def test_scripts_change_sky_and_thing_once() -> None:
    for seed in range(20):
        script = evaluation_script(seed, 240)
        prompts = [replace(scene.prompt, camera="holds still") for scene in script]
        changes = [(a.sky != b.sky, a.shape != b.shape) for a, b in zip(prompts, prompts[1:], strict=False) if a != b]
        assert changes == [(True, False), (False, True)]
