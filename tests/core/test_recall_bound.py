"""What recalling may cost is counted before a rollout, and never exceeded."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel, blend

from headforcing_core.families.family import FOUR_STEPS, Shots, Steps
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers
from headforcing_core.rollout.loop import Chunk, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment
from headforcing_core.rollout.recall import Choice
from headforcing_core.rollout.recall_bound import RecallBound, recall_bound

MODEL = TinyModel(layers=2, heads=2, head_dim=12)
LABELS = (("memory", "local"), ("anchor", "memory"))
SIZE, TRAINED = (4, 4), 21
RECALL = PRESETS["recall"]
LATE = replace(RECALL, compress_from_chunk=-1, fills=False)
SHOTS = Shots("", 3)
TWO_AND_A_PIN = replace(RECALL, memory=Tiers(3, 9, 6))
ONE_AND_NO_PIN = replace(RECALL, memory=Tiers(3, 3, 12))
Change = tuple[int, str, int]
"(first chunk, transition, chunks of a soft one)"


@dataclass(frozen=True)
class Film:
    """A plan in numbers."""

    policy: CachePolicy = RECALL
    chunk_frames: int = 3
    chunks: int = 16
    changes: tuple[Change, ...] = ()
    prefix_frames: int = 0
    sigmas: tuple[float, ...] = (1.0, 0.5, 0.0)
    first: Steps | None = None
    shots: Shots | None = None

    def plan(self) -> RolloutPlan[torch.Tensor]:
        n = self.chunk_frames
        changes = enumerate(self.changes, 1)
        segments = [Segment(first, MODEL.text(i), how, soft) for i, (first, how, soft) in changes]
        prefix = torch.randn(
            (1, CHANNELS, self.prefix_frames, *SIZE), generator=torch.Generator("cpu").manual_seed(self.chunks)
        )
        return RolloutPlan(
            fit_policy(self.policy, n, TRAINED, self.prefix_frames + self.chunks * n, self.shots),
            self.chunks,
            *SIZE,
            self.sigmas,
            (Segment(0, MODEL.text(0)), *segments),
            blend,
            prefix if self.prefix_frames else None,
            first=self.first,
        )


def bound_of(film: Film) -> RecallBound:
    """Its bound, which it must have."""
    bound = recall_bound(film.plan())
    assert bound is not None
    return bound


def made(film: Film, live: Change | None = None) -> tuple[list[Chunk], int]:
    """The film's chunks, and the passes that it took."""
    plan = film.plan()
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    backbone = CoreBackbone(MODEL, memory)
    noise = PerChunkNoise(1, (1, CHANNELS, film.chunk_frames, *SIZE))

    def typed(chunk: int) -> Segment[torch.Tensor] | None:
        return Segment(chunk, MODEL.text(99), *live[1:]) if live and chunk == live[0] else None

    return list(rollout(backbone, memory, plan, noise, live=typed)), backbone.passes


def choices(chunks: Sequence[Chunk]) -> list[Choice]:
    """Those that were made."""
    return [chunk.choice for chunk in chunks if chunk.choice is not None]


def with_shots(film: Film) -> Film:
    """The same of a model that was taught shots, which take over where a recache did."""
    changes = tuple((place, "shot" if how == "recache" else how, soft) for place, how, soft in film.changes)
    return replace(film, shots=Shots("", film.chunk_frames), changes=changes)


def random_film(seed: int) -> Film:
    """Any film that can be made."""
    draw = random.Random(seed)
    n = draw.choice((1, 1, 2, 3, 3, 4))
    policy = replace(
        RECALL,
        memory=Tiers(draw.choice((0, 1, 3)), draw.choice((n, 2 * n)), draw.choice((1, 3, 6))),
        compress_from_chunk=draw.choice((-1, 1, 3)),
        rope=draw.choice(("compact", "tied", "clamp")),
        commit_context=draw.choice(("full", "recent")),
        recall_share=draw.choice((0.0, 0.2, 0.9)),
        fills=draw.choice((False, True)),
    )
    chunks = draw.randint(1, 75 // n)
    places = draw.sample(range(1, chunks), min(draw.choice((0, 1, 2, 5)), chunks - 1))
    words = ("recache", "recache", "soft", "flush", "cut")
    changes = tuple((place, draw.choice(words), draw.choice((1, 2, 5))) for place in sorted(places))
    before, sigmas = draw.choice((0, 0, 1, 7, 25)), draw.choice(((1.0, 0.0), (1.0, 0.5, 0.0)))
    return Film(policy, n, chunks, changes, before, sigmas, FOUR_STEPS if seed % 3 == 0 else None)


def test_no_film_takes_more_than_its_bound_and_some_take_all_of_it() -> None:
    reached, reached_with_views, with_views = 0, 0, 0
    for film in [*map(random_film, range(40)), *(with_shots(random_film(seed)) for seed in range(40, 52))]:
        bound = bound_of(film)
        chunks, passes = made(film)
        found = choices(chunks)
        spent = sum(choice.passes for choice in found)
        assert spent <= bound.most, film
        assert passes - spent <= bound.made_anyway, film
        assert all(choice.passes <= bound.a_choice for choice in found)
        reached += spent == bound.most > 0
        reached_with_views += spent == bound.most and bound.views > 0
        with_views += bound.views > 0
    assert reached >= 5 and reached_with_views >= 3 and with_views >= 10, (reached, reached_with_views, with_views)


@pytest.mark.parametrize(
    ("film", "bound"),
    [
        # chunk 6 is the first one that does not fit into 15 frames: 3 candidates then. 16 chunks leave one look after 8
        # more
        (Film(), RecallBound(1, 2, 3, 16 * 3 - 1, 1, 3)),
        (Film(chunks=6), RecallBound(0, 0, 0, 6 * 3 - 1, 0, 3)),
        (Film(chunks=7), RecallBound(1, 2, 3, 7 * 3 - 1, 0, 3)),
        # one that does not fill begins with chunk 7
        (Film(LATE, chunks=7), RecallBound(0, 0, 0, 7 * 3 - 1, 0, 3)),
        (Film(LATE, chunks=8), RecallBound(1, 2, 3, 8 * 3 - 1, 0, 3)),
        # a change before that is not one: nothing is forgotten yet
        (Film(changes=((3, "recache", 1),)), RecallBound(1, 2, 3, 16 * 3 - 1 + 2, 1, 3)),
        (Film(changes=((10, "recache", 1),)), RecallBound(2, 4, 6, 16 * 3 - 1 + 2, 0, 3)),
        # a fade's choice comes when its text is whole; one that is overtaken has none
        (Film(changes=((8, "soft", 4),)), RecallBound(2, 4, 6, 16 * 3 - 1, 0, 3)),
        (Film(changes=((8, "soft", 4), (10, "soft", 9))), RecallBound(1, 2, 3, 16 * 3 - 1, 1, 3)),
        # a flush has nothing to look at; two chunks after it leave the recent tier of 6 frames with the fifth
        (Film(changes=((10, "flush", 1),)), RecallBound(1, 2, 3, 16 * 3 - 1, 0, 3)),
        (Film(changes=((10, "flush", 1), (13, "soft", 1))), RecallBound(1, 3, 4, 16 * 3 - 1, 0, 3)),
        (Film(changes=((2, "flush", 1),)), RecallBound(0, 0, 0, 16 * 3 - 1, 1, 3)),
        # a start image: the chunks stand one frame later, so that chunk 5 does not fit
        (Film(prefix_frames=1), RecallBound(1, 2, 3, 16 * 3, 1, 3)),
        (Film(prefix_frames=30, chunks=2), RecallBound(1, 2, 3, 10 + 2 * 3 - 1, 0, 3)),
        # one step only: it is made again with what was found
        (Film(sigmas=(1.0, 0.0)), RecallBound(1, 2, 4, 16 * 2 - 1, 1, 4)),
        # a first chunk in four steps, and one that recalls without being made again
        (Film(first=FOUR_STEPS), RecallBound(1, 2, 3, 16 * 3 - 1 + 2, 1, 3)),
        (Film(sigmas=(1.0, 0.0), first=FOUR_STEPS), RecallBound(1, 2, 4, 16 * 2 - 1 + 3, 1, 4)),
        (Film(prefix_frames=30, chunks=2, sigmas=(1.0, 0.0)), RecallBound(1, 2, 4, 10 + 2 * 2 - 1, 0, 4)),
        (
            Film(prefix_frames=30, chunks=2, sigmas=(1.0, 0.0), first=FOUR_STEPS),
            RecallBound(1, 2, 3, 10 + 2 * 2 - 1 + 3, 0, 4),
        ),
        # single frames: as many as there is room for
        (Film(chunk_frames=1, chunks=48), RecallBound(1, 6, 7, 48 * 3 - 1, 1, 7)),
        # of 4 frames: room for one of them, chunk 4 does not fit, and a view is looked for after 8 chunks
        (Film(chunk_frames=4, chunks=20), RecallBound(0, 1, 1, 20 * 3 - 1, 1, 2)),
        # a shot is a change; one before it is pinned and no candidate, but there are others
        (Film(changes=((10, "shot", 1),), shots=SHOTS), RecallBound(2, 4, 6, 16 * 3 - 1, 0, 3)),
        (Film(changes=((2, "flush", 1), (3, "shot", 1), (7, "shot", 1)), shots=SHOTS), RecallBound(1, 2, 3, 47, 1, 3)),
        # with room for three beside 6 recent frames there is room for two beside a pinned chunk, and for none of one
        (Film(TWO_AND_A_PIN, changes=((12, "shot", 1),), shots=SHOTS), RecallBound(2, 5, 7, 16 * 3 - 1, 0, 4)),
        (Film(ONE_AND_NO_PIN, changes=((12, "shot", 1),), shots=SHOTS), RecallBound(1, 1, 2, 16 * 3 - 1, 0, 2)),
        # one candidate needs no look
        (Film(replace(LATE, compress_from_chunk=4), chunks=5), RecallBound(0, 1, 1, 5 * 3 - 1, 0, 3)),
    ],
)
def test_a_bound_is_what_can_be_counted_by_hand(film: Film, bound: RecallBound) -> None:
    assert recall_bound(film.plan()) == bound


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.recalls])
def test_a_policy_that_recalls_nothing_has_no_bound(name: str) -> None:
    assert recall_bound(Film(PRESETS[name], chunks=7).plan()) is None


def test_without_room_for_episodes_there_is_no_bound() -> None:
    assert recall_bound(Film(replace(RECALL, memory=Tiers(3, 0, 6))).plan()) is None


@pytest.mark.parametrize("live", [(3, "flush", 1), (9, "recache", 1), (11, "soft", 2), (13, "cut", 1), (6, "soft", 1)])
def test_a_live_prompt_adds_no_more_than_a_choice(live: Change) -> None:
    film = Film()
    chunks, _ = made(film, live)
    bound = bound_of(film)
    assert sum(choice.passes for choice in choices(chunks)) <= bound.most + bound.a_choice


@pytest.mark.parametrize(
    "film",
    [
        Film(changes=((9, "flush", 1),)),
        Film(changes=((9, "cut", 1),)),
        Film(changes=((2, "flush", 1), (4, "soft", 1))),
        Film(replace(LATE, compress_from_chunk=1), chunks=6),
    ],
)
def test_a_recipe_of_one_step_goes_on_where_nothing_can_be_recalled(film: Film) -> None:
    chunks, passes = made(replace(film, sigmas=(1.0, 0.0)))
    empty = [choice for choice in choices(chunks) if not choice.candidates]
    assert empty and all((choice.frames, choice.passes) == ((), 0) for choice in empty)
    assert passes == 2 * len(chunks) - 1 + sum(choice.passes for choice in choices(chunks))


def test_ten_hours_of_changes_are_counted_at_once() -> None:
    film = Film(chunks=48_000, changes=tuple((8 + 160 * i, "recache", 1) for i in range(300)))
    bound = bound_of(film)
    assert (bound.looks, bound.loads, bound.passes) == (301, 602, 903)
