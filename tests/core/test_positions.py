"""Head-wise RoPE re-encoding (method.md section 5)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headforcing_core.kv_memory.rope import rotate, temporal_pairs, temporal_rotation
from headforcing_core.policy.positions import ROPE_MODES, chunk_position, history_positions
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import KeptFrames, kept_frames

RECENT = {15: 12, 16: 13, 17: 14, 18: 15, 19: 16, 20: 17}
OWN_IDS = {"memory": (0, 1, 2, 4, 10, *RECENT), "anchor": (0, 1, 2, 20), "local": (20,)}
WORKED = {
    ("memory", "compact"): {0: 7, 1: 8, 2: 9, 4: 10, 10: 11, **RECENT},
    ("memory", "clamp"): {0: 0, 1: 0, 2: 0, 4: 1, 10: 7, **RECENT},
    ("memory", "tied"): {0: 0, 1: 0, 2: 0, 4: 0, 10: 0, **RECENT},
    ("anchor", "compact"): {0: 14, 1: 15, 2: 16, 20: 17},
    ("anchor", "clamp"): {0: 0, 1: 0, 2: 0, 20: 17},
    ("anchor", "tied"): {0: 0, 1: 0, 2: 0, 20: 17},
    ("local", "compact"): {20: 17},
    ("local", "clamp"): {20: 17},
    ("local", "tied"): {20: 17},
    **{(head_type, "absolute"): {frame: frame for frame in frames} for head_type, frames in OWN_IDS.items()},
}


def places(kept: KeptFrames, mode: str, first_frame: int, chunk_frames: int, trained: int = 21) -> dict[int, int]:
    position = chunk_position(mode, first_frame, chunk_frames, trained)
    found = history_positions(mode, kept.frames, kept.recent_from, first_frame, position)
    return dict(zip(kept.frames, found, strict=True))


@pytest.mark.parametrize(("head_type", "mode"), WORKED)
def test_the_worked_example_of_chunk_7_comes_out_as_written(head_type: str, mode: str) -> None:
    kept = kept_frames(PRESETS["paper"].tiers(head_type), 21, [4, 10])
    assert places(kept, mode, 21, 3) == WORKED[head_type, mode]


def test_a_chunk_stands_at_the_far_end_of_the_trained_range() -> None:
    for mode in ("compact", "clamp", "tied"):
        assert chunk_position(mode, 21, 3, 21) == 18
        assert chunk_position(mode, 700, 1, 21) == 20
    assert chunk_position("absolute", 21, 3, 21) == 21


@pytest.mark.parametrize("mode", [mode for mode in ROPE_MODES if mode != "absolute"])
def test_recent_frames_stand_at_their_true_distance(mode: str) -> None:
    kept = KeptFrames((0, 1, 50, 90, 91, 92), recent_from=90, sink_end=2)
    found = places(kept, mode, 93, 3)
    assert [found[frame] for frame in (90, 91, 92)] == [15, 16, 17]


def test_compact_stands_right_below_the_chunk_when_nothing_is_recent() -> None:
    assert history_positions("compact", (0, 1, 40), 93, 93, 18) == [15, 16, 17]


def test_clamp_follows_an_old_frame_down_to_zero_and_leaves_it_there() -> None:
    found = [places(KeptFrames((10, first - 1), first - 1, 0), "clamp", first, 3)[10] for first in range(12, 60, 3)]
    assert found == [max(0, 18 - (first - 10)) for first in range(12, 60, 3)]
    assert found[-1] == 0


@settings(derandomize=True, deadline=None)
@given(sizes=st.tuples(*[st.integers(0, 7)] * 2, st.integers(1, 6)), first=st.integers(0, 400), data=st.data())
def test_compact_positions_are_consecutive_and_in_time_order(
    sizes: tuple[int, int, int], first: int, data: st.DataObject
) -> None:
    sink, episodes, recent = sizes
    old = range(min(sink, first), max(min(sink, first), first - recent))
    chosen = data.draw(st.sets(st.sampled_from(old), max_size=episodes)) if old else set()
    frames = tuple(sorted({*range(min(sink, first)), *chosen, *range(max(0, first - recent), first)}))
    kept = KeptFrames(frames, max(0, first - recent), sink)
    found = places(kept, "compact", first, 1)
    assert list(found.values()) == list(range(20 - len(frames), 20))


@pytest.mark.parametrize(("head_dim", "pairs"), [(128, 22), (24, 4), (48, 8)])
def test_time_turns_the_pairs_that_height_and_width_leave(head_dim: int, pairs: int) -> None:
    assert temporal_pairs(head_dim) == pairs == head_dim // 2 - 2 * (head_dim // 6)


@pytest.mark.parametrize("place", [0, 1, 17, 257, 959, 3200])
def test_rotations_carry_no_more_than_the_rounding_of_their_last_step(place: int) -> None:
    matrix = temporal_rotation([place], 128)
    assert matrix.dtype == torch.float32
    for pair in range(22):
        angle = place * 10000.0 ** (-2 * pair / 44)
        expected = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        assert torch.allclose(matrix[0, pair].double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)


def test_neighbouring_frames_of_a_long_video_keep_different_positions() -> None:
    matrices = temporal_rotation(range(950, 1000), 128)
    assert (matrices[1:] - matrices[:-1]).abs().amax(dim=(1, 2, 3)).min() > 0.5


def test_rotation_turns_adjacent_pairs() -> None:
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = rotate(torch.tensor([1.0, 0.0, 3.0, 4.0]), torch.stack([quarter, torch.eye(2)]))
    assert torch.equal(turned, torch.tensor([0.0, 1.0, 3.0, 4.0]))


def test_time_turns_its_own_pairs_alone() -> None:
    assert temporal_rotation([17, 18], 128).shape == (2, 22, 2, 2)


def test_only_differences_of_positions_reach_the_scores() -> None:
    q, k = torch.randn(2, 44, generator=torch.Generator("cpu").manual_seed(0)).unbind()
    scores = []
    for shift in (0, 1, 100, 1000):
        at_18, at_5 = temporal_rotation([18 + shift, 5 + shift], 128)
        scores.append((rotate(q, at_18) @ rotate(k, at_5)).item())
    assert scores == pytest.approx([scores[0]] * 4, abs=1e-4)
