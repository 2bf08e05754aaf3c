"""The grown world's films ask what they are meant to, and their measures find it."""

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from torch import Tensor

from testbed.evaluate import model_and_profile
from testbed.grown.evaluate import MODEL_FILE, PROFILE_FILE, segments_of
from testbed.grown.evaluation_films import FILMS, EvaluationFilm, camera_pixels, once, truth
from testbed.grown.measures import measure_film, read_camera
from testbed.grown.oracle import oracle
from testbed.head_profile import PROFILE_FILE as OLD_PROFILE
from testbed.latents import load_basis
from testbed.measures import Measured
from testbed.model_files import MODEL_FILE as OLD_MODEL
from testbed.policies import FACTORIAL, LEAN, POSITIONS, RECALLED
from testbed.quality_recall import effect, recall_tables
from testbed.statistics import measured as measured_value

PERFECT = {"landmarks_clear": 1, "landmarks_steady": 1, "camera_obeyed": 1, "thing_shape": 1, "thing_motion": 1}


def shown(film: EvaluationFilm, seed: int) -> Tensor:
    return load_basis().pictures(truth(film, seed, len(film.prompts))[0])


@cache
def measured(name: str) -> Measured:
    return measure_film(shown(film_of(name, 0), 0), film_of(name, 0))


def film_of(name: str, seed: int) -> EvaluationFilm:
    return once(seed, 40) if name == "once" else FILMS[name](seed)


@pytest.mark.parametrize("name", FILMS)
def test_the_truth_is_perfect_and_asks_for_returns(name: str) -> None:
    film, found = film_of(name, 0), measured(name)
    assert {measure: found.values[measure] for measure in PERFECT} == PERFECT
    assert len(found.returns) >= 8 and all(each.came == each.was for each in found.returns)
    assert all(each.frame >= 3 * film.given for each in found.returns)


def test_a_changed_place_has_to_come_back_as_last_seen() -> None:
    film, right = FILMS["changing"](0), measured("changing").values
    assert right["newest_wins"] == 1 and right["older_wins"] == 0
    before = [replace(prompt, version=0) for prompt in film.prompts[film.given :]]
    as_before = EvaluationFilm([*film.prompts[: film.given], *before], film.given)
    wrong = measure_film(shown(as_before, 0), film).values
    assert wrong["newest_wins"] == 0 and wrong["older_wins"] == 1


def test_from_another_end_the_newest_view_does_not_show_everything() -> None:
    found = measured("ends").values
    assert found["newest_view"] == found["older_view"] == 1
    film, pictures = FILMS["ends"](0), shown(FILMS["ends"](0), 0).clone()
    chunk = next(c for c in range(11, 80) if film.prompts[c].view == film.prompts[8].view)  # where the pan began
    newest = next(c for c in range(chunk - 1, 0, -1) if film.prompts[c].place == film.prompts[chunk].place)
    pictures[3 * chunk : 3 * chunk + 3] = pictures[3 * newest : 3 * newest + 3]
    wrong = measure_film(pictures, film).values
    assert (wrong["older_view"] or 0) < 0.9 < (wrong["newest_view"] or 0)


def test_a_film_whose_camera_follows_has_one_prompt_and_is_read_from_the_video() -> None:
    film = FILMS["follows"](0)
    assert len(segments_of(film)) == 1
    still = EvaluationFilm(film.prompts[:20])
    pictures = shown(still, 0)[:1].expand(60, -1, -1, -1)
    assert (measure_film(pictures, still).values["camera_obeyed"] or 0) == 0
    absences = [each.absence for each in measured("follows").returns]
    assert sum(absence >= 6 for absence in absences) > 10


def test_what_was_seen_once_was_seen_for_one_chunk_long_ago() -> None:
    film = once(5, 60)
    visited = film.prompts[2].place
    there = [chunk for chunk, prompt in enumerate(film.prompts) if prompt.place == visited]
    assert there[0] == 2 and there[1] == film.given == 63
    assert not set(film.prompts[2].text.split()) & {film.prompts[63].things, film.prompts[63].ground}


@pytest.mark.parametrize("name", ["plain", "changing", "once"])
def test_the_oracle_recalls_the_newest_of_the_place(name: str) -> None:
    film = film_of(name, 2)
    choose = oracle(film)([])
    changes = [c for c in range(10, len(film.prompts)) if film.prompts[c].place != film.prompts[c - 1].place]
    for chunk in changes:
        candidates = [3 * number for number in range(1, chunk - 2)]
        chosen = choose(chunk, candidates)
        assert {film.prompts[frame // 3].place for frame in chosen} <= {film.prompts[chunk].place}
        same = [frame for frame in candidates if film.prompts[frame // 3].place == film.prompts[chunk].place]
        assert [*chosen] == same[-2:]


def test_the_oracle_recalls_both_halves_of_a_view_from_between() -> None:
    film = FILMS["ends"](2)
    lefts = camera_pixels(film)
    chunk = next(c for c, prompt in enumerate(film.prompts) if prompt.view == "between")
    first, second = oracle(film)([])(chunk, [3 * number for number in range(1, chunk - 2)])
    assert {film.prompts[frame // 3].place for frame in (first, second)} == {film.prompts[chunk].place}
    views = [lefts[frame + number] for frame in (first, second) for number in range(3)]
    assert {column for left in views for column in range(left, left + 128)} >= set(
        range(lefts[3 * chunk], lefts[3 * chunk] + 128)
    )


def test_the_oracle_of_a_following_camera_reads_the_video() -> None:
    film = FILMS["follows"](4)
    latent = truth(film, 4, len(film.prompts))
    whole = read_camera(load_basis().pictures(latent[0, :, :186]))

    class Made:
        def __init__(self, chunk: int) -> None:
            self.latent = latent[:, :, 3 * chunk : 3 * chunk + 3]

    chunk = 60
    made = [Made(number) for number in range(chunk)]
    chosen = oracle(film)(made)(chunk, [3 * number for number in range(1, chunk - 2)])  # type: ignore[arg-type]
    present = set(range(whole[180], whole[180] + 128))
    recalled = {column for frame in chosen for column in range(whole[frame], whole[frame] + 128)}
    assert len(present & recalled) >= 96


def test_words_of_a_place_differ_between_its_visits() -> None:
    prompts = FILMS["plain"](7).prompts
    said: dict[str, tuple[str, str]] = {}
    for before, prompt in pairwise(prompts):
        if before.place != prompt.place:
            said[before.place] = (before.things, before.ground)
            assert said.get(prompt.place, ("", "")) != (prompt.things, prompt.ground)
    assert max(Counter(prompt.place for prompt in prompts).values()) >= 15
    assert len(said) == 3


def test_the_model_and_its_profile_belong_together_and_to_no_other() -> None:
    network, profile = model_and_profile(MODEL_FILE, PROFILE_FILE)
    assert profile.counts == {"local": 2, "anchor": 3, "memory": 7}
    assert (profile.layers, profile.heads) == (network.shape.layers, network.shape.heads) == (6, 2)
    assert sum(each.numel() for each in network.parameters()) == 4_805_312
    old_network, old_profile = model_and_profile(OLD_MODEL, OLD_PROFILE)
    assert (old_profile.layers, old_profile.heads) == (old_network.shape.layers, old_network.shape.heads) == (12, 2)
    for model, of_another in ((MODEL_FILE, OLD_PROFILE), (OLD_MODEL, PROFILE_FILE)):
        with pytest.raises(SystemExit, match="is of another model"):
            model_and_profile(model, of_another)


def line(policy: str, seed: int, clear: float, film: str = "") -> dict[str, object]:
    names = ("landmarks_steady", "thing_motion", "camera_obeyed", "sky_drift", "sky_delay", "thing_delay")
    asked = ("newest_wins", "older_wins", "newest_view", "older_view")
    measures = {"landmarks_clear": clear, **dict.fromkeys((*names, *asked))}
    facts = {"policy": policy, "seed": seed, "measures": measures, "returns": []}
    facts |= {"seconds": 1, "extra_passes": 2, "kv_bytes": 7e6}
    return {**facts, "film": film} if film else facts


def test_an_effect_is_the_mean_over_all_that_the_other_factors_can_be() -> None:
    worth = {"none": 0.1, "bank": 0.3, "recall": 0.6, "oracle": 0.7, "sorted": 0.2, "random": 0.1, "all": 0.2}
    results = [
        line(
            name, seed, sum(worth.get(part, 0) for part in name.split("_")) + (0.1 if name == "bank_all_compact" else 0)
        )
        for name in FACTORIAL
        for seed in (1, 2)
    ]
    clear = measured_value("landmarks_clear")
    found = [effect(results, "memory", levels, clear) for levels in (("recall", "bank"), ("bank", "none"))]
    assert [each and round(each.mean, 6) for each in found] == [round(0.3 - 0.1 / 6, 6), round(0.2 + 0.1 / 6, 6)]
    heads, positions = (
        effect(results, "heads", ("sorted", "random"), clear),
        effect(results, "positions", POSITIONS, clear),
    )
    assert heads and positions
    assert heads.mean == pytest.approx(0.1) and positions.mean == pytest.approx(0.1 / 12) and heads.seeds == 2


def test_tables_tell_recall_by_part_and_by_film() -> None:
    results = [line(name, seed, 0.5) for name in RECALLED for seed in (1, 2)]
    results += [line(name, seed, 0.25, film) for name in RECALLED for seed in (1, 2) for film in ("plain", "ends")]
    results += [line(name, seed, 0.75) for name in LEAN for seed in (3, 4)]
    found = recall_tables(results)
    assert found["lean"].count("0.75") == found["lean"].count("7.0 |") == 3
    assert "`recall` |" not in found["lean less recall"].split("\n", 2)[2]
    assert found["recalled"].count("0.50") == 4 and "bank" not in found["factorial"]
    assert found["grown"].count("| `plain` | `") == found["grown"].count("| `ends` | `") == 4
    assert (
        found["grown less paper"].count("`recall`") == 2
        and "`paper` |" not in found["grown less paper"].split("\n", 2)[2]
    )
