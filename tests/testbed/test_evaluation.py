"""The measures find what is there and what is not, and an evaluation goes on where it was stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headforcing_core.heads.profile_file import load_profile
from testbed.evaluate import POLICIES, frames_read, labels_for, main
from testbed.evaluation_script import CHUNK_FRAMES, evaluation_script
from testbed.head_profile import PROFILE_FILE
from testbed.latents import load_basis, world_latent
from testbed.measures import Measured, Return, measure
from testbed.policies import COMPARED
from testbed.prompts import Prompt, Scene, Script
from testbed.quality import (
    CHANGE,
    HELD,
    MEMORY,
    PANS,
    PICTURE,
    draw_recall,
    fill_in,
    tables,
)
from testbed.quality_tables import differences, on_seeds_of, table
from testbed.results_file import read_results
from testbed.statistics import (
    ABSENCES,
    Result,
    Which,
    above_chance,
    asked,
    by_chance,
    check_comparable,
    difference,
    held,
    mean_of,
    measured,
    recall,
)
from testbed.world import World

PERFECT = {
    "landmarks_clear": 1,
    "thing_shape": 1,
    "thing_colour": 1,
    "new_shape": 1,
    "new_colour": 1,
    "thing_motion": 1,
    "landmarks_steady": 1,
    "camera_obeyed": 1,
    "sky_delay": 0,
    "thing_delay": 0,
}


def shown(world: World, frames: int) -> Tensor:
    basis = load_basis()
    return basis.pictures(world_latent(world, range(frames), basis))


def measure_world(world: World, frames: int, script: Script | None = None) -> Measured:
    return measure(shown(world, frames), script or world.script, CHUNK_FRAMES)


def right(each: Return) -> bool:
    return each.was is not None and each.came == each.was


@pytest.mark.parametrize("seed", range(3))
def test_the_truth_is_perfect(seed: int) -> None:
    found = measure_world(World(seed, evaluation_script(seed, 240)), 240)
    assert {name: found.values[name] for name in PERFECT} == PERFECT
    assert abs(found.values["sky_drift"] or 0) < 0.5 and abs(found.values["join_flicker"] or 0) < 0.5
    assert len(found.returns) > 40 and all(map(right, found.returns))


@pytest.mark.parametrize("seed", range(6))
def test_every_script_returns_to_a_place_that_no_sink_holds_after_each_absence(seed: int) -> None:
    found = measure_world(World(seed, evaluation_script(seed, 240)), 240).returns
    for shortest, longest in [*ABSENCES.values()][1:]:
        returns = [each for each in found if each.way == "place" and shortest <= each.absence <= longest]
        assert sum(not each.home for each in returns) >= 4
    assert sum(each.way == "pan" for each in found) >= 10


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
    slots = [(Prompt().place, number) for number in range(8)]
    same = sum(world.landmark(slot) == other.landmark(slot) for slot in slots)
    assert sum(map(right, found.returns)) <= same < len(found.returns)
    assert all(map(right, measure_world(world, 30).returns))


def test_a_return_says_where_when_and_whether_it_could_be_read() -> None:
    world = World(1, AWAY)
    held = [range(3) for _ in range(10)]
    found = measure(shown(world, 30), AWAY, CHUNK_FRAMES, held).returns
    home, away = ([each for each in found if each.home == at_home] for at_home in (True, False))
    assert all(each.held for each in home) and not any(each.held for each in away)
    assert all(each.was == world.landmark(each.slot) for each in found)
    # the camera goes two slots in four frames; slot 0 is gone from the second frame of the way until the second last
    first = home[0]
    assert (first.slot[1], first.absence, first.way) == (0, 21, "pan") and first.frame == 26


def test_a_return_to_a_place_is_told_from_a_pan() -> None:
    script = (Scene(0, Prompt()), Scene(3, Prompt(place="meadow", camera="pans left")), Scene(15, Prompt()))
    found = measure_world(World(1, script), 18).returns
    assert {(each.slot, each.absence, each.way, each.frame) for each in found} == {
        (("harbour", number), 12, "place", 15) for number in range(4)
    }
    assert all(each.home and right(each) for each in found)


def test_a_frozen_video_has_neither_motion_nor_camera() -> None:
    first = shown(World(1, AWAY), 1)
    found = measure(first.expand(30, -1, -1, -1), AWAY, CHUNK_FRAMES).values
    assert not found["thing_motion"] and (found["camera_obeyed"] or 0) < 0.3


def test_an_empty_video_shows_nothing() -> None:
    found = measure(torch.full((30, 64, 128, 3), 0.5), AWAY, CHUNK_FRAMES)
    assert found.returns and not any(each.was or each.came for each in found.returns)
    assert {found.values[name] for name in ("landmarks_clear", "landmarks_steady", "thing_shape", "thing_motion")} == {
        0
    }


def test_a_prompt_that_is_obeyed_late_has_its_delay() -> None:
    def script(change: int) -> Script:
        return (Scene(0, Prompt()), Scene(change, Prompt(sky="night", shape="box", colour="white")))

    found = measure_world(World(1, script(15)), 30, script=script(9))
    assert found.values["sky_delay"] == found.values["thing_delay"] == 2
    assert (found.values["sky_error"] or 0) > 5 and found.values["sky_drift"] == pytest.approx(0, abs=0.5)


def test_a_fading_sky_drifts() -> None:
    script = (Scene(0, Prompt(sky="day")),)
    fade = torch.linspace(0, 0.2, 60)[:, None, None, None]
    found = measure(shown(World(1, script), 60) - fade, script, CHUNK_FRAMES).values
    assert found["sky_drift"] == pytest.approx(0.2 * 255 * 240 / 59, rel=0.05)


def test_a_jump_at_every_join_is_flicker() -> None:
    script = (Scene(0, Prompt(sky="day")),)
    step = (torch.arange(30) // CHUNK_FRAMES % 2)[:, None, None, None] * 0.1
    found = measure(shown(World(1, script), 30) + step, script, CHUNK_FRAMES).values
    assert found["join_flicker"] == pytest.approx(25.5, abs=0.5) == found["sky_flicker"]


def returned(
    slot: int, absence: int, was: str | None, came: str | None, held: bool = False, way: str = "place"
) -> dict[str, object]:
    return {
        "slot": ["harbour", slot],
        "home": slot < 4,
        "way": way,
        "absence": absence,
        "was": was and ["tree", was],
        "came": came and ["tree", came],
        "held": held,
    }


def result(policy: str, seed: int, clear: float, *returns: dict[str, object]) -> Result:
    measures = {"landmarks_clear": clear}
    return {"policy": policy, "seed": seed, "model": "", "frames": 240, "measures": measures, "returns": returns}


def test_recall_counts_what_came_back_and_chance_what_would_have_anyway() -> None:
    video = result(
        "one",
        0,
        1.0,
        returned(0, 3, "red", "blue"),
        returned(0, 12, "red", "red", held=True),
        returned(7, 40, "red", "blue"),
        returned(8, 70, "red", "red"),
        returned(9, 70, None, "red"),
    )
    everything = Which()
    assert [recall(everything, name)(video) for name in ABSENCES] == [0, 1, None, 0, 0.5]
    assert recall(everything)(video) == 0.5 and asked(video) == 0.75 and held(everything)(video) == 0.25
    assert recall(Which(home=True))(video) == recall(Which(held=True))(video) == 1
    assert recall()(video) == recall(Which(home=False))(video) == pytest.approx(1 / 3) and held()(video) == 0
    # of the others' three: two red for the first, three for the second, two for the third; the last had nothing
    assert by_chance(everything)(video) == by_chance(Which("place"))(video) == pytest.approx((2 / 3 + 1 + 2 / 3) / 4)
    assert by_chance(Which("pan"))(video) is None is recall(Which("pan"))(video)
    assert above_chance(everything)(video) == pytest.approx(0.5 - (2 / 3 + 1 + 2 / 3) / 4)


def test_results_that_cannot_be_compared_are_refused() -> None:
    one, twice = result("one", 0, 1.0), result("one", 0, 0.5)
    check_comparable([one, result("other", 0, 1.0)])
    for wrong in ([one, twice], [one, {**twice, "seed": 1, "model": "another"}]):
        with pytest.raises(ValueError, match="Their mean would say nothing"):
            check_comparable(wrong)


def test_intervals_hold_the_mean_and_pairs_are_of_one_seed() -> None:
    values = [0.1, 0.4, 0.7, 0.8]
    results = [result("one", seed, value, returned(0, 10, "red", "red")) for seed, value in enumerate(values)]
    results += [result("other", seed, value - 0.05) for seed, value in enumerate(values)]
    clear = measured("landmarks_clear")
    found, less = mean_of(results, "one", clear), difference(results, "one", "other", clear)
    assert found and less
    assert found.mean == pytest.approx(0.5) and found.low < 0.4 < 0.6 < found.high and found.seeds == 4
    assert less.mean == pytest.approx(0.05) and less.high - less.low < 1e-9
    assert mean_of(results, "one", recall(Which(), "84")) is None
    assert difference(results, "one", "other", recall(Which(), "10")) is None


def test_a_small_evaluation_runs_goes_on_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    policies = ("paper", "uniform")
    monkeypatch.setattr("testbed.evaluate.VIDEOS", tmp_path / "videos")

    def evaluate(seeds: str) -> None:
        main(["--seeds", seeds, "--json", str(path), "--frames", "60", "--keep", "--policies", *policies])

    evaluate("0:1")
    first = path.read_text()
    path.write_text(first + '{"policy": "paper", "se')
    evaluate("0:2")
    assert path.read_text().startswith(first)
    results = read_results(path)
    assert {(line["policy"], line["seed"]) for line in results} == {(p, s) for p in policies for s in range(2)}
    check_comparable(results)
    assert all(line["kv_bytes"] > 0 and line["frames_read"] < 14 for line in results)
    assert any(line["returns"] for line in results)
    for line in results:  # a broken model, decoder or player would not show a landscape that pans
        assert line["measures"]["camera_obeyed"] > 0.9 and line["measures"]["landmarks_clear"] > 0.5
    text = "\n".join(table(results, [*COMPARED], columns) for columns in (MEMORY, HELD, PANS, PICTURE, CHANGE))
    assert text.count("`paper`") == text.count("`uniform`") == 5 and "`max`" not in text
    assert "`paper`" in differences(results, policies, "uniform", PICTURE)
    colours = {"paper": "#D55E00"}
    assert draw_recall(results, colours).tobytes() != draw_recall([], colours).tobytes()
    path.unlink()
    evaluate("0:1")  # of the videos that were kept
    assert read_results(path) == [line for line in results if line["seed"] == 0]


def test_tables_go_between_their_comments_and_nowhere_else() -> None:
    page = "a\n<!-- one -->\nold\n<!-- / -->\nb\n<!-- two -->\n<!-- / -->\nc\n"
    filled = fill_in(page, {"one": "| 1 |", "two": "| 2 |"})
    assert filled == "a\n<!-- one -->\n\n| 1 |\n\n<!-- / -->\nb\n<!-- two -->\n\n| 2 |\n\n<!-- / -->\nc\n"
    assert fill_in(filled, {"one": "| 1 |", "two": "| 2 |"}) == filled
    with pytest.raises(ValueError, match="0 places for the table three"):
        fill_in(page, {"three": ""})


def test_policies_are_compared_on_the_seeds_that_they_share() -> None:
    results = [{"policy": policy, "seed": seed} for policy, seeds in (("a", "012"), ("b", "123")) for seed in seeds]
    assert [(each["policy"], each["seed"]) for each in on_seeds_of(results, ["a", "b", "not measured"])] == [
        ("a", "1"),
        ("a", "2"),
        ("b", "1"),
        ("b", "2"),
    ]
    assert on_seeds_of(results, ["a"]) == [each for each in results if each["seed"] in "012"]
    assert on_seeds_of(results, ["not measured"]) == []


def test_the_page_shows_what_the_results_say() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "quality.md").read_text()
    results = [line for path in sorted((root / "testbed").glob("results*.jsonl.gz")) for line in read_results(path)]
    found = tables(results)
    assert fill_in(page, found) == page and page.count("<!-- / -->") == len(found)


def test_policies_have_the_budgets_that_they_are_compared_by() -> None:
    profile = load_profile(PROFILE_FILE)

    def read(name: str, seed: int = 0) -> float:
        return frames_read(POLICIES[name], labels_for(POLICIES[name].rule, profile, seed)) or 0

    assert read("uniform") == read("uniform_frames") == read("uniform_chunks") == 13
    assert read("paper") == read("enhanced") == read("paper_random") == read("paper_random", 5)
    assert read("paper") == pytest.approx(read("uniform"), rel=0.02)
    assert read("uniform_21") == read("uniform_21_no_sink") == read("anchor_no_sink") == 21
    thirds = {read(name) for name in POLICIES if name.endswith("_last_frame")}
    assert len(thirds) == 1 and read("anchor_no_middle") == read("memory_no_middle")
    assert labels_for(POLICIES["paper_random"].rule, profile, 0) != labels_for(
        POLICIES["paper_random"].rule, profile, 1
    )
    assert labels_for(POLICIES["paper"].rule, profile, 0) == profile.labels


@pytest.mark.parametrize("frames", ["0", "3", "61"])
def test_an_impossible_length_is_refused(frames: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--seeds", "0:1", "--json", str(tmp_path / "none"), "--frames", frames])
    assert "give a multiple" in capsys.readouterr().err


def test_scripts_change_sky_and_thing_once() -> None:
    for seed in range(20):
        script = evaluation_script(seed, 240)
        prompts = [replace(scene.prompt, camera="holds still", place="harbour") for scene in script]
        changes = [(a.sky != b.sky, a.shape != b.shape) for a, b in zip(prompts, prompts[1:], strict=False) if a != b]
        assert changes == [(True, False), (False, True)]
