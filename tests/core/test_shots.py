"""Shots: a gap, a text for the first chunk, which is pinned while the shot lasts (docs/method_decisions.md)."""

from dataclasses import replace

import pytest
import torch
from side_by_side import Case, compare, core
from test_against_reference import PAPER, filling, own_case, recalling, whole
from tiny_model import TinyModel

from headforcing_core.families.family import Shots

THREE, EIGHT = Shots("", 3), Shots("", 8)
UNIFORM = ((3, 0, 7),) * 3
PAPER_8 = ((0, 0, 3), (8, 0, 3), (8, 8, 8))
LOW_8 = ((0, 0, 1), (4, 0, 1), (4, 4, 8))
UNIFORM_8 = ((8, 0, 16),) * 3


def of_three(case: Case, *changes: tuple[int, str, int], prefix_frames: int = 0) -> Case:
    """A model of chunks of 3 that was taught shots 3 positions apart."""
    rules = replace(case.rules, gap=THREE.gap)
    return replace(case, rules=rules, shots=THREE, latent=(4, 6), changes=changes, prefix_frames=prefix_frames)


def of_eight(case: Case, *changes: tuple[int, str, int]) -> Case:
    """As LongLive-2.0: chunks of 8, 32 frames, and a gap of 8."""
    rules = replace(case.rules, gap=EIGHT.gap)
    return replace(case, rules=rules, shots=EIGHT, trained=32, latent=(4, 4), changes=changes)


def own_8(sizes: tuple, rope: str = "compact", commit_context: str = "full", start: int = -1) -> Case:
    return own_case(sizes, 8, 12, rope, commit_context, start, 10.0, 32)


SEVERAL = ((3, "shot", 1), (6, "shot", 1), (7, "shot", 1))
CASES = {
    "paper of 3": of_three(whole(own_case(PAPER, 3, 22, percentile=10.0)), (9, "shot", 1), (16, "shot", 1)),
    "frames of 3, in warm-up": of_three(
        own_case(PAPER, 3, 18, percentile=10.0), (2, "shot", 1), (5, "shot", 1), (11, "shot", 1)
    ),
    "uniform of 3, cut and flushed": of_three(
        own_case(UNIFORM, 3, 20), (5, "shot", 1), (9, "cut", 1), (11, "shot", 1), (15, "flush", 1), (17, "shot", 1)
    ),
    "more recent frames than there is room for": of_three(
        own_case(((2, 0, 11), (3, 0, 15), (3, 5, 10)), 3, 18), (8, "shot", 1), (12, "shot", 1), (13, "recache", 1)
    ),
    "episodes give way": of_three(
        whole(own_case(((0, 0, 1), (3, 0, 1), (3, 9, 6)), 3, 26, percentile=10.0)), (15, "shot", 1), (20, "flush", 1)
    ),
    "clamped": of_three(own_case(PAPER, 3, 16, "clamp", percentile=10.0), (4, "shot", 1), (10, "shot", 1)),
    "tied, recent context": of_three(
        own_case(PAPER, 3, 16, "tied", "recent", percentile=10.0), (8, "shot", 1), (12, "recache", 1)
    ),
    "absolute": of_three(
        whole(own_case(PAPER, 3, 18, "absolute", percentile=10.0)), (5, "shot", 1), (9, "shot", 1), (11, "recache", 1)
    ),
    "after a prefix": of_three(
        own_case(PAPER, 3, 12, percentile=10.0), (1, "shot", 1), (7, "soft", 3), prefix_frames=11
    ),
    "chunks of one": of_three(own_case(PAPER, 1, 40, percentile=10.0), (22, "shot", 1), (33, "shot", 1)),
    "recalling": of_three(
        recalling(own_case(PAPER, 3, 24)), (9, "shot", 1), (13, "soft", 1), (17, "shot", 1), (19, "soft", 1)
    ),
    "recalling at absolute positions": of_three(
        recalling(own_case(PAPER, 3, 18, "absolute")), (8, "shot", 1), (12, "recache", 1), (15, "shot", 1)
    ),
    "recalling what fills, one step": replace(
        of_three(filling(recalling(own_case(PAPER, 3, 18))), (3, "shot", 1), (8, "shot", 1), (13, "flush", 1)),
        sigmas=(1.0, 0.0),
    ),
    "recalling less": of_three(
        recalling(own_case(((0, 0, 1), (3, 0, 1), (3, 9, 6)), 3, 20)), (10, "shot", 1), (15, "cut", 1)
    ),
    "paper of 8": of_eight(whole(own_8(PAPER_8)), *SEVERAL),
    "uniform of 8": of_eight(own_8(UNIFORM_8), (2, "shot", 1), (5, "shot", 1), (9, "flush", 1)),
    "little memory of 8": of_eight(own_8(LOW_8, start=1), (4, "shot", 1), (7, "cut", 1), (9, "shot", 1)),
    "recalling of 8": of_eight(filling(recalling(own_8(PAPER_8))), (5, "shot", 1), (8, "flush", 1)),
    "absolute of 8": of_eight(own_8(UNIFORM_8, "absolute"), (3, "shot", 1), (6, "shot", 1), (8, "recache", 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_shots_give_the_latents_of_the_naive_reference(name: str) -> None:
    compare(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_tiers_are_read_in_time_order_within_the_trained_range(name: str) -> None:
    case = CASES[name]
    starts = [first for first, how, _ in case.changes if how == "shot"]
    for chunk in core(case, TinyModel(head_dim=12)):
        for seen in chunk.seen.values():
            frames, places = [frame for frame, _, _ in seen], [place for _, place, _ in seen]
            assert frames == sorted(set(frames))
            assert torch.tensor(places).diff().min() >= 0 if len(places) > 1 else True
            if case.policy.rope != "absolute":
                gap = case.shots.gap if chunk.index in starts else 0
                assert all(0 <= place < chunk.position - gap for place in places)
