"""The episodic memory, rule by rule (method.md section 4)."""

import math
from collections.abc import Sequence

import pytest
import reference_episodes as reference
import torch
from torch import Tensor

from headforcing_core.rollout.episodes import (
    ROWS,
    Decision,
    EpisodicMemory,
    describe,
    descriptor_layers,
    is_candidate,
    similarity,
)

AXES = 64
PLENTY = 1000
SINK_FRAME = 0


def pointing(**weights: float) -> Tensor:
    """A descriptor of one layer and one cell: the unit vector with these coordinates (x0=..., x1=...)."""
    vector = torch.zeros(AXES)
    for axis, weight in weights.items():
        vector[int(axis[1:])] = weight
    return (vector / vector.norm())[None, None]  # (layers, cells, head_dim)


def with_novelty(novelty: float, axis: int) -> Tensor:
    """A frame of this novelty while all others are made here too: its likeness to the sink frame is 1 - novelty, and
    that to any other frame is a product of two such, hence never higher."""
    likeness = 1 - novelty
    return pointing(x0=likeness, **{f"x{axis}": math.sqrt(1 - likeness**2)})


def memory_with_sink(size: int = PLENTY, percentile: float = 60.0) -> EpisodicMemory:
    """One sink frame, frame 0."""
    memory = EpisodicMemory(1, size, percentile)
    memory.observe(SINK_FRAME, pointing(x0=1))
    return memory


def judge(memory: EpisodicMemory, frame: int, descriptor: Tensor) -> Decision:
    memory.observe(frame, descriptor)
    return memory.judge(frame)


def judge_all(memory: EpisodicMemory, novelties: Sequence[float], first: int = 4, spacing: int = 6) -> list[Decision]:
    return [judge(memory, first + spacing * i, with_novelty(novelty, i + 1)) for i, novelty in enumerate(novelties)]


def fill(memory: EpisodicMemory, descriptors: dict[int, Tensor]) -> None:
    for frame, descriptor in descriptors.items():
        assert judge(memory, frame, descriptor).admitted


# Candidates


@pytest.mark.parametrize(
    ("chunk_frames", "candidates"),
    [
        (1, [4, 7, 10, 13, 16]),
        (2, [3, 5, 7, 9, 11, 13, 15, 17]),
        (3, [4, 7, 10, 13, 16]),
        (5, [7, 12, 17]),
        (4, [6, 10, 14]),
        (8, [4, 12]),
    ],
)
def test_the_middle_frame_of_a_chunk_is_the_candidate(chunk_frames: int, candidates: list[int]) -> None:
    found = [f for f in range(18) if is_candidate(f, 3, f // chunk_frames * chunk_frames, chunk_frames)]
    assert found == candidates


def test_sink_frames_are_no_candidates() -> None:
    assert not is_candidate(4, 5, 3, 3)
    assert is_candidate(4, 4, 3, 3)
    assert is_candidate(1, 0, 0, 3)


# Descriptor


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [(30, (15, 20, 25)), (40, (20, 26, 33)), (24, (12, 16, 20)), (4, (2, 3)), (3, (1, 2)), (2, (1,)), (1, (0,))],
)
def test_three_layers_of_the_second_half_describe_a_frame(layers: int, chosen: tuple[int, ...]) -> None:
    assert descriptor_layers(layers) == chosen


@pytest.mark.parametrize(("rows", "columns"), [(30, 52), (6, 8), (4, 5), (7, 9), (12, 4)])
def test_a_descriptor_is_6_unit_cells_of_the_pooled_keys(rows: int, columns: int) -> None:
    keys = torch.randn(2, rows * columns, 3, 24, generator=torch.Generator("cpu").manual_seed(1))
    found = describe(keys, rows, columns)
    assert found.shape == (2, ROWS, 24)
    assert found.dtype == torch.float32
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, ROWS))
    for frame in range(2):
        assert torch.allclose(found[frame], reference.describe([keys[frame]], rows, columns)[0], atol=1e-6)


def test_a_picture_that_went_aside_is_described_alike_and_one_that_went_up_is_not() -> None:
    picture = torch.randn(30, 52, 3, 24, generator=torch.Generator("cpu").manual_seed(1))
    original, aside, up = (
        describe(each.flatten(0, 1)[None], 30, 52)
        for each in (picture, picture.roll(9, dims=1), picture.roll(9, dims=0))
    )
    assert similarity(original, aside) == pytest.approx(1)
    assert similarity(original, up) < 0.9


def test_a_descriptor_is_float32_whatever_the_keys_are() -> None:
    keys = torch.randn(1, 48, 3, 24, generator=torch.Generator("cpu").manual_seed(1)).bfloat16()
    assert torch.equal(describe(keys, 6, 8), describe(keys.float(), 6, 8))


def test_similarity_is_the_mean_cosine_over_cells_then_layers() -> None:
    a = torch.stack([torch.eye(4)[:2], torch.eye(4)[:2]])  # (2 layers, 2 cells, 4)
    b = torch.stack([torch.eye(4)[[0, 3]], torch.eye(4)[[2, 3]]])
    assert similarity(a, b) == pytest.approx(0.25)
    assert similarity(a, a) == pytest.approx(1.0)
    assert similarity(a, -a) == pytest.approx(-1.0)


def test_the_descriptor_of_the_first_commit_is_kept() -> None:
    memory = memory_with_sink()
    memory.observe(4, with_novelty(0.7, 1))
    memory.observe(4, with_novelty(0.2, 1))
    assert memory.judge(4).novelty == pytest.approx(0.7, abs=1e-6)


# Novelty


def test_novelty_is_1_with_nothing_to_compare_with() -> None:
    decision = judge(EpisodicMemory(0, 3, 60.0), 4, pointing(x1=1))
    assert decision.novelty == 1.0
    assert decision.admitted


def test_novelty_compares_with_sink_frames_and_with_episodes() -> None:
    memory = memory_with_sink()
    assert judge(memory, 4, pointing(x0=1, x1=1)).novelty == pytest.approx(1 - math.sqrt(0.5))
    assert judge(memory, 10, pointing(x1=1)).novelty == pytest.approx(1 - math.sqrt(0.5))
    assert judge(memory, 16, pointing(x1=1, x2=1)).novelty == pytest.approx(1 - math.sqrt(0.5))


def test_a_refused_frame_is_no_longer_compared_with() -> None:
    memory = memory_with_sink()
    assert judge(memory, 4, with_novelty(0.9, 1)).admitted
    refused = judge(memory, 7, pointing(x5=1))
    assert not refused.admitted
    assert judge(memory, 10, pointing(x5=1)).novelty == pytest.approx(1.0)


def test_a_dropped_episode_is_no_longer_compared_with() -> None:
    memory = memory_with_sink(size=1)
    fill(memory, {4: pointing(x1=1)})
    assert judge(memory, 10, pointing(x2=1)).dropped == 4
    assert judge(memory, 16, pointing(x1=1)).novelty == pytest.approx(1.0)


# Threshold


def test_the_first_threshold_is_the_floor() -> None:
    assert judge(memory_with_sink(), 4, with_novelty(0.5, 1)).tau == 0.03


def test_the_threshold_is_the_interpolated_60th_percentile_of_the_novelties_before() -> None:
    decisions = judge_all(memory_with_sink(), [0.5, 0.2, 0.9, 0.4, 0.1])
    assert [d.tau for d in decisions] == pytest.approx([0.03, 0.5, 0.38, 0.58, 0.48], abs=1e-6)


def test_the_percentile_is_a_parameter() -> None:
    decisions = judge_all(memory_with_sink(percentile=0.0), [0.5, 0.2, 0.9, 0.4])
    assert [d.tau for d in decisions] == pytest.approx([0.03, 0.5, 0.2, 0.2], abs=1e-6)
    decisions = judge_all(memory_with_sink(percentile=100.0), [0.5, 0.2, 0.9, 0.4])
    assert [d.tau for d in decisions] == pytest.approx([0.03, 0.5, 0.5, 0.9], abs=1e-6)


def test_the_threshold_looks_back_over_32_novelties() -> None:
    novelties = [1 - 0.02 * i for i in range(45)]
    decisions = judge_all(memory_with_sink(), novelties)
    for i in (1, 5, 31, 32, 33, 44):
        expected = reference.percentile(novelties[max(0, i - 32) : i], 60.0)
        assert decisions[i].tau == pytest.approx(expected, abs=1e-6)


def test_the_threshold_never_falls_below_its_floor() -> None:
    decisions = judge_all(memory_with_sink(), [0.01] * 5)
    assert [d.tau for d in decisions] == [0.03] * 5
    assert not any(d.admitted for d in decisions[:3])


def test_a_refused_novelty_counts_for_the_next_threshold() -> None:
    decisions = judge_all(memory_with_sink(), [0.8, 0.2, 0.5])
    assert not decisions[1].admitted
    assert decisions[2].tau == pytest.approx(0.2 + 0.6 * 0.6, abs=1e-6)


# Admission


def test_a_frame_as_novel_as_the_threshold_is_admitted() -> None:
    memory = EpisodicMemory(0, PLENTY, 60.0)
    decisions = [judge(memory, 4 + 6 * i, pointing(**{f"x{i}": 1})) for i in range(4)]
    assert [(d.novelty, d.tau) for d in decisions] == [(1.0, 0.03), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]
    assert all(d.admitted for d in decisions)


@pytest.mark.parametrize(("spacing", "admitted"), [(1, False), (5, False), (6, True), (7, True)])
def test_a_frame_within_6_of_the_last_admission_is_refused(spacing: int, admitted: bool) -> None:
    memory = memory_with_sink()
    fill(memory, {4: with_novelty(0.5, 1)})
    assert judge(memory, 4 + spacing, with_novelty(0.9, 2)).admitted == admitted


def test_spacing_counts_from_the_last_admission_even_if_that_one_was_dropped() -> None:
    memory = memory_with_sink(size=1)
    fill(memory, {4: pointing(x1=1)})
    last = judge(memory, 28, pointing(x0=1))
    assert (last.admitted, last.dropped) == (True, 28)
    assert not judge(memory, 31, pointing(x9=1)).admitted
    assert judge(memory, 34, pointing(x10=1)).admitted


@pytest.mark.parametrize(
    ("chunk_frames", "least", "forced"),
    [(1, 6, 24), (2, 6, 24), (3, 6, 24), (4, 8, 32), (5, 10, 40), (7, 14, 56), (8, 16, 64)],
)
def test_spacings_are_at_least_2_and_8_chunks(chunk_frames: int, least: int, forced: int) -> None:
    for since, novelty, admitted in [
        (least - 1, 0.9, False),
        (least, 0.9, True),
        (forced - 1, 0.01, False),
        (forced, 0.01, True),
    ]:
        memory = EpisodicMemory(1, PLENTY, 60.0, None, chunk_frames)
        memory.observe(SINK_FRAME, pointing(x0=1))
        fill(memory, {12: with_novelty(0.5, 1)})
        assert judge(memory, 12 + since, with_novelty(novelty, 2)).admitted == admitted


@pytest.mark.parametrize(("since", "admitted"), [(23, False), (24, True), (30, True)])
def test_after_24_frames_without_one_any_candidate_is_admitted(since: int, admitted: bool) -> None:
    memory = memory_with_sink()
    fill(memory, {4: with_novelty(0.9, 1)})
    assert judge(memory, 4 + since, with_novelty(0.001, 2)).admitted == admitted


def test_the_first_admission_needs_no_spacing() -> None:
    memory = EpisodicMemory(3, 6, 60.0)
    for frame in range(3):
        memory.observe(frame, pointing(x0=1))
    assert judge(memory, 4, with_novelty(0.5, 1)).admitted


@pytest.mark.parametrize(("frame", "admitted"), [(25, False), (26, True)])
def test_before_the_first_admission_the_clock_starts_at_the_last_sink_frame(frame: int, admitted: bool) -> None:
    memory = EpisodicMemory(3, 6, 60.0)
    for sink_frame in range(3):
        memory.observe(sink_frame, pointing(x0=1))
    assert judge(memory, frame, pointing(x0=1)).admitted == admitted


def test_no_episodes_remember_nothing() -> None:
    memory = EpisodicMemory(1, 0, 60.0)
    memory.observe(0, pointing(x0=1))
    decisions = judge_all(memory, [0.9, 0.95, 0.99], spacing=30)
    assert not any(d.admitted for d in decisions)
    assert memory.episodes == []


# Dropping


def test_the_bank_never_holds_more_than_its_size() -> None:
    memory = memory_with_sink(size=3)
    for i in range(30):
        judge(memory, 4 + 6 * i, with_novelty(0.3 + 0.02 * i, i + 1))
        assert len(memory.episodes) <= 3


def test_the_older_of_the_two_most_similar_episodes_is_dropped() -> None:
    memory = memory_with_sink(size=3)
    fill(memory, {4: pointing(x1=1), 28: pointing(x2=1, x1=0.2), 52: pointing(x3=1)})
    assert judge(memory, 76, pointing(x4=1, x2=0.5)).dropped == 28
    assert memory.episodes == [4, 52, 76]


def test_the_newcomer_itself_can_be_dropped() -> None:
    memory = memory_with_sink(size=2)
    fill(memory, {4: pointing(x1=1), 10: pointing(x2=1)})
    decision = judge(memory, 40, pointing(x0=1, x2=0.1))
    assert (decision.admitted, decision.dropped) == (True, 40)
    assert memory.episodes == [4, 10]


def test_of_equally_redundant_episodes_the_oldest_is_dropped() -> None:
    memory = memory_with_sink(size=3)
    fill(memory, {frame: pointing(**{f"x{frame}": 1}) for frame in (4, 10, 16)})
    assert judge(memory, 22, pointing(x22=1)).dropped == 4


def test_a_bank_of_one_holds_the_newest() -> None:
    memory = memory_with_sink(size=1)
    fill(memory, {4: pointing(x1=1)})
    assert judge(memory, 10, pointing(x2=1)).dropped == 4
    assert memory.episodes == [10]


def test_likeness_to_a_sink_frame_makes_an_episode_redundant() -> None:
    memory = memory_with_sink(size=2)
    fill(memory, {4: pointing(x0=0.9, x1=1), 10: pointing(x2=1, x3=0.1)})
    assert judge(memory, 40, pointing(x3=1)).dropped == 4
    assert memory.episodes == [10, 40]


# Record and replay


def frames_of_a_video(seed: int, count: int = 40) -> dict[int, Tensor]:
    """Descriptors (2 layers, 6 cells, 8) of frames that wander, so that some are near others."""
    generator = torch.Generator("cpu").manual_seed(seed)
    scene = torch.randn(2, ROWS, 8, generator=generator)
    frames = {}
    for i in range(count):
        scene = scene + 0.5 * torch.randn(2, ROWS, 8, generator=generator)
        frames[3 * i + 4] = torch.nn.functional.normalize(scene, dim=-1)
    return frames


def run_through(memory: EpisodicMemory, frames: dict[int, Tensor]) -> list[Decision]:
    return [judge(memory, frame, descriptor) for frame, descriptor in frames.items()]


def test_decisions_equal_the_references() -> None:
    for seed in range(10):
        frames = frames_of_a_video(seed)
        bank = reference.Bank(0, 4, 60.0)
        expected = [bank.judge(frame, frames) for frame in frames]
        found = run_through(EpisodicMemory(0, 4, 60.0), frames)
        assert [(d.frame, d.admitted, d.dropped) for d in found] == [(v.frame, v.admitted, v.dropped) for v in expected]
        assert [d.tau for d in found] == pytest.approx([v.tau for v in expected], abs=1e-6)


def test_every_decision_is_recorded() -> None:
    frames = frames_of_a_video(0)
    memory = EpisodicMemory(0, 4, 60.0)
    decisions = run_through(memory, frames)
    assert memory.decisions == decisions
    assert [d.frame for d in decisions] == list(frames)
    assert 0 < sum(d.admitted for d in decisions) < len(decisions)
    assert any(d.dropped is not None for d in decisions)


def test_a_replay_repeats_the_record_even_where_descriptors_differ() -> None:
    first = EpisodicMemory(0, 4, 60.0)
    decisions = run_through(first, frames_of_a_video(0))
    again = EpisodicMemory(0, 4, 60.0, {decision.frame: decision for decision in decisions})
    assert run_through(again, frames_of_a_video(1)) == decisions
    assert again.episodes == first.episodes


def test_a_replay_of_a_part_goes_on_as_the_whole() -> None:
    frames = frames_of_a_video(0)
    whole = run_through(EpisodicMemory(0, 4, 60.0), frames)
    record = {decision.frame: decision for decision in whole[:17]}
    assert run_through(EpisodicMemory(0, 4, 60.0, record), frames) == whole
