"""Prompt changes (method.md section 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend
from torch import Tensor
from torch.nn.functional import pad

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers
from headforcing_core.rollout.loop import Chunk, Recipe, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment

MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
LATENT = (4, 6)
TEXTS = tuple(MODEL.text(seed) for seed in range(4))  # of 2, 3, 4 and 2 tokens
TRANSITIONS = ("recache", "flush", "soft", "cut")


class Listening(CoreBackbone):
    """Keeps the text of every call."""

    texts: tuple[Tensor, ...] = ()

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: Tensor) -> Tensor:
        self.texts += (text,)
        return super().sample(recipe, noise, sigmas, text)


class Bench:
    """A rollout whose i-th change brings text i."""

    def __init__(
        self,
        chunks: int,
        *changes: tuple[int, str, int],
        n: int = 3,
        policy: CachePolicy = PRESETS["paper"],
        live: Mapping[int, Segment[Tensor]] | None = None,
    ) -> None:
        segments = [Segment(0, TEXTS[0])]
        segments += [Segment(first, TEXTS[i + 1], how, k) for i, (first, how, k) in enumerate(changes)]
        fitted = fit_policy(policy, n, 21, n * chunks)
        plan = RolloutPlan(fitted, chunks, *LATENT, (1.0, 0.8, 0.0), tuple(segments), blend)
        memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
        self.backbone = Listening(MODEL, memory)
        noise = PerChunkNoise(1, (1, CHANNELS, n, *LATENT))
        self.asked: list[int] = []

        def asking(chunk: int) -> Segment[Tensor] | None:
            self.asked.append(chunk)
            return (live or {}).get(chunk)

        self.rollout = rollout(self.backbone, memory, plan, noise, live=asking)

    def chunks(self) -> list[Chunk]:
        return list(self.rollout)


def frames(chunk: Chunk, head_type: str) -> list[int]:
    return [frame for frame, _, _ in chunk.seen[head_type]]


def apart(a: Chunk, b: Chunk) -> float:
    return (a.latent - b.latent).abs().max().item()


def padded(text: Tensor) -> Tensor:
    """To the length of the longest; zeros at the end say nothing."""
    return pad(text, (0, 0, 0, 4 - len(text)))


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(padded(a), padded(b))


# flush


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("frame", [3, 6, 21, 24, 45])
def test_a_flush_leaves_the_sink_and_exactly_the_last_frame(n: int, frame: int) -> None:
    chunk = Bench(frame // n + 1, (frame // n, "flush", 1), n=n).chunks()[-1]
    assert frames(chunk, "local") == [frame - 1]
    for head_type in ("anchor", "memory"):
        assert frames(chunk, head_type) == sorted({0, 1, 2, frame - 1})


def test_the_recent_tier_grows_again_after_a_flush() -> None:
    chunks = Bench(16, (12, "flush", 1)).chunks()
    found = [[frame for frame, _, tier in chunk.seen["memory"] if tier == "recent"] for chunk in chunks[12:]]
    assert found == [[35], [35, 36, 37, 38], list(range(36, 42)), list(range(39, 45))]


def test_no_episode_is_older_than_the_last_flush() -> None:
    chunks = Bench(30, (9, "recache", 1), (18, "flush", 1)).chunks()
    banks = [[frame for frame, _, tier in chunk.seen["memory"] if tier == "episode"] for chunk in chunks]
    assert banks[17]
    assert banks[18] == []
    assert banks[-1]
    assert min(frame for bank in banks[18:] for frame in bank) >= 53


def test_a_flush_starts_the_record_of_novelties_anew() -> None:
    chunks = Bench(30, (18, "flush", 1)).chunks()
    before = [decision for chunk in chunks[:18] for decision in chunk.decisions]
    after = [decision for chunk in chunks[18:] for decision in chunk.decisions]
    assert before[-1].tau > 0.03
    assert after[0].tau == 0.03
    assert after[0].frame >= 53


def test_the_frame_that_a_flush_keeps_is_judged_when_it_stops_being_recent() -> None:
    chunks = Bench(32, (23, "flush", 1), n=1).chunks()
    after = [(chunk.index, decision.frame) for chunk in chunks[23:] for decision in chunk.decisions]
    assert after == [(28, 22)]


# cut


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("frame", [3, 6, 21, 24, 45])
def test_after_a_cut_nothing_older_than_the_new_segment_is_seen_past_its_first_chunk(n: int, frame: int) -> None:
    first = frame // n
    chunks = Bench(first + 30 // n, (first, "cut", 1), (first + 2, "recache", 1), n=n).chunks()
    for chunk in chunks[first + 1 :]:
        for head_type in chunk.seen:
            assert min(frames(chunk, head_type)) >= frame


def test_the_first_frames_after_a_cut_become_the_sink() -> None:
    last = Bench(30, (12, "cut", 1)).chunks()[-1]
    for head_type in ("anchor", "memory"):
        assert [frame for frame, _, tier in last.seen[head_type] if tier == "sink"] == [36, 37, 38]


@pytest.mark.parametrize("n", [3, 1])
def test_history_stands_at_the_far_end_for_the_first_chunk_after_a_cut(n: int) -> None:
    chunks = Bench(36 // n + 2, (36 // n, "cut", 1), n=n).chunks()
    at_the_cut, following = chunks[-2:]
    assert [place for _, place, _ in at_the_cut.seen["memory"]] == [0, 1, 2, 3]
    assert [place for _, place, _ in at_the_cut.seen["local"]] == [0]
    assert [place for _, place, _ in following.seen["local"]] == [20 - n]
    assert at_the_cut.position == following.position == 21 - n


def test_a_cut_at_absolute_positions_is_refused_before_the_first_pass() -> None:
    bench = Bench(12, (3, "cut", 1), policy=replace(PRESETS["paper"], rope="absolute"))
    with pytest.raises(ValueError, match="absolute"):
        bench.chunks()
    assert bench.backbone.passes == 0


@pytest.mark.parametrize(("how", "admitted"), [("flush", False), ("cut", True)])
def test_a_flush_keeps_the_clock_of_admissions_and_a_cut_starts_it_anew(how: str, admitted: bool) -> None:
    """With nothing to compare with, only the spacing speaks against the candidate right after an admitted frame."""
    policy = replace(PRESETS["paper"], memory=Tiers(0, 4, 1))
    unbroken = [decision for chunk in Bench(30, n=1, policy=policy).chunks() for decision in chunk.decisions]
    last = [decision.frame for decision in unbroken if decision.admitted][1]
    chunks = Bench(last + 6, (last + 2, how, 1), n=1, policy=policy).chunks()
    following = next(decision for chunk in chunks for decision in chunk.decisions if decision.frame == last + 3)
    assert (following.novelty, following.admitted) == (1.0, admitted)


# recache


@pytest.mark.parametrize("first", [1, 4, 7, 8, 20])
def test_a_recache_leaves_the_frames_and_changes_what_follows(first: int) -> None:
    with_text_alone = Bench(first + 2, (first, "soft", 1)).chunks()
    recached = Bench(first + 2, (first, "recache", 1)).chunks()
    assert recached[first].seen == with_text_alone[first].seen
    for before, again in zip(with_text_alone[:first], recached[:first], strict=True):
        assert torch.equal(before.latent, again.latent)
    assert apart(recached[first], with_text_alone[first]) > 0.01


def test_a_recache_leaves_episodes_descriptors_and_clock() -> None:
    """The frames judged with the next two chunks were committed before the change."""
    for first in range(3, 20):
        with_text_alone = Bench(first + 3, (first, "soft", 1)).chunks()
        recached = Bench(first + 3, (first, "recache", 1)).chunks()
        assert recached[first].decisions == with_text_alone[first].decisions
        assert recached[first + 1].decisions == with_text_alone[first + 1].decisions
        assert recached[first + 2].seen == with_text_alone[first + 2].seen


@pytest.mark.parametrize(
    ("preset", "n", "again"), [("paper", 3, 2), ("paper", 1, 6), ("low_vram", 3, 1), ("max", 2, 3)]
)
def test_a_recache_commits_the_recent_chunks_again_under_the_new_text(preset: str, n: int, again: int) -> None:
    with_text_alone = Bench(20, (10, "soft", 1), n=n, policy=PRESETS[preset])
    recached = Bench(20, (10, "recache", 1), n=n, policy=PRESETS[preset])
    for bench in (with_text_alone, recached):
        bench.chunks()
    assert recached.backbone.passes - with_text_alone.backbone.passes == again
    assert not any(same(text, TEXTS[0]) for text in recached.backbone.texts[10:])


@pytest.mark.parametrize(
    ("how", "first", "after", "n", "again"),
    [
        ("cut", 10, 1, 3, 1),
        ("cut", 30, 1, 1, 1),
        ("cut", 30, 3, 1, 3),
        ("flush", 10, 1, 3, 2),  # of the chunk before the flush the last frame stays
        ("flush", 30, 1, 1, 2),
        ("flush", 6, 1, 1, 4),  # 1 and 2 are of the sink, 3 and 4 are not, 5 is the last frame
    ],
)
def test_a_recache_commits_no_chunk_again_that_is_dropped_at_once(
    how: str, first: int, after: int, n: int, again: int
) -> None:
    with_text_alone = Bench(first + after + 2, (first, how, 1), (first + after, "soft", 1), n=n)
    recached = Bench(first + after + 2, (first, how, 1), (first + after, "recache", 1), n=n)
    apart_by = [apart(a, b) for a, b in zip(with_text_alone.chunks(), recached.chunks(), strict=True)]
    assert apart_by[first + after - 1] == 0 < apart_by[first + after]
    assert recached.backbone.passes - with_text_alone.backbone.passes == again


# soft


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_a_soft_change_reaches_the_new_text_in_its_last_chunk(k: int) -> None:
    bench = Bench(14, (5, "soft", k))
    bench.chunks()
    texts = bench.backbone.texts
    assert all(same(text, TEXTS[0]) for text in texts[:5])
    for j in range(1, k):
        assert torch.allclose(texts[4 + j], blend(TEXTS[0], TEXTS[1], j / k), rtol=0, atol=1e-6)
    assert all(same(text, TEXTS[1]) for text in texts[4 + k :])


def test_a_soft_change_goes_on_from_the_blend_that_it_interrupts() -> None:
    bench = Bench(10, (3, "soft", 4), (5, "soft", 2))
    bench.chunks()
    halfway = blend(TEXTS[0], TEXTS[1], 0.5)
    assert torch.allclose(bench.backbone.texts[5], blend(halfway, TEXTS[2], 0.5), rtol=0, atol=1e-6)
    assert all(same(text, TEXTS[2]) for text in bench.backbone.texts[6:])


@pytest.mark.parametrize("how", ["recache", "flush", "cut"])
def test_any_other_change_ends_a_soft_one(how: str) -> None:
    bench = Bench(10, (3, "soft", 5), (5, how, 5))
    bench.chunks()
    assert all(same(text, TEXTS[2]) for text in bench.backbone.texts[5:])


def test_a_soft_change_leaves_the_history_alone() -> None:
    changed, unchanged = Bench(12, (10, "soft", 3)).chunks(), Bench(12).chunks()
    assert changed[10].seen == unchanged[10].seen
    assert changed[9].decisions == unchanged[9].decisions


# all of them


def first_text_shares(texts: Sequence[Tensor]) -> list[float]:
    """How much of the first text is in each, by least squares over the texts there are."""
    basis = torch.stack([padded(text).flatten() for text in TEXTS], dim=1)
    found = torch.stack([padded(text).flatten() for text in texts], dim=1)
    return torch.linalg.lstsq(basis, found).solution[0].tolist()


@pytest.mark.parametrize("how", TRANSITIONS)
def test_nothing_returns_to_the_first_prompt(how: str) -> None:
    bench = Bench(20, (4, how, 3), (6, "soft", 3), (12, how, 2))
    bench.chunks()
    shares = first_text_shares(bench.backbone.texts)
    assert shares == pytest.approx(sorted(shares, reverse=True), abs=1e-5)
    assert shares[:4] == pytest.approx([1.0] * 4, abs=1e-5)
    assert shares[9:] == pytest.approx([0.0] * len(shares[9:]), abs=1e-5)


@pytest.mark.parametrize("how", TRANSITIONS)
def test_what_is_remembered_does_not_grow_with_the_changes(how: str) -> None:
    chunks = Bench(24, (9, how, 1), (14, how, 1), (15, how, 1)).chunks()
    assert len({chunk.kv_bytes for chunk in chunks[8:]}) == 1


@pytest.mark.parametrize("how", TRANSITIONS)
def test_a_change_alters_nothing_before_it(how: str) -> None:
    for a, b in zip(Bench(9, (8, how, 1)).chunks()[:8], Bench(9).chunks()[:8], strict=True):
        assert torch.equal(a.latent, b.latent)


def test_every_transition_makes_another_video() -> None:
    made = [Bench(12, (9, how, 2)).chunks() for how in TRANSITIONS]
    for i, a in enumerate(made):
        assert all(apart(a[10], b[10]) > 0.01 for b in made[:i])


# live


@pytest.mark.parametrize("how", TRANSITIONS)
def test_a_live_segment_makes_what_a_plan_with_it_makes(how: str) -> None:
    planned = Bench(12, (5, how, 2), (9, "recache", 1)).chunks()
    bench = Bench(12, live={5: Segment(5, TEXTS[1], how, 2), 9: Segment(9, TEXTS[2], "recache", 1)})
    for made, wanted in zip(bench.chunks(), planned, strict=True):
        assert torch.equal(made.latent, wanted.latent)
        assert (made.seen, made.decisions) == (wanted.seen, wanted.decisions)
    assert bench.asked == list(range(1, 12))


def test_a_live_segment_lasts_until_the_next_scene_of_the_plan() -> None:
    bench = Bench(8, (6, "soft", 1), live={3: Segment(3, TEXTS[2])})
    bench.chunks()
    texts = [next(i for i, text in enumerate(TEXTS) if same(text, used)) for used in bench.backbone.texts]
    assert texts == [0, 0, 0, 2, 2, 2, 1, 1]


def test_a_live_cut_at_absolute_positions_ends_the_run() -> None:
    policy = replace(PRESETS["paper"], rope="absolute")
    bench = Bench(6, policy=policy, live={2: Segment(2, TEXTS[1], "cut")})
    assert next(bench.rollout).index == 0 and next(bench.rollout).index == 1
    with pytest.raises(ValueError, match="absolute"):
        next(bench.rollout)
