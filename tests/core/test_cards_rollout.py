"""A film that several ranks make together is the one that one makes alone: exact, to the last bit."""

from dataclasses import replace
from functools import lru_cache
from itertools import combinations, product
from typing import NamedTuple

import pytest
import reference_tiers
import torch
from cards_on_threads import Group, alone, check_same
from reference_solvers import Way
from side_by_side import Case, Change
from test_against_reference import FILLING_CASES, RECALL_CASES
from test_rolling import FAMILY, WAY, met
from test_ways import CASES as WAYS
from tiny_model import BESIDE, CHANNELS, TinyModel
from torch import Tensor

from headforcing_core.families.family import RENOISE, UNIPC2, Shots
from headforcing_core.policy.head_types import Labels
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.transitions import TRANSITIONS

NEAR = 1e-5
N = 3
MIXED: Labels = (
    ("local", "anchor", "memory", "memory", "local"),
    ("memory", "memory", "anchor", "local", "local"),
)
FEW_OF_A_TYPE: Labels = (
    ("memory", "local", "local", "local"),
    ("anchor", "local", "local", "local"),
)  # most ranks have none
ONE_TYPE: Labels = (("memory",) * 5, ("anchor",) * 5)
CHANGES: tuple[tuple[Change, ...], ...] = (
    ((2, "recache", 1), (5, "flush", 1), (7, "soft", 2)),
    ((1, "soft", 2), (5, "cut", 1), (7, "recache", 1)),
    ((2, "shot", 1), (4, "recache", 1), (5, "cut", 1), (7, "shot", 1)),
)
GIVEN = ("nothing", "image", "concat")
ROPES = ("compact", "clamp", "tied")


class Setting(NamedTuple):
    """How a film is made, and by whom."""

    preset: str
    given: str
    ranks: int
    exact: bool
    labels: Labels
    changes: tuple[Change, ...]
    rope: str
    solver: str
    is_told: bool
    prefix_frames: int


def setting_of(a: int, b: int, c: int) -> Setting:
    """One of 27, by three digits to the base of 3. What goes by sums of these, each with its own share of a and b and
    all of c, comes in every pair of values: an orthogonal array."""
    return Setting(
        [*PRESETS][3 * a + b],
        GIVEN[c],
        (2, 3, 4)[(c + a) % 3],
        (True, False, False)[(c + b) % 3],
        (MIXED, FEW_OF_A_TYPE, ONE_TYPE)[(c + a + b) % 3],
        CHANGES[(c + 2 * a) % 3],
        ROPES[(c + 2 * b) % 3],
        (RENOISE, UNIPC2, UNIPC2)[(c + 2 * a + 2 * b) % 3],
        (True, False, False)[(c + a + 2 * b) % 3],
        (0, 4, 4)[(c + 2 * a + b) % 3],
    )


SETTINGS = [setting_of(*digits) for digits in product(range(3), repeat=3)]


def beside(frames: range) -> Tensor:
    return torch.cat([_drawn(300 + frame, BESIDE, 1) for frame in frames], dim=2)


def _drawn(seed: int, channels: int, frames: int) -> Tensor:
    return torch.randn(1, channels, frames, 4, 6, generator=torch.Generator().manual_seed(seed))


def case_of(setting: Setting) -> Case:
    """Nine chunks that are compressed from the third on; as many as it can hold, where all is kept."""
    way = Way(
        (0.9, 0.6, 0.0),
        (900, 600) if setting.is_told else (),
        solver=setting.solver,
        image=_drawn(7, CHANNELS, 1) if setting.given == "image" else None,
        concat=beside if setting.given == "concat" else None,
    )
    preset = PRESETS[setting.preset]
    policy = replace(preset, rope=setting.rope, novelty_percentile=10.0)
    if not preset.fills:
        policy = replace(policy, compress_from_chunk=3)
    chunks = (21 - setting.prefix_frames) // N if preset.keep_everything else 9
    changes = tuple(change for change in setting.changes if change[0] < chunks)
    shots = Shots("", 3) if any(how == "shot" for _, how, _ in changes) else None
    return Case(
        reference_tiers.PRESETS["paper"],  # of the naive reference, which is not asked here
        policy,
        N,
        chunks,
        setting.labels,
        changes=changes,
        prefix_frames=setting.prefix_frames,
        latent=(4, 6),
        way=way,
        shots=shots,
    )


@lru_cache
def model_of(labels: Labels) -> TinyModel:
    return TinyModel(layers=len(labels), heads=len(labels[0]))


def test_the_settings_cover_every_pair_of_values_and_every_transition() -> None:
    values = [set(column) for column in zip(*SETTINGS, strict=True)]
    assert values[0] == {*PRESETS}
    assert [len(each) for each in values] == [9, 3, 3, 2, 3, 3, 3, 2, 2, 2]
    for one, other in combinations(range(len(values)), 2):
        assert {(each[one], each[other]) for each in SETTINGS} == set(product(values[one], values[other]))
    assert {how for changes in CHANGES for _, how, _ in changes} == {*TRANSITIONS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.preset}-{s.ranks}-{'exact' if s.exact else 'tokens'}")
def test_ranks_make_the_film_that_one_makes(setting: Setting) -> None:
    case, model = case_of(setting), model_of(setting.labels)
    made = Group(case, model, setting.ranks, setting.exact).made()
    check_same(alone(case, model), made, 0.0 if setting.exact else NEAR)


def rolling(preset: str, prefix_frames: int = 0) -> Case:
    policy = replace(met(preset), trained_frames=FAMILY.trained_frames, novelty_percentile=15.0)
    changes: tuple[Change, ...] = ((3, "recache", 1), (5, "cut", 1), (6, "soft", 2))
    ahead = FAMILY.ahead(N)
    rules = reference_tiers.PRESETS["paper"]
    return Case(rules, policy, N, 8, MIXED, (1.0, 0.0), changes, prefix_frames, (4, 6), way=WAY, ahead=ahead)


OTHERS = {
    "rolling": (rolling("paper"), 2, False),
    "rolling that recalls": (rolling("recall", 1), 3, True),
    "rolling in 8 bits": (rolling("tiny"), 4, False),
    "single frames that leave episodes": (replace(FILLING_CASES["frame-wise"], latent=(4, 6)), 3, False),
    "one step that recalls": (replace(RECALL_CASES["one step"], chunks=14, latent=(4, 6)), 2, True),
    "a long prefix that is recalled": (replace(RECALL_CASES["a long prefix"], latent=(4, 4)), 2, True),
    "a video made of another": (WAYS["a source by unipc2, with an image"], 4, False),
    "steps of the first chunk": (WAYS["channels beside everything"], 3, True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_films_are_the_same_as_well(name: str) -> None:
    case, ranks, exact = OTHERS[name]
    model = model_of(case.labels)
    made = Group(case, model, ranks, exact).made()
    check_same(alone(case, model), made, 0.0 if exact else NEAR)
