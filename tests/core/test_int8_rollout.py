"""A rollout that keeps K and V in 8 bits beside the naive reference with the same rounding."""

from dataclasses import replace

import pytest
import reference_tiers
from side_by_side import Case, compare, soft
from test_against_reference import FILLING_CASES, RECALL_CASES

from headforcing_core.policy.presets import PRESETS

# a number that lies a hair from the middle of a step may be rounded the other way: a step more or less of one number
ONE_STEP, EVERY_NUMBER = 2e-3, 3e-3


def in_8_bits(case: Case) -> Case:
    return replace(
        case, rules=replace(case.rules, kv_precision="int8"), policy=replace(case.policy, kv_precision="int8")
    )


TINY = Case(reference_tiers.PRESETS["tiny"], PRESETS["tiny"], 3, 14, changes=(*soft(9), (12, "recache", 1)))
CASES = {
    "the preset tiny": TINY,
    "novelty after a prefix": in_8_bits(replace(FILLING_CASES["paper"], prefix_frames=7)),
    "frame-wise": in_8_bits(FILLING_CASES["frame-wise"]),
    "a cut": in_8_bits(FILLING_CASES["cut while there is room"]),
    "one step": in_8_bits(RECALL_CASES["one step"]),
}


@pytest.mark.parametrize("name", CASES)
def test_it_gives_the_latents_of_the_naive_reference(name: str) -> None:
    compare(CASES[name], tolerance=ONE_STEP)


def test_the_reference_is_farther_away_where_it_does_not_round() -> None:
    rules = replace(TINY.rules, kv_precision="model")
    with pytest.raises(AssertionError, match="first in chunk 1"):
        compare(replace(TINY, rules=rules), tolerance=EVERY_NUMBER)
