"""A window of chunks that is denoised at once gives the naive reference's latents, and goes on to the same bits."""

from dataclasses import replace

import pytest
import torch
from reference_solvers import Way
from side_by_side import Case, compare
from test_families_against_reference import rules_of
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend
from torch import Tensor

from headforcing_core.families.family import ROLLING
from headforcing_core.families.table import FAMILIES
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.family_presets import for_family
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers
from headforcing_core.rollout.loop import Chunk, Listeners, rollout
from headforcing_core.rollout.noise import Noise, PerChunkNoise, SplicedNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment

FAMILY = FAMILIES["rolling_forcing"]
N, LATENT = 3, (4, 6)
SHAPE = (1, CHANNELS, N, *LATENT)
MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
WAY = Way(FAMILY.steps.sigmas, solver=ROLLING)
NOTHING = FinishedChunks()


def met(preset: str, n: int = N, **changes: object) -> CachePolicy:
    """A preset as the family takes it."""
    return replace(for_family(PRESETS[preset], n, FAMILY), **changes)


@pytest.mark.parametrize(
    ("policy", "chunks", "changes", "prefix"),
    [
        (met("full", rope="absolute"), 7, ((3, "soft", 2),), 0),  # all history, and nothing re-encoded
        (met("uniform"), 8, ((4, "recache", 1),), 1),
        (met("paper"), 11, ((3, "flush", 1), (6, "soft", 1)), 0),
        (met("enhanced", rope="clamp"), 8, ((2, "cut", 1), (6, "recache", 1)), 7),
        (met("low_vram"), 8, ((5, "cut", 1),), 3),
        (met("paper").with_sizes({"memory_sink": 3, "memory_episodes": 0}), 14, (), 0),
        (met("recall"), 10, ((5, "recache", 1), (8, "soft", 1)), 1),
    ],
    ids=["full", "uniform", "paper", "enhanced", "low_vram", "sink", "recall"],
)
def test_a_window_gives_the_latents_of_the_naive_reference(
    policy: CachePolicy, chunks: int, changes: tuple[tuple[int, str, int], ...], prefix: int
) -> None:
    ahead = FAMILY.ahead(N)
    policy = replace(policy, trained_frames=FAMILY.trained_frames, novelty_percentile=15.0)
    rules = replace(rules_of(policy), trained_frames=FAMILY.trained_frames - ahead)
    if policy.keep_everything:
        rules = replace(rules, **{each: replace(rules.local, recent=10**6) for each in ("local", "anchor", "memory")})
    compare(Case(rules, policy, N, chunks, changes=changes, prefix_frames=prefix, way=WAY, ahead=ahead, latent=LATENT))


def test_single_frames_and_other_levels_roll_as_well() -> None:
    way = Way((1.0, 0.7, 0.4, 0.0), solver=ROLLING)
    policy = replace(PRESETS["low_vram"], trained_frames=21)
    rules = replace(rules_of(policy), trained_frames=19)
    compare(Case(rules, policy, 1, 14, changes=((11, "cut", 1),), way=way, ahead=2, latent=LATENT))


# What a run is made of


def made(
    chunks: int = 8,
    finished: FinishedChunks = NOTHING,
    policy: CachePolicy | None = None,
    cut: int = 5,
    noise: Noise | None = None,
    passes: list[int] | None = None,
    steps: list[tuple[int, int]] | None = None,
) -> list[Chunk]:
    segments = (Segment(0, MODEL.text(0)), Segment(3, MODEL.text(1)), Segment(cut, MODEL.text(2), "cut"))
    fitted = fit_policy(policy or met("paper"), N, 21, N * chunks, ahead=FAMILY.ahead(N))
    sigmas = FAMILY.steps.sigmas
    plan = RolloutPlan(fitted, chunks, *LATENT, sigmas, segments, blend, finished=finished, solver=ROLLING)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    backbone = CoreBackbone(MODEL, memory)
    heard: list[tuple[int, int]] = [] if steps is None else steps
    listeners = Listeners(lambda chunk, step, x0: heard.append((chunk, step)))
    found = list(rollout(backbone, memory, plan, noise or PerChunkNoise(1, SHAPE), listeners))
    if passes is not None:
        passes.append(backbone.passes)
    return found


def first(chunks: list[Chunk], count: int) -> FinishedChunks:
    def window(chunk: int) -> Tensor:
        kept = chunks[chunk].window
        assert kept is not None
        return kept.clone()

    decisions = {decision.frame: decision for chunk in chunks[:count] for decision in chunk.decisions}
    choices = {chunk.index: chunk.choice for chunk in chunks[:count] if chunk.choice is not None}
    return FinishedChunks(count, lambda chunk: chunks[chunk].latent, decisions, choices, window)


def same(one: list[Chunk], other: list[Chunk]) -> bool:
    return all(torch.equal(a.latent, b.latent) for a, b in zip(one, other, strict=True))


def test_a_chunk_takes_two_passes_and_a_window_that_fills_four_more() -> None:
    passes: list[int] = []
    steps: list[tuple[int, int]] = []
    whole = made(passes=passes, steps=steps)
    made(finished=first(whole, 4), passes=passes)
    made(finished=first(whole, 5), passes=passes)  # the next one is cut to
    assert passes == [2 * 8 - 1 + 4 + 4, 4 + 2 * 4 - 1 + 4, 5 + 2 * 3 - 1 + 4]
    filling = [(0, step) for step in range(5)]
    assert steps == [*filling, (1, 0), (2, 0), (3, 0), (4, 0), *((5, step) for step in range(5)), (6, 0), (7, 0)]


@pytest.mark.parametrize("policy", [met("paper"), met("recall"), met("tiny")], ids=["paper", "recall", "tiny"])
def test_a_run_goes_on_from_every_chunk_to_the_same_bits(policy: CachePolicy) -> None:
    whole = made(policy=policy)
    assert policy.memory == Tiers(0, 3, 3)
    assert not policy.recalls or any(chunk.choice and chunk.choice.frames for chunk in whole)
    for done in range(1, 9) if policy.kv_precision == "model" else (4, 7):
        assert same(whole, made(finished=first(whole, done), policy=policy)), done


def test_a_longer_run_equals_one_that_was_long_from_the_start() -> None:
    long = made(10)
    for short in (1, 3, 4, 6):
        assert same(long, made(10, first(made(short), short))), short


def test_a_window_keeps_to_the_trained_range() -> None:
    from_far = made(8, cut=7)
    assert all(chunk.position == 6 and chunk.window is not None for chunk in from_far)
    assert {chunk.window.shape[2] for chunk in from_far if chunk.window is not None} == {12}
    places = [place for chunk in from_far for seen in chunk.seen.values() for _, place, _ in seen]
    assert (min(places), max(places)) == (0, 5)


def test_a_new_seed_is_that_of_the_passes_from_its_chunk_on() -> None:
    """So what was made before stands, and a run whose last chunks are lost is made again to the same bits."""

    def spliced(chunk: int) -> int:
        return 1 if chunk < 3 else 2

    once = made(noise=SplicedNoise(spliced, SHAPE), cut=7)
    before = made(cut=7)
    assert same(once[:3], before[:3]) and not torch.equal(once[3].latent, before[3].latent)
    for done in (1, 2, 3, 5):
        assert same(once, made(finished=first(once, done), noise=SplicedNoise(spliced, SHAPE), cut=7)), done


def test_a_cut_leaves_nothing_of_the_window_and_a_new_text_leaves_it() -> None:
    one = made(cut=5)
    lost = replace(first(one, 5), window=lambda chunk: torch.full(SHAPE, float("nan")).repeat(1, 1, 4, 1, 1))
    assert same(one, made(cut=5, finished=lost))
    with pytest.raises(RuntimeError, match="Chunk 5 came out with NaN"):
        made(cut=7, finished=lost)


def test_nan_in_what_is_begun_ends_the_run_before_it_is_kept() -> None:
    class Bad(PerChunkNoise):
        def initial(self, chunk: int) -> Tensor:
            return super().initial(chunk) * (float("nan") if chunk == 6 else 1.0)

    with pytest.raises(RuntimeError, match="Chunk 2 came out with NaN"):
        made(noise=Bad(1, SHAPE))


def test_a_video_cannot_be_rolled_into_another() -> None:
    fitted = fit_policy(met("paper"), N, 21, N, ahead=FAMILY.ahead(N))
    segments = (Segment(0, MODEL.text(0)),)
    plan = RolloutPlan(fitted, 1, *LATENT, FAMILY.steps.sigmas, segments, solver=ROLLING, source=lambda chunk: SOURCE)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    with pytest.raises(ValueError, match="makes 5 chunks at once"):
        list(rollout(CoreBackbone(MODEL, memory), memory, plan, PerChunkNoise(1, SHAPE)))


SOURCE = torch.zeros(SHAPE)
