"""A run that recalls old chunks goes on from its own finished chunks: the choices are recorded, and made once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend
from torch import Tensor

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.loop import Chunk, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment
from headforcing_core.rollout.recall import Choice

MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
SEED, LATENT, SIGMAS = 4, (4, 6), (1.0, 0.6, 0.0)
STEPS = len(SIGMAS) - 1
CHANGES = {3: (7, 11), 1: (16, 24)}  # first chunks of the later scenes, by frames a chunk
CHUNKS, COMPRESSED = {3: 22, 1: 50}, {3: 4, 1: 12}
TRANSITIONS = ("recache", "flush", "soft", "cut")


@dataclass(frozen=True)
class Film:
    """A run: how it is made, its chunks, and the passes that it took."""

    transition: str
    chunk_frames: int
    prefix: Tensor | None
    sigmas: tuple[float, ...]
    chunks: list[Chunk]
    passes: int
    preset: str

    @property
    def choices(self) -> dict[int, Choice]:
        """What was chosen, by chunk."""
        return {chunk.index: chunk.choice for chunk in self.chunks if chunk.choice is not None}

    def first(self, count: int) -> FinishedChunks:
        """Its first chunks as finished ones."""
        choices = {chunk: choice for chunk, choice in self.choices.items() if chunk < count}
        return FinishedChunks(count, self.latent, {}, choices)

    def latent(self, chunk: int) -> Tensor:
        """A chunk."""
        return self.chunks[chunk].latent

    def again(self, finished: FinishedChunks) -> "Film":
        """Made again from finished chunks."""
        return made(self.transition, self.chunk_frames, finished, self.prefix, sigmas=self.sigmas, preset=self.preset)


def made(
    transition: str = "recache",
    chunk_frames: int = 3,
    finished: FinishedChunks | None = None,
    prefix: Tensor | None = None,
    chunks: int | None = None,
    read: Callable[[int], Tensor] | None = None,
    sigmas: tuple[float, ...] = SIGMAS,
    preset: str = "recall",
) -> Film:
    """Make a video of three scenes, the first and the last alike."""
    n, chunks = chunk_frames, chunks or CHUNKS[chunk_frames]
    later = [Segment(at, MODEL.text(1 - place), transition, 2) for place, at in enumerate(CHANGES[n])]
    frames = n * chunks + (0 if prefix is None else prefix.shape[2])
    policy = fit_policy(replace(PRESETS[preset], compress_from_chunk=COMPRESSED[n]), n, 21, frames)
    segments = (Segment(0, MODEL.text(0)), *later)
    plan = RolloutPlan(policy, chunks, *LATENT, sigmas, segments, blend, prefix, finished or FinishedChunks(), read)
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    backbone = CoreBackbone(MODEL, memory)
    noise = PerChunkNoise(SEED, (1, CHANNELS, n, *LATENT))
    return Film(transition, n, prefix, sigmas, list(rollout(backbone, memory, plan, noise)), backbone.passes, preset)


def prefix_of(frames: int) -> Tensor:
    """Finished frames."""
    return torch.randn(1, CHANNELS, frames, *LATENT, generator=torch.Generator().manual_seed(5))


def check_same(again: Film, film: Film) -> None:
    """The same video, read in the same way by the same choices."""
    for one, other in zip(again.chunks, film.chunks, strict=True):
        assert torch.equal(one.latent, other.latent), one.index
        assert (one.seen, one.choice) == (other.seen, other.choice)


def looks(choices: Mapping[int, Choice], before: int) -> int:
    """How many of the choices before a chunk took a look."""
    return sum(choice.candidates > 1 for chunk, choice in choices.items() if chunk < before)


def test_a_run_in_8_bits_goes_on_to_the_same_bits() -> None:
    film = made(preset="tiny")
    check_same(film.again(film.first(9)), film)
    assert not torch.equal(film.chunks[9].latent, made().chunks[9].latent)


@pytest.mark.parametrize("chunk_frames", [3, 1])
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_resumed_run_equals_an_unbroken_one_and_looks_at_no_finished_chunk(
    transition: str, chunk_frames: int
) -> None:
    film = made(transition, chunk_frames)
    assert len(film.choices) > 2 and any(choice.frames for choice in film.choices.values())
    settled = [*film.choices][1]
    for done in (settled, settled + 1, CHUNKS[chunk_frames] - 1):
        again = film.again(film.first(done))
        check_same(again, film)
        assert film.passes - again.passes == done * STEPS + looks(film.choices, done)


@pytest.mark.parametrize("chunk_frames", [3, 1])
def test_a_finished_run_can_be_made_longer(chunk_frames: int) -> None:
    """Its last chunk made a choice, though it was not committed."""
    chunks = CHANGES[chunk_frames][1] + 1
    short = made(chunk_frames=chunk_frames, chunks=chunks)
    assert short.chunks[-1].choice is not None
    check_same(made(chunk_frames=chunk_frames, finished=short.first(chunks)), made(chunk_frames=chunk_frames))


def test_an_only_step_that_was_made_again_is_left_out_too() -> None:
    film = made(sigmas=(1.0, 0.0))
    for done in (7, 8, 12):
        again = film.again(film.first(done))
        check_same(again, film)
        found = sum(bool(choice.frames) for chunk, choice in film.choices.items() if chunk < done)
        assert film.passes - again.passes == done + looks(film.choices, done) + found


@pytest.mark.parametrize("frames", [1, 13, 20])
def test_frames_that_were_there_before_are_recalled_again(frames: int) -> None:
    """The first frame alone, as of a start image, and a continued video with whole chunks and a part of one."""
    film = made(prefix=prefix_of(frames))
    recalled = {frame for choice in film.choices.values() for frame in choice.frames}
    assert any(3 <= frame < frames for frame in recalled) == (frames > 6) and max(recalled) >= frames
    for done in (5, 8, 12):
        check_same(film.again(film.first(done)), film)


def test_latents_may_be_read_from_where_they_are_kept() -> None:
    film, asked = made(), list[int]()

    def read(chunk: int) -> Tensor:
        asked.append(chunk)
        return film.latent(chunk)

    check_same(made(read=read), film)
    taken = [choice.passes - (choice.candidates > 1) for choice in film.choices.values()]
    assert len(asked) == sum(taken) > 2  # one for each chunk that is committed again


def test_recorded_choices_are_repeated_and_not_made_again() -> None:
    film = made()
    done = film.first(12)
    assert done.choices is not None
    other = Choice((3, 9), (0.5, 0.4), 8, 3, 0.1, 0.9)
    again = film.again(replace(done, choices={**done.choices, 11: other}))
    assert again.chunks[11].choice == other != film.choices[11]
    for chunk in again.chunks[11:14]:
        assert [frame for frame, _, tier in chunk.seen["memory"] if tier == "episode"] == [3, 4, 5, 9, 10, 11]
    assert not torch.equal(again.latent(12), film.latent(12))


@pytest.mark.parametrize("lost", [6, 7, 11])
def test_a_run_of_which_a_choice_is_lost_does_not_go_on_otherwise(lost: int) -> None:
    """The first, which no text calls for, and those of texts."""
    film = made()
    done = film.first(14)
    assert done.choices is not None and set(done.choices) == {6, 7, 11}
    kept = {chunk: choice for chunk, choice in done.choices.items() if chunk != lost}
    with pytest.raises(RuntimeError, match=f"What chunk {lost} recalled of the past is not recorded.*good copy"):
        film.again(replace(done, choices=kept))


def test_chunks_that_were_made_otherwise_recall_nothing_until_one_is_made() -> None:
    film = made()
    again = film.again(replace(film.first(14), choices=None))
    assert all(chunk.choice is None for chunk in again.chunks[:14]) and again.choices[14].frames


@pytest.mark.parametrize("frames", [(0,), (4,), (27,), (30,), (33,), (3000,), (3, 6, 9)])
def test_what_cannot_be_recalled_is_refused(frames: tuple[int, ...]) -> None:
    """In the sink, inside a chunk, in the recent frames, of a chunk to come, and more than there is room for."""
    film = made()
    done = film.first(12)
    assert done.choices is not None
    wrong = Choice(frames, (0.5,) * len(frames), 8, 2, 0.1, 0.9)
    with pytest.raises(ValueError, match=r"Chunk 11 is to recall .* frames \[.*at most 2 whole ones .*another run"):
        film.again(replace(done, choices={**done.choices, 11: wrong}))
