"""What holds for any policy and length (method.md sections 3 and 5)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import CHANNELS, CoreBackbone, TinyModel, wan_rotation
from torch import Tensor

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import EVERY_HEAD, KVMemory
from headforcing_core.kv_memory.memory_plan import FrameOfHead, MemoryPlan
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import EPISODE_CHOICES, EPISODES, KV_PRECISIONS, CachePolicy
from headforcing_core.policy.fitting import FittedPolicy, fit_policy
from headforcing_core.policy.head_types import HEAD_TYPES
from headforcing_core.policy.positions import ROPE_MODES
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers
from headforcing_core.rollout.loop import NOBODY, Chunk, Listeners, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment

TRAINED = 21
LATENT = (4, 6)
TOKENS = 6
MODEL = TinyModel(layers=2, heads=3)
FEW = settings(derandomize=True, deadline=None, max_examples=40)


@dataclass(frozen=True)
class Run:
    """A policy on the tiny model, for some chunks."""

    policy: CachePolicy
    chunk_frames: int
    chunks: int
    labels: tuple[tuple[str, ...], ...]
    prefix_frames: int = 0

    @property
    def fitted(self) -> FittedPolicy:
        frames = self.prefix_frames + self.chunk_frames * self.chunks
        return fit_policy(self.policy, self.chunk_frames, TRAINED, frames)

    @property
    def plan(self) -> RolloutPlan[Tensor]:
        prefix = torch.ones(1, CHANNELS, self.prefix_frames, *LATENT) if self.prefix_frames else None
        return RolloutPlan(self.fitted, self.chunks, *LATENT, (1.0, 0.0), (Segment(0, MODEL.text(0)),), prefix=prefix)


@st.composite
def tiers(draw: st.DrawFn, chunk_frames: int, episodes: bool) -> Tiers:
    room = TRAINED - chunk_frames
    recent = draw(st.integers(1, room))
    sink = draw(st.integers(0, min(6, room - recent)))
    return Tiers(sink, draw(st.integers(0, room - recent - sink)) if episodes else 0, recent)


@st.composite
def runs(draw: st.DrawFn, ropes: Sequence[str] = ROPE_MODES) -> Run:
    chunk_frames = draw(st.integers(1, 4))
    latest = (TRAINED - chunk_frames) // chunk_frames + 1
    memory = draw(tiers(chunk_frames, True))
    policy = CachePolicy(
        "drawn",
        draw(tiers(chunk_frames, False)),
        draw(tiers(chunk_frames, False)),
        memory,
        rope=draw(st.sampled_from(ropes)),
        commit_context=draw(st.sampled_from(["full", "recent"])),
        compress_from_chunk=draw(st.sampled_from([-1, *range(1, latest + 1)])),
        novelty_percentile=draw(st.sampled_from([10.0, 60.0])),
        episode="frame" if 0 < memory.episodes < chunk_frames else draw(st.sampled_from(EPISODES)),
    )
    label = st.sampled_from(HEAD_TYPES)
    labels = draw(st.tuples(*[st.tuples(*[label] * MODEL.heads)] * MODEL.layers))
    return Run(policy, chunk_frames, draw(st.integers(1, 60 // chunk_frames)), labels)


def memory_of(run: Run) -> KVMemory:
    return KVMemory(run.plan.memory_plan(run.labels), dense_attention, rotate)


def making(run: Run, memory: KVMemory, listeners: Listeners = NOBODY) -> Iterator[Chunk]:
    noise = PerChunkNoise(2, (1, CHANNELS, run.chunk_frames, *LATENT))
    return rollout(CoreBackbone(MODEL, memory), memory, run.plan, noise, listeners)


def made(run: Run) -> list[Chunk]:
    return list(making(run, memory_of(run)))


@FEW
@given(run=runs([rope for rope in ROPE_MODES if rope != "absolute"]))
def test_history_stands_1_to_20_frames_before_every_query(run: Run) -> None:
    for chunk in made(run):
        for seen in chunk.seen.values():
            distances = [chunk.position + j - place for j in range(run.chunk_frames) for _, place, _ in seen]
            assert all(1 <= distance <= TRAINED - 1 for distance in distances)


@FEW
@given(run=runs())
def test_recent_frames_are_read_at_their_true_distance(run: Run) -> None:
    for chunk in made(run):
        for seen in chunk.seen.values():
            recent = [(frame, place) for frame, place, tier in seen if tier == "recent"]
            assert all(chunk.position - place == chunk.frames[0] - frame for frame, place in recent)
            assert [frame for frame, _ in recent] == list(range(chunk.frames[0] - len(recent), chunk.frames[0]))


@FEW
@given(run=runs())
def test_no_head_sees_a_frame_twice(run: Run) -> None:
    for chunk in made(run):
        for seen in chunk.seen.values():
            frames = [frame for frame, _, _ in seen]
            assert frames == sorted(set(frames))
            assert all(frame < chunk.frames[0] for frame in frames)


@FEW
@given(run=runs())
def test_tiers_never_exceed_their_size(run: Run) -> None:
    for chunk in made(run)[run.fitted.compress_from_chunk :]:
        for head_type, seen in chunk.seen.items():
            found = [tier for _, _, tier in seen]
            size = run.policy.tiers(head_type)
            assert found.count("sink") <= size.sink
            assert found.count("episode") <= size.episodes
            assert found.count("recent") == min(size.recent, chunk.frames[0])


@FEW
@given(run=runs())
def test_every_committed_frame_is_recent_in_warm_up(run: Run) -> None:
    for chunk in made(run)[: run.fitted.compress_from_chunk]:
        for seen in chunk.seen.values():
            assert [(frame, tier) for frame, _, tier in seen] == [(f, "recent") for f in range(chunk.frames[0])]


@FEW
@given(run=runs())
def test_kv_bytes_are_constant_from_the_first_compressed_chunk(run: Run) -> None:
    found = {chunk.kv_bytes for chunk in made(run)[run.fitted.compress_from_chunk :]}
    frames = sum(run.policy.tiers(head_type).frames for layer in run.labels for head_type in layer)
    assert found <= {frames * TOKENS * MODEL.head_dim * 2 * torch.float32.itemsize}


@settings(derandomize=True, deadline=None, max_examples=12)
@given(run=runs())
def test_the_buffers_never_take_more_than_planned(run: Run) -> None:
    memory = memory_of(run)
    most = memory.plan.expected_bytes(FrameOfHead(TOKENS, MODEL.head_dim, torch.float32.itemsize))
    for _ in making(run, memory):
        assert 0 < memory.kv_bytes + memory.chunk_bytes <= most


def bytes_held(run: Run) -> list[int]:
    """What the buffers take at every step, after every chunk of the prefix, and after every other chunk."""
    memory, found = memory_of(run), []

    def look(*_: object) -> None:
        found.append(memory.kv_bytes + memory.chunk_bytes)

    for _ in making(run, memory, Listeners(look, look)):
        look()
    frame = FrameOfHead(TOKENS, MODEL.head_dim, torch.float32.itemsize)
    assert max(found) <= memory.plan.expected_bytes(frame)
    return found


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    run=runs(),
    prefix=st.sampled_from([0, 1, 2, 7, 24]),
    precision=st.sampled_from(KV_PRECISIONS),
    choice=st.sampled_from(EPISODE_CHOICES),
)
def test_what_fills_from_the_first_chunk_on_takes_no_more_than_ever_after(
    run: Run, prefix: int, precision: str, choice: str
) -> None:
    recalls = choice == "recall" and not 0 < run.policy.memory.episodes < run.chunk_frames
    policy = replace(
        run.policy,
        compress_from_chunk=1,
        fills=True,
        kv_precision=precision,
        episode="chunk" if recalls else run.policy.episode,
        episode_choice="recall" if recalls else "novelty",
    )
    run = replace(run, policy=policy, chunks=max(2, run.chunks), prefix_frames=prefix)
    found = bytes_held(run)
    planned = run.plan.memory_plan(run.labels)
    assert max(found) == found[-1] == planned.expected_bytes(FrameOfHead(TOKENS, MODEL.head_dim, 4))
    assert planned.warm_up_frames == 0


def test_what_does_not_fill_takes_more_at_first() -> None:
    """Otherwise the test above would prove nothing."""
    labels = (("memory", "memory", "local"), ("memory", "anchor", "local"))
    most = {name: bytes_held(Run(PRESETS[name], 3, 12, labels)) for name in ("paper", "recall", "tiny")}
    assert max(most["paper"]) > 1.3 * most["paper"][-1]
    assert max(most["recall"]) == most["recall"][-1] == most["paper"][-1]
    assert max(most["tiny"]) == most["tiny"][-1] < most["recall"][-1]


@FEW
@given(run=runs())
def test_the_memory_holds_what_the_next_chunk_sees(run: Run) -> None:
    memory = memory_of(run)
    held: dict[str, tuple[int, ...]] = {}
    for chunk in making(run, memory):
        for group, frames in held.items():
            for head_type in HEAD_TYPES if group == EVERY_HEAD else (group,):
                assert frames == tuple(frame for frame, _, _ in chunk.seen[head_type])
        held = {group: memory.held(group) for group in memory.groups}


@FEW
@given(run=runs(["absolute"]))
def test_modes_agree_while_nothing_has_been_evicted(run: Run) -> None:
    room = min(run.policy.tiers(head_type).sink + run.policy.tiers(head_type).recent for head_type in HEAD_TYPES)
    run = replace(run, chunks=room // run.chunk_frames + 1)
    absolute = made(run)
    for rope in ("compact", "clamp"):
        other = made(replace(run, policy=replace(run.policy, rope=rope)))
        for a, b in zip(absolute, other, strict=True):
            assert [frame for frame, _, _ in a.seen["memory"]] == list(range(a.frames[0]))
            assert torch.allclose(a.latent, b.latent, rtol=0, atol=1e-5)


@FEW
@given(run=runs())
def test_values_stay_finite_and_of_unit_size(run: Run) -> None:
    for chunk in made(run):
        assert 0.3 < chunk.latent.std() < 3


def attend_over(
    labels: Sequence[Sequence[str]], shift: int, seed: int, warm: bool, times: Sequence[int], steps: int = 0
) -> Tensor:
    """Five chunks of three frames straight through a KVMemory, every position moved by `shift`; all outputs of the
    passes that keep. Before each of those come `steps` passes of other numbers that keep nothing."""
    kept_frames = {"local": 1, "anchor": 4, "memory": 9}
    used = {label for layer in labels for label in layer}
    plan = MemoryPlan(labels, {name: kept_frames[name] for name in used}, 12 if warm else 0, 3)
    memory = KVMemory(plan, dense_attention, rotate)
    heads = len(labels[0])
    rotation = wan_rotation(times, 2, 3, 24)
    generator = torch.Generator("cpu").manual_seed(seed)
    outputs = []
    held: dict[str, list[int]] = {EVERY_HEAD: []}
    for chunk in range(5):
        own = range(3 * chunk, 3 * chunk + 3)
        history = {
            group: {frame: 18 + shift - len(frames) + rank for rank, frame in enumerate(frames)}
            for group, frames in held.items()
        }
        own_positions = [18 + shift + j for j in range(3)]
        for step in range(steps):
            memory.begin(own_positions, history, keeps=False)
            for layer in range(len(labels)):
                memory.attend(layer, *torch.full((3, 1, 18, heads, 24), 1.0 + step), rotation)
        memory.begin(own_positions, history)
        for layer in range(len(labels)):
            q, k, v = torch.randn(3, 1, 18, heads, 24, generator=generator)
            outputs.append(memory.attend(layer, q, k, v, rotation)[0])
        if warm and chunk < 3:
            held = {EVERY_HEAD: list(range(3 * chunk + 3))}
        else:
            held = {name: list(range(3 * chunk + 3))[-kept_frames[name] :] for name in used}
        memory.keep(held, own)
    return torch.stack(outputs)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    labels=st.lists(st.tuples(*[st.sampled_from(HEAD_TYPES)] * 3), min_size=1, max_size=3),
    shift=st.integers(-500, 2000),
    seed=st.integers(0, 1000),
    warm=st.booleans(),
)
def test_adding_a_constant_to_all_positions_changes_nothing(
    labels: list[tuple[str, ...]], shift: int, seed: int, warm: bool
) -> None:
    here = attend_over(labels, 0, seed, warm, range(3))
    there = attend_over(labels, shift, seed, warm, range(3))
    assert torch.allclose(here, there, rtol=0, atol=3e-5)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("labels", [[("memory",) * 3], [("local", "anchor", "memory"), ("memory", "memory", "local")]])
def test_passes_that_keep_nothing_leave_no_trace(labels: list[tuple[str, ...]], warm: bool, steps: int) -> None:
    """Frames are turned anew from what the pass that keeps has written."""
    alone = attend_over(labels, 0, 1, warm, range(3))
    assert torch.equal(attend_over(labels, 0, 1, warm, range(3), steps), alone)


def test_the_hosts_own_times_are_not_used() -> None:
    labels = [("local", "anchor", "memory")]
    assert torch.equal(attend_over(labels, 0, 1, True, range(3)), attend_over(labels, 0, 1, True, range(900, 903)))


def test_the_position_of_the_history_reaches_the_output() -> None:
    """Otherwise the two tests above would prove nothing."""
    run = Run(PRESETS["paper"], 3, 20, (("memory",) * 3, ("memory", "anchor", "local")))
    other = replace(run, policy=replace(run.policy, rope="tied"))
    assert (made(run)[-1].latent - made(other)[-1].latent).abs().max() > 0.01


@pytest.mark.parametrize("chunk_frames", [1, 3])
def test_sink_frames_survive_any_length(chunk_frames: int) -> None:
    run = Run(PRESETS["paper"], chunk_frames, 600 // chunk_frames, (("memory", "anchor", "local"),) * 2)
    last = made(run)[-1]
    for head_type in ("memory", "anchor"):
        assert [frame for frame, _, tier in last.seen[head_type] if tier == "sink"] == [0, 1, 2]
    assert [frame for frame, _, _ in last.seen["local"]] == [599 - chunk_frames]


def test_episodes_come_and_go() -> None:
    run = Run(PRESETS["paper"], 3, 80, (("memory",) * 3,) * 2)
    chunks = made(run)
    decisions = [decision for chunk in chunks for decision in chunk.decisions]
    assert [decision.frame for decision in decisions] == list(range(4, 232, 3))
    assert any(decision.dropped is not None for decision in decisions)
    assert 0.1 < sum(decision.admitted for decision in decisions) / len(decisions) < 0.6
    banks = {tuple(frame for frame, _, tier in chunk.seen["memory"] if tier == "episode") for chunk in chunks}
    assert len(banks) > 8
    assert max(map(len, banks)) == 6


CHANGES = {
    "local recent": {"local": Tiers(0, 0, 2)},
    "local sink": {"local": Tiers(1, 0, 1)},
    "anchor sink": {"anchor": Tiers(2, 0, 1)},
    "anchor recent": {"anchor": Tiers(3, 0, 2)},
    "memory sink": {"memory": Tiers(2, 6, 6)},
    "memory episodes": {"memory": Tiers(3, 3, 6)},
    "memory recent": {"memory": Tiers(3, 6, 5)},
    "rope": {"rope": "clamp"},
    "commit context": {"commit_context": "recent"},
    "compress from chunk": {"compress_from_chunk": 4},
    "percentile": {"novelty_percentile": 20.0},
    "episode": {"episode": "frame"},
    "trained frames": {"trained_frames": 18},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_video(name: str) -> None:
    run = Run(PRESETS["paper"], 3, 30, (("memory", "anchor", "local"), ("local", "memory", "anchor")))
    other = replace(run, policy=replace(run.policy, **CHANGES[name]))
    apart = [(a.latent - b.latent).abs().max().item() for a, b in zip(made(run), made(other), strict=True)]
    assert max(apart) > 0.01


def test_the_first_seconds_are_the_same_whatever_is_kept_later() -> None:
    run = Run(PRESETS["paper"], 3, 9, (("memory", "anchor", "local"), ("local", "memory", "anchor")))
    uniform = made(replace(run, policy=PRESETS["uniform_21"]))
    for name in ("paper", "enhanced", "max", "uniform"):
        other = made(replace(run, policy=PRESETS[name]))
        apart = [(a.latent - b.latent).abs().max().item() for a, b in zip(uniform, other, strict=True)]
        assert max(apart[:7]) == 0
        assert max(apart[7:]) > 0.01
