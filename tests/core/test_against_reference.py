"""Any policy gives the same latents as the naive reference (method.md section 9, truth 2)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import pytest
import reference
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel

from headforcing_core.attention import dense_attention
from headforcing_core.cache import KVMemory
from headforcing_core.episodes import descriptor_layers
from headforcing_core.noise import NativeNoise, PerChunkNoise
from headforcing_core.policy import PRESETS, CachePolicy, Tiers, fit_policy
from headforcing_core.rollout import Chunk, RolloutPlan, Segment, capacities, rollout, warm_up_frames
from headforcing_core.rope import rotate

TRAINED = 21
TOLERANCE = 1e-5

MIXED = (
    ("local", "anchor", "memory", "memory"),
    ("memory", "memory", "memory", "memory"),
    ("anchor", "local", "local", "anchor"),
    ("memory", "local", "memory", "local"),
)
SCATTERED = (
    ("memory", "anchor", "memory", "anchor"),
    ("local", "local", "anchor", "local"),
    ("anchor", "memory", "local", "memory"),
    ("local", "local", "local", "local"),
)
NO_LOCAL = (
    ("anchor", "anchor", "memory", "memory"),
    ("memory", "anchor", "memory", "anchor"),
    ("memory", "memory", "memory", "anchor"),
    ("anchor", "anchor", "anchor", "anchor"),
)
NO_MEMORY = (("local", "anchor", "local", "anchor"),) * 4
ALL_MEMORY = (("memory",) * 4,) * 4


@dataclass(frozen=True)
class Case:
    """One rollout, for both sides. `prompts` are the first chunks of the segments."""

    rules: reference.Rules
    policy: CachePolicy
    chunk_frames: int
    chunks: int
    labels: tuple[tuple[str, ...], ...] = MIXED
    sigmas: tuple[float, ...] = (1.0, 0.8, 0.0)
    prompts: tuple[int, ...] = (0,)
    latent: tuple[int, int] = (8, 8)
    seed: int = 5
    noise: str = "per_chunk"
    head_dim: int = 24


def preset_case(name: str, rope: str, commit_context: str, chunk_frames: int, index: int) -> Case:
    chunks = {3: 30, 1: 60}[chunk_frames]
    if name == "full":
        chunks = chunks if rope == "absolute" else TRAINED // chunk_frames
    percentile = (60.0, 15.0)[index % 5 % 2]  # a low one fills the bank early, so that episodes are dropped
    return Case(
        rules=replace(reference.PRESETS[name], rope=rope, commit_context=commit_context, percentile=percentile),
        policy=replace(PRESETS[name], rope=rope, commit_context=commit_context, novelty_percentile=percentile),
        chunk_frames=chunk_frames,
        chunks=chunks,
        labels=(MIXED, SCATTERED, NO_LOCAL)[index % 3],
        latent=((8, 8), (8, 10), (12, 8))[index % 3],
        prompts=((0,), (0, 9, 14))[index % 2],
        seed=100 + index,
    )


COMBINATIONS = [
    (name, rope, ("full", "recent")[(i + j) % 2], (3, 1)[(i + j // 2) % 2])
    for (i, name), (j, rope) in product(enumerate(PRESETS), enumerate(("compact", "clamp", "tied", "absolute")))
]
PRESET_CASES = [
    pytest.param(preset_case(*combination, index), id="-".join(map(str, combination)))
    for index, combination in enumerate(COMBINATIONS)
]


Sizes = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
"(sink, episodes, recent) of local, anchor and memory heads."

PAPER: Sizes = ((0, 0, 1), (3, 0, 1), (3, 6, 6))


def own_case(
    sizes: Sizes,
    chunk_frames: int,
    chunks: int,
    rope: str = "compact",
    commit_context: str = "full",
    compress_from_chunk: int = -1,
    percentile: float = 60.0,
    trained_frames: int = TRAINED,
) -> Case:
    local, anchor, memory = (reference.Sizes(*size) for size in sizes)
    rules = reference.Rules(
        local, anchor, memory, rope, commit_context, compress_from_chunk, percentile, trained_frames
    )
    local, anchor, memory = (Tiers(*size) for size in sizes)
    policy = CachePolicy(
        "own", local, anchor, memory, rope, commit_context, compress_from_chunk, percentile, trained_frames
    )
    return Case(rules, policy, chunk_frames, chunks)


OWN_CASES = {
    "native noise": replace(own_case(PAPER, 3, 12), noise="native"),
    "four steps and heads of 128": replace(
        own_case(PAPER, 3, 12), sigmas=(1.0, 0.9375, 5 / 6, 0.625, 0.0), head_dim=128, latent=(6, 8)
    ),
    "one step": replace(own_case(PAPER, 3, 20), sigmas=(1.0, 0.0)),
    "chunks of two": replace(own_case(PAPER, 2, 30), prompts=(0, 11)),
    "chunks of five": own_case(((1, 0, 2), (2, 0, 4), (4, 3, 7)), 5, 14),
    "recent tiers that are no multiple of a chunk": own_case(((0, 0, 2), (2, 0, 5), (4, 5, 7)), 3, 30, rope="clamp"),
    "a recent tier shorter than a chunk": own_case(((1, 0, 1), (3, 0, 2), (2, 6, 1)), 3, 30),
    "no sink": own_case(((0, 0, 3), (0, 0, 4), (0, 5, 6)), 3, 30),
    "a sink longer than the warm-up": own_case(((0, 0, 1), (7, 0, 1), (8, 3, 2)), 3, 30, compress_from_chunk=1),
    "compression in between": own_case(PAPER, 3, 20, commit_context="recent", compress_from_chunk=4),
    "frame-wise, compressed at once": own_case(PAPER, 1, 60, commit_context="recent", compress_from_chunk=1),
    "a shorter trained range": own_case(((0, 0, 1), (2, 0, 2), (2, 2, 3)), 3, 25, trained_frames=12),
    "one episode": replace(own_case(((0, 0, 1), (3, 0, 1), (3, 1, 6)), 3, 30), prompts=(0, 8, 16)),
    "many prompts": replace(own_case(PAPER, 3, 40), prompts=(0, 6, 11, 16, 21, 26, 31)),
    "a low percentile": own_case(PAPER, 3, 40, percentile=10.0),
    "a high percentile": own_case(PAPER, 3, 40, percentile=95.0),
    "no memory heads anywhere": replace(own_case(PAPER, 3, 20), labels=NO_MEMORY),
    "only memory heads": replace(own_case(PAPER, 3, 25), labels=ALL_MEMORY),
}


def core(case: Case, model: TinyModel) -> list[Chunk]:
    fitted = fit_policy(case.policy, case.chunk_frames, TRAINED, case.chunks * case.chunk_frames)
    memory = KVMemory(
        case.labels,
        capacities(fitted, case.labels),
        warm_up_frames(fitted, case.chunks),
        case.chunk_frames,
        dense_attention,
        rotate,
        capture=descriptor_layers(model.layers),
    )
    segments = tuple(Segment(first, model.text(index)) for index, first in enumerate(case.prompts))
    plan = RolloutPlan(case.chunks, *case.latent, case.sigmas, segments)
    shape = (1, CHANNELS, case.chunk_frames, *case.latent)
    video = (1, CHANNELS, case.chunk_frames * case.chunks, *case.latent)
    noise = PerChunkNoise(case.seed, shape)
    if case.noise == "native":
        noise = NativeNoise(case.seed, video, case.chunk_frames)
    return list(rollout(CoreBackbone(model, memory), memory, plan, fitted, case.labels, noise, lambda *_: None))


def naive(case: Case, model: TinyModel, recorded: Mapping[int, bool]) -> list[reference.Made]:
    shape = (1, CHANNELS, case.chunk_frames, *case.latent)
    draw = reference.per_chunk_noise(case.seed, shape)
    if case.noise == "native":
        draw = reference.native_noise(case.seed, shape, case.chunks)
    texts = [(first, model.text(index)) for index, first in enumerate(case.prompts)]
    return reference.generate(
        model, case.rules, case.labels, case.chunks, case.chunk_frames, case.sigmas, texts, draw, recorded
    )


def compare(case: Case, dtype: torch.dtype = torch.float32) -> None:
    """First that both decide the same and lay the history out the same, then that they compute the same."""
    chunks = core(case, TinyModel(head_dim=case.head_dim))
    recorded = {decision.frame: decision.admitted for chunk in chunks for decision in chunk.decisions}
    made = naive(case, TinyModel(head_dim=case.head_dim, dtype=dtype), recorded)
    assert len(chunks) == len(made) == case.chunks

    for chunk, expected in zip(chunks, made, strict=True):
        got = [(d.frame, d.admitted, d.dropped) for d in chunk.decisions]
        assert got == [(v.frame, v.admitted, v.dropped) for v in expected.verdicts], f"chunk {chunk.index}"
        novelties = [number for d in chunk.decisions for number in (d.novelty, d.tau)]
        assert novelties == pytest.approx([x for v in expected.verdicts for x in (v.novelty, v.tau)], abs=1e-5)
        assert {kind: chunk.seen[kind] for kind in expected.seen} == expected.seen, f"chunk {chunk.index}"
    worst = max((c.latent - m.latent).abs().max().item() for c, m in zip(chunks, made, strict=True))
    assert worst <= TOLERANCE


def test_the_preset_cases_cover_every_pair_of_settings() -> None:
    values = [set(column) for column in zip(*COMBINATIONS, strict=True)]
    for a in range(4):
        for b in range(a):
            assert {(c[a], c[b]) for c in COMBINATIONS} == set(product(values[a], values[b]))


@pytest.mark.parametrize("case", PRESET_CASES)
def test_a_preset_gives_the_latents_of_the_naive_reference(case: Case) -> None:
    compare(case)


@pytest.mark.parametrize("name", OWN_CASES)
def test_an_own_policy_gives_the_latents_of_the_naive_reference(name: str) -> None:
    compare(OWN_CASES[name])


@pytest.mark.parametrize("name", ["paper", "low_vram", "uniform_21"])
def test_the_core_stays_within_rounding_of_a_float64_reference(name: str) -> None:
    compare(preset_case(name, "compact", "full", 3, 0), torch.float64)
