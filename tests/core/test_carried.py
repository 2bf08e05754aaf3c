"""Rollouts that go on from what another one held at its end equal one rollout of all their chunks, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend
from torch import Tensor

from headforcing_core.families.longlive2 import LONGLIVE2
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.carried_kv import CarriedKV
from headforcing_core.kv_memory.frame_slots import HeldFrames
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.carried import Carried
from headforcing_core.rollout.ended import ended_plan
from headforcing_core.rollout.episodes import Decision
from headforcing_core.rollout.loop import Chunk, Listeners, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment
from headforcing_core.rollout.recall import Choice

MODEL = TinyModel(layers=2, heads=3, head_dim=24)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
LATENT = (4, 6)
SHOTS = LONGLIVE2.shots
NOTHING = FinishedChunks()

Change = tuple[int, str, int]
"(first chunk, transition, chunks of a soft one)"


@dataclass(frozen=True)
class Film:
    """One video, to be made by one rollout or by several."""

    preset: str = "paper"
    n: int = 3
    chunks: int = 14
    changes: tuple[Change, ...] = ()
    prefix_frames: int = 0
    policy: CachePolicy | None = None
    has_shots: bool = False
    sigmas: tuple[float, ...] = (1.0, 0.6, 0.0)

    @property
    def segments(self) -> tuple[Segment[Tensor], ...]:
        later = [
            Segment(at, MODEL.text(number), how, soft, first_text=MODEL.text(99) if how == "shot" else None)
            for number, (at, how, soft) in enumerate(self.changes, 1)
        ]
        return (Segment(0, MODEL.text(0)), *later)

    @property
    def prefix(self) -> Tensor | None:
        shape = (1, CHANNELS, self.prefix_frames, *LATENT)
        return torch.randn(shape, generator=torch.Generator().manual_seed(3)) if self.prefix_frames else None


@dataclass(frozen=True)
class NoiseFrom:
    """The noise of a whole video, of which a rollout makes the chunks from `first` on."""

    of: PerChunkNoise
    first: int

    def initial(self, chunk: int) -> Tensor:
        return self.of.initial(self.first + chunk)

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        return self.of.fresh(self.first + chunk, step, like)


@dataclass
class Told:
    """What came of a video: its chunks, numbered through, and the passes that they took; the plan, of a part."""

    chunks: list[Chunk]
    passes: int
    carried: tuple[Carried[Tensor], CarriedKV] | None = None
    plan: RolloutPlan[Tensor] | None = None


def segments_of(film: Film, first: int, count: int) -> tuple[tuple[Segment[Tensor], ...], bool]:
    """The segments of some chunks by themselves, and whether one begins on the first of them."""
    begun = [each for each in film.segments if each.first_chunk <= first]
    later = [each for each in film.segments if first < each.first_chunk < first + count]
    return (
        tuple(replace(each, first_chunk=max(0, each.first_chunk - first)) for each in (begun[-1], *later)),
        begun[-1].first_chunk == first,
    )


def part(
    film: Film,
    first: int,
    count: int,
    past: tuple[Carried[Tensor], CarriedKV] | None,
    finished: FinishedChunks = NOTHING,
) -> Told:
    """Some chunks of a film, which go on from the past."""
    segments, changes = segments_of(film, first, count)
    frames = film.prefix_frames + film.n * (first + count)
    asked = film.policy or PRESETS[film.preset]
    shots = SHOTS if film.has_shots else None
    policy = fit_policy(asked, film.n, 21, frames, shots)
    plan = RolloutPlan(policy, count, *LATENT, film.sigmas, segments, blend, film.prefix, finished)
    if past is not None:
        plan = replace(plan, prefix=None, carried=past[0], changes_text=changes)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    if past is not None:
        memory.take_over(past[1])
    backbone = CoreBackbone(MODEL, memory)
    ends: list[tuple[Carried[Tensor], CarriedKV]] = []

    def end(carried: Carried[Tensor]) -> None:
        expected = memory.held_bytes
        handed = memory.hand_over()
        assert memory.held_bytes == 0
        lies = [each for layer in handed.layers for frames in layer.values() for each in frames.stored]
        assert expected == sum(each.nbytes for each in lies) == sum(each.untyped_storage().nbytes() for each in lies)
        ends.append((carried, handed))

    noise = NoiseFrom(PerChunkNoise(7, (1, CHANNELS, film.n, *LATENT)), first)
    there: list[Tensor] = []
    made: list[Chunk] = []
    for chunk in rollout(backbone, memory, replace(plan, read=there.__getitem__), noise, Listeners(on_end=end)):
        made.append(chunk)
        there.append(chunk.latent.clone())
    for latent in there:
        latent.zero_()  # as a LATENT is turned in place at the end: nothing of it is carried over
    return Told(made, backbone.passes, ends[0], plan)


def joined(film: Film, lengths: Sequence[int]) -> Told:
    """The film by several rollouts, as many chunks each. The K and V that go from one to the next come again of the
    chunks alone."""
    told, past, anew, first = Told([], 0), None, None, 0
    for count in lengths:
        one = part(film, first, count, past)
        told.chunks += one.chunks
        told.passes += one.passes
        past, anew, first = one.carried, made_anew(one, anew), first + count
        check_alike(anew, past[1])
    return told


def made_anew(told: Told, before: CarriedKV | None) -> CarriedKV:
    """K and V at the end of a part, over those of the parts before it, by a pass over each of its chunks."""
    assert told.plan is not None
    plan = ended_plan(told.plan, told.chunks)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    if before is not None:
        memory.take_over(before)
    ends: list[CarriedKV] = []
    hear = Listeners(on_end=lambda carried: ends.append(memory.hand_over()))
    backbone = CoreBackbone(MODEL, memory)
    no_noise = PerChunkNoise(0, (1, CHANNELS, 0, *LATENT))  # nothing is made
    again = list(rollout(backbone, memory, plan, no_noise, hear))
    assert all(torch.equal(one.latent, other.latent) for one, other in zip(again, told.chunks, strict=True))
    return ends[0]


def check_alike(kv: CarriedKV, other: CarriedKV) -> None:
    """The same frames, with the same numbers but for where keys stand by now: they are turned anew when they are read,
    from those that no position has."""
    held = {group: frames for group, frames in kv.held.items() if frames}
    assert held == {group: frames for group, frames in other.held.items() if frames}
    for layer, other_layer in zip(kv.layers, other.layers, strict=True):
        for group in held.keys() & other_layer.keys():
            assert all(map(torch.equal, unplaced(layer[group]), unplaced(other_layer[group])))


def unplaced(frames: HeldFrames) -> tuple[Tensor, ...]:
    if not frames.positions:
        return frames.stored
    k, v, unturned = frames.stored
    return k[..., unturned.shape[-1] :], v, unturned


def decisions(chunks: Sequence[Chunk]) -> list[Decision]:
    return [each for chunk in chunks for each in (*chunk.prefix_decisions, *chunk.decisions)]


def choices(chunks: Sequence[Chunk]) -> list[Choice | None]:
    return [chunk.choice for chunk in chunks]


def check(film: Film, *splits: Sequence[int]) -> list[Chunk]:
    whole = part(film, 0, film.chunks, None)
    for lengths in splits:
        assert sum(lengths) == film.chunks
        again = joined(film, lengths)
        for one, other in zip(whole.chunks, again.chunks, strict=True):
            assert torch.equal(one.latent, other.latent), (lengths, one.index)
            assert (one.frames, one.position, one.seen) == (other.frames, other.position, other.seen)
        assert decisions(whole.chunks) == decisions(again.chunks)
        assert choices(whole.chunks) == choices(again.chunks)
        assert whole.passes == again.passes
    return whole.chunks


@pytest.mark.parametrize("preset", [*PRESETS])
@pytest.mark.parametrize("n", [1, 3])
def test_every_preset_goes_on(preset: str, n: int) -> None:
    if preset == "full":
        check(Film(preset, n, 6 if n == 3 else 12), (2, 4) if n == 3 else (2, 3, 7))
        return
    chunks = 14 if n == 3 else 30
    check(Film(preset, n, chunks), (2, chunks - 2), (5, 4, chunks - 9))


JOINTS = [(how, soft) for how, soft in (("recache", 1), ("flush", 1), ("soft", 1), ("soft", 4), ("cut", 1))]


@pytest.mark.parametrize("preset", ["paper", "recall"])
@pytest.mark.parametrize(("how", "soft"), JOINTS)
def test_a_new_text_at_and_around_the_joint(preset: str, how: str, soft: int) -> None:
    """At it, on the chunk before, on the one after, and while another one still fades in."""
    for at in (8, 9, 10):
        check(Film(preset, chunks=13, changes=((3, "soft", 3), (at, how, soft))), (9, 4))
    check(Film(preset, chunks=13, changes=((7, "soft", 6), (8, how, soft), (11, "recache", 1))), (1, 8, 1, 3))


@pytest.mark.parametrize("preset", ["paper", "recall"])
@pytest.mark.parametrize("at", [7, 8, 9])
def test_a_shot_at_and_around_the_joint(preset: str, at: int) -> None:
    check(Film(preset, chunks=12, changes=((2, "shot", 1), (at, "shot", 1)), has_shots=True), (3, 5, 4), (8, 4))


@pytest.mark.parametrize("preset", ["paper", "low_vram", "recall", "tiny"])
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_what_was_there_before_the_first_chunk_stays_as_it_was_committed(preset: str, frames: int) -> None:
    """The chunks of a prefix do not begin on multiples of a chunk's frames."""
    check(Film(preset, chunks=11, changes=((6, "recache", 1),), prefix_frames=frames), (1, 5, 5), (4, 7))


@pytest.mark.parametrize("rope", ["absolute", "clamp", "tied"])
def test_positions_go_on(rope: str) -> None:
    policy = replace(PRESETS["paper"], rope=rope, episode_choice="recall" if rope == "clamp" else "novelty")
    check(Film(policy=policy, chunks=12, changes=((8, "recache", 1),)), (8, 4), (3, 5, 4))
    everything = replace(PRESETS["full"], rope="absolute")
    check(Film(policy=everything, chunks=9, changes=((5, "recache", 1),)), (5, 4))


def test_a_look_of_a_single_step_and_a_change_of_the_view() -> None:
    policy = replace(PRESETS["recall"], recall_share=0.0)
    made = check(Film(policy=policy, n=1, chunks=52, sigmas=(1.0, 0.0)), (15, 1, 36), (30, 22))
    assert sum(chunk.choice is not None for chunk in made) > 1


def test_the_part_that_goes_on_is_resumed_from_its_own_chunks() -> None:
    """Decisions and choices count on too: those of its first chunk hold those of the chunk before it."""
    for preset, n in (("paper", 1), ("recall", 3)):
        film = Film(preset, n, chunks=24, changes=((16, "flush", 1),))
        whole = part(film, 0, 24, None).chunks
        for done in (0, 1, 5, 14):
            later = part(film, 10, 14, part(film, 0, 10, None).carried).chunks
            finished = FinishedChunks(
                done,
                lambda chunk, later=later: later[chunk].latent,
                {each.frame: each for each in decisions(later[:done])},
                {number: chunk.choice for number, chunk in enumerate(later[:done]) if chunk.choice is not None},
            )
            again = part(film, 10, 14, part(film, 0, 10, None).carried, finished)
            assert all(torch.equal(a.latent, b.latent) for a, b in zip(again.chunks, whole[10:], strict=True))
            assert decisions(again.chunks) == decisions(later)


def test_what_was_decided_of_finished_chunks_is_not_decided_again() -> None:
    """As where the run was begun on another machine, which saw a hair more or less novelty."""
    film = Film(n=1, chunks=24)
    later = part(film, 10, 14, part(film, 0, 10, None).carried).chunks
    kept = {
        each.frame: replace(each, novelty=each.novelty / 2, admitted=False, dropped=None) for each in decisions(later)
    }
    finished = FinishedChunks(14, lambda chunk: later[chunk].latent, kept)
    again = part(film, 10, 14, part(film, 0, 10, None).carried, finished)
    assert any(each.admitted for each in decisions(later))
    assert decisions(again.chunks) == [*kept.values()]


def test_an_empty_memory_is_refused() -> None:
    carried = part(Film(), 0, 3, None).carried
    assert carried is not None
    with pytest.raises(ValueError, match="The KV memory is empty, but 6 frames are carried over"):
        part(Film(), 3, 3, (carried[0], CarriedKV({"every head": ()}, [])))
