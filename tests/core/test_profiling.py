"""Which chunks are watched, what they read, and what is recorded."""

from pathlib import Path

import pytest
import torch

from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.families.table import FAMILIES
from headforcing_core.heads.attention_masses import MassRecorder, rank_correlation, region_masses, sample_queries
from headforcing_core.heads.measuring import profiling_policy, watched_chunks

PROMPTS = Path(__file__).resolve().parents[2] / "nodes" / "profiling_prompts.txt"


def test_the_fast_protocol_watches_frames_9_to_20() -> None:
    assert watched_chunks("fast", 3, 0, 0, SELF_FORCING) == (3, 4, 5, 6)
    assert watched_chunks("fast", 1, 0, 0, SELF_FORCING) == tuple(range(9, 21))


def test_the_paper_protocol_watches_three_chunks_after_the_third_of_thirty_seconds() -> None:
    drawn = [watched_chunks("paper", 3, prompt, 7, SELF_FORCING) for prompt in range(20)]
    for chunks in drawn:
        assert len(set(chunks)) == 3 and list(chunks) == sorted(chunks)
        assert chunks[0] >= 3 and chunks[-1] < 41
    assert len(set(drawn)) > 10 and drawn == [
        watched_chunks("paper", 3, prompt, 7, SELF_FORCING) for prompt in range(20)
    ]


def test_the_pack_ships_twenty_prompts_of_its_own() -> None:
    prompts = PROMPTS.read_text(encoding="ascii").splitlines()
    assert len(set(prompts)) == 20 and min(map(len, prompts)) > 80


def test_within_the_trained_range_everything_is_read_and_past_it_uniform_21() -> None:
    fast, paper = (
        profiling_policy(protocol, 3, SELF_FORCING, chunks) for protocol, chunks in (("fast", 7), ("paper", 41))
    )
    assert fast.memory.recent == 21 and fast.warms_up(6, 18)
    assert (paper.memory.sink, paper.memory.recent, paper.memory.episodes) == (3, 15, 0)


@pytest.mark.parametrize("chunk_frames", [11, 20])
def test_a_chunk_too_long_to_measure_is_refused(chunk_frames: int) -> None:
    with pytest.raises(ValueError, match=f"chunk_frames is {chunk_frames}"):
        watched_chunks("fast", chunk_frames, 0, 0, SELF_FORCING)


FAST = {  # the chunks that lie in the last four sevenths of the range
    "longlive2": (2, 3),
    "lingbot_world_v2": (2, 3),
    "memflow": (2, 3),
    "aad_1": (3, 4),
    "lingbot_world": (3, 4, 5, 6),
    "streamdiffusion_v2": tuple(range(9, 21)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_chunks_to_measure(family: str) -> None:
    record = FAMILIES[family]
    n, trained, seconds = record.chunk_frames, record.trained_frames, 30 * record.fps
    fast = watched_chunks("fast", n, 0, 0, record)
    assert fast and fast == FAST.get(family, fast)
    assert n * fast[0] >= 3 * trained / 7 and trained - n < n * (fast[-1] + 1) <= trained
    full = profiling_policy("fast", n, record, fast[-1] + 1)
    assert all(full.warms_up(chunk, n * chunk) for chunk in fast)
    for prompt in range(5):
        paper = watched_chunks("paper", n, prompt, 1, record)
        assert len(set(paper)) == 3 <= paper[0] and 4 * n * paper[-1] < seconds
        widest = profiling_policy("paper", n, record, paper[-1] + 1)
        assert (widest.memory.sink, widest.memory.frames + n) == (record.window.sink, trained)


@pytest.mark.parametrize(
    ("family", "chunk_frames", "most"), [("longlive2", 31, 9), ("lingbot_world_v2", 15, 5), ("memflow", 7, 3)]
)
def test_what_is_too_long_for_a_family_is_told_by_its_own_range(family: str, chunk_frames: int, most: int) -> None:
    record = FAMILIES[family]
    told = rf"chunk_frames is {chunk_frames}\. Nothing .* within {record.trained_frames} .* chunk of 1 to {most} frames"
    with pytest.raises(ValueError, match=told):
        watched_chunks("fast", chunk_frames, 0, 0, record)
    for chunk in range(1, most + 1):
        assert watched_chunks("fast", chunk, 0, 0, record)


def test_queries_are_spread_over_frames_and_picture() -> None:
    picked = sample_queries(3, 1560, 256, 0)
    assert len(set(picked.tolist())) == len(picked) == 255
    assert [int(((picked // 1560) == frame).sum()) for frame in range(3)] == [85, 85, 85]
    gaps = picked[:85].diff()
    assert gaps.min() > 0 and gaps.max() < 2 * 1560 / 85 + 1
    assert torch.equal(sample_queries(3, 20, 256, 1), torch.arange(60))


def test_region_masses_equal_a_softmax_written_out() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(1, 7, 2, 8, generator=generator), torch.randn(1, 28, 2, 8, generator=generator)
    found = region_masses(q, k, (0, 1, 2, 5), 3, 3)
    weights = torch.einsum("bqhd,bkhd->hqk", q, k).mul(8**-0.5).softmax(-1).mean(1)
    expected = torch.stack(
        [weights[:, :12].sum(1), weights[:, 12:16].sum(1), weights[:, 16:].sum(1), weights[:, 12:16].sum(1)], dim=1
    )
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_recorder_keeps_a_few_numbers_a_head_and_no_tensor_of_attention() -> None:
    recorder = MassRecorder(layers=5, chunk_frames=3)
    recorder.begin((0, 1, 2, 3))
    for layer in range(5):
        recorder(layer, torch.randn(1, 12, 2, 8), torch.randn(1, 28, 2, 8))
    recorder.begin(None)
    recorder(0, torch.randn(1, 12, 2, 8), torch.randn(1, 28, 2, 8))
    assert [state.shape for state in recorder.states] == [(5, 2, 4)]
    assert recorder.masses().shape == (5, 2, 4)


def test_two_prompts_that_rank_heads_differently_are_not_reliable_and_two_alike_are() -> None:
    def recorded(other_seed: int) -> MassRecorder:
        recorder = MassRecorder(layers=6, chunk_frames=3)
        for prompt, seed in enumerate((1, other_seed)):
            masses = torch.rand(6, 12, 4, generator=torch.Generator().manual_seed(seed))
            for chunk in (3, 4, 5, 6):
                for step in range(4):
                    recorder.states.append(masses + 1e-4 * torch.rand(6, 12, 4) * (chunk + step))
                    recorder.sources.append((prompt, chunk))
        return recorder

    assert max(recorded(2).reliability().values()) < 0.5
    assert min(recorded(1).reliability().values()) > 0.95


@pytest.mark.parametrize("seed", [2**45, 2**63, 2**64 - 1])
def test_any_seed_of_the_widget_is_taken(seed: int) -> None:
    assert len(watched_chunks("paper", 3, 0, seed, SELF_FORCING)) == 3
    assert len(sample_queries(3, 1560, 256, seed)) == 255


def test_nothing_watched_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="No attention was measured"):
        MassRecorder(layers=5, chunk_frames=3).masses()


def test_rank_correlation_is_spearmans() -> None:
    up = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_correlation(up, up**3) == pytest.approx(1) and rank_correlation(up, -up) == pytest.approx(-1)
    assert rank_correlation(torch.tensor([1.0, 2, 2, 4]), torch.tensor([1.0, 3, 2, 4])) == pytest.approx(0.9486833)
    assert rank_correlation(up, torch.ones(5)) == 0
