"""Shots: a gap, a text for the first chunk, which is pinned while the shot lasts (docs/method_decisions.md)."""

import random
from dataclasses import dataclass, field, replace

import pytest
import torch
from reference import per_chunk_noise
from side_by_side import TOLERANCE, TRAINED, Case, compare, core, first_text
from test_against_reference import CONTEXTS, PAPER, ROPES, Sizes, filling, own_case, recalling, whole
from test_prompt_changes import LABELS, Listening
from tiny_model import CHANNELS, TinyModel, blend, wan_rotation
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headforcing_core.families.family import Shots
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.memory_plan import FrameOfHead
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.head_types import HEAD_TYPES
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers
from headforcing_core.rollout.loop import Chunk, rollout
from headforcing_core.rollout.memory_size import plan_memory
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment

THREE, EIGHT = Shots("", 3), Shots("", 8)
UNIFORM = ((3, 0, 7),) * 3
PAPER_8 = ((0, 0, 3), (8, 0, 3), (8, 8, 8))
LOW_8 = ((0, 0, 1), (4, 0, 1), (4, 4, 8))
UNIFORM_8 = ((8, 0, 16),) * 3


def of_three(case: Case, *changes: tuple[int, str, int], prefix_frames: int = 0) -> Case:
    """A model of chunks of 3 that was taught shots 3 positions apart."""
    rules = replace(case.rules, gap=THREE.gap)
    return replace(case, rules=rules, shots=THREE, latent=(4, 6), changes=changes, prefix_frames=prefix_frames)


def of_eight(case: Case, *changes: tuple[int, str, int]) -> Case:
    """As LongLive-2.0: chunks of 8, 32 frames, and a gap of 8."""
    rules = replace(case.rules, gap=EIGHT.gap)
    return replace(case, rules=rules, shots=EIGHT, trained=32, latent=(4, 4), changes=changes)


def own_8(sizes: Sizes, rope: str = "compact", commit_context: str = "full", start: int = -1) -> Case:
    return own_case(sizes, 8, 12, rope, commit_context, start, 10.0, 32)


SEVERAL = ((3, "shot", 1), (6, "shot", 1), (7, "shot", 1))
CASES = {
    "paper of 3": of_three(whole(own_case(PAPER, 3, 22, percentile=10.0)), (9, "shot", 1), (16, "shot", 1)),
    "frames of 3, in warm-up": of_three(
        own_case(PAPER, 3, 18, percentile=10.0), (2, "shot", 1), (5, "shot", 1), (11, "shot", 1)
    ),
    "uniform of 3, cut and flushed": of_three(
        own_case(UNIFORM, 3, 20), (5, "shot", 1), (9, "cut", 1), (11, "shot", 1), (15, "flush", 1), (17, "shot", 1)
    ),
    "more recent frames than there is room for": of_three(
        own_case(((2, 0, 11), (3, 0, 15), (3, 5, 10)), 3, 18), (8, "shot", 1), (12, "shot", 1), (13, "recache", 1)
    ),
    "episodes give way": of_three(
        whole(own_case(((0, 0, 1), (3, 0, 1), (3, 9, 6)), 3, 21, percentile=10.0)), (14, "shot", 1), (18, "flush", 1)
    ),
    "clamped": of_three(own_case(PAPER, 3, 16, "clamp", percentile=10.0), (4, "shot", 1), (10, "shot", 1)),
    "tied, recent context": of_three(
        own_case(PAPER, 3, 16, "tied", "recent", percentile=10.0), (8, "shot", 1), (12, "recache", 1)
    ),
    "absolute": of_three(
        whole(own_case(PAPER, 3, 18, "absolute", percentile=10.0)), (5, "shot", 1), (9, "shot", 1), (11, "recache", 1)
    ),
    "after a prefix": of_three(
        own_case(PAPER, 3, 12, percentile=10.0), (1, "shot", 1), (7, "soft", 3), prefix_frames=11
    ),
    "chunks of one": of_three(own_case(PAPER, 1, 29, percentile=10.0), (22, "shot", 1), (25, "shot", 1)),
    "recalling": of_three(
        recalling(own_case(PAPER, 3, 24)), (9, "shot", 1), (13, "soft", 1), (17, "shot", 1), (19, "soft", 1)
    ),
    "recalling at absolute positions": of_three(
        recalling(own_case(PAPER, 3, 18, "absolute")), (8, "shot", 1), (12, "recache", 1), (15, "shot", 1)
    ),
    "recalling what fills, one step": replace(
        of_three(filling(recalling(own_case(PAPER, 3, 18))), (3, "shot", 1), (8, "shot", 1), (13, "flush", 1)),
        sigmas=(1.0, 0.0),
    ),
    "recalling less": of_three(
        recalling(own_case(((0, 0, 1), (3, 0, 1), (3, 9, 6)), 3, 20)), (10, "shot", 1), (15, "cut", 1)
    ),
    "paper of 8": of_eight(whole(own_8(PAPER_8)), *SEVERAL),
    "uniform of 8": of_eight(own_8(UNIFORM_8), (2, "shot", 1), (5, "shot", 1), (9, "flush", 1)),
    "little memory of 8": of_eight(own_8(LOW_8, start=1), (4, "shot", 1), (7, "cut", 1), (9, "shot", 1)),
    "recalling of 8": of_eight(filling(recalling(own_8(PAPER_8))), (5, "shot", 1), (8, "flush", 1)),
    "absolute of 8": of_eight(own_8(UNIFORM_8, "absolute"), (3, "shot", 1), (6, "shot", 1), (8, "recache", 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_shots_give_the_latents_of_the_naive_reference(name: str) -> None:
    compare(CASES[name])


def places(chunk: Chunk, head_type: str) -> list[tuple[str, range, range]]:
    """What a head type reads, in runs of one tier: the tier, its frames, where they stand."""
    runs: list[tuple[str, range, range]] = []
    for frame, place, tier in chunk.seen[head_type]:
        last = runs[-1] if runs else ("", range(0), range(0))
        if (tier, frame, place) == (last[0], last[1].stop, last[2].stop):
            runs[-1] = (tier, range(last[1].start, frame + 1), range(last[2].start, place + 1))
        else:
            runs.append((tier, range(frame, frame + 1), range(place, place + 1)))
    return runs


def test_a_shot_of_eight_reads_as_its_authors_do_within_32_frames() -> None:
    case = of_eight(own_8(UNIFORM_8), (5, "shot", 1), (10, "shot", 1))
    made = core(case, TinyModel(head_dim=12))
    assert {chunk.position for chunk in made} == {24}
    sink, pinned = range(8), range(40, 48)
    assert places(made[4], "local") == [("sink", sink, range(8)), ("recent", range(16, 32), range(8, 24))]
    first, second, third, fourth = (places(made[index], "local") for index in (5, 6, 7, 9))
    assert first == [("sink", sink, range(8)), ("recent", range(32, 40), range(8, 16))]  # and 16 to 23 is the gap
    assert second == [("sink", sink, range(8, 16)), ("recent", pinned, range(16, 24))]
    assert third == [
        ("sink", sink, range(8)),
        ("pinned", pinned, range(8, 16)),
        ("recent", range(48, 56), range(16, 24)),
    ]
    assert fourth[1:] == [("pinned", pinned, range(8, 16)), ("recent", range(64, 72), range(16, 24))]
    assert places(made[10], "local") == [("sink", sink, range(8)), ("recent", range(72, 80), range(8, 16))]
    assert places(made[11], "local")[1:] == [("recent", range(80, 88), range(16, 24))]


def test_a_cut_is_no_shot() -> None:
    case = of_eight(own_8(UNIFORM_8), (5, "cut", 1))
    made = core(case, TinyModel(head_dim=12))
    assert places(made[5], "local") == [("sink", range(8), range(8)), ("recent", range(39, 40), range(8, 9))]
    assert min(frame for chunk in made[6:] for frame, _, _ in chunk.seen["memory"]) == 40


def test_absolute_positions_move_on_at_every_shot_and_keep_what_they_were() -> None:
    case = CASES["absolute of 8"]  # shots at 3 and 6
    made = core(case, TinyModel(head_dim=12))
    assert [chunk.position for chunk in made] == [0, 8, 16, 32, 40, 48, 64, 72, 80, 88, 96, 104]
    assert made[3].seen["local"] == tuple((frame, frame, "recent") for frame in range(24))
    assert places(made[8], "memory") == [
        ("sink", range(8), range(8)),
        ("pinned", range(48, 56), range(64, 72)),
        ("recent", range(56, 64), range(72, 80)),
    ]


def test_what_a_shot_makes_without_dropping_anything_equals_a_whole_recompute() -> None:
    """Every pass sees all chunks before it passed anew, each under its own text, where it stood."""
    case = of_eight(own_8(UNIFORM_8, "absolute"), (2, "shot", 1))
    policy = replace(PRESETS["full"], rope="absolute")
    case = replace(case, policy=policy, chunks=4, head_dim=24)
    model = TinyModel()
    latents: list[Tensor] = []
    starts = (0, 8, 24, 32)
    shot = first_text("shot", 0, model)
    assert shot is not None
    texts = (model.text(0), model.text(0), shot, model.text(1))
    draw = per_chunk_noise(case.seed, case.chunk_shape)

    def seen(x: Tensor, sigma: float, number: int) -> Tensor:
        keys: list[list[Tensor]] = [[] for _ in range(model.layers)]
        values: list[list[Tensor]] = [[] for _ in range(model.layers)]

        def passed(x: Tensor, sigma: float, number: int) -> Tensor:
            rotation = wan_rotation(range(starts[number], starts[number] + 8), 2, 2, model.head_dim)

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys[layer].append(rotate(k, rotation))
                values[layer].append(v)
                past = (rotate(q, rotation), torch.cat(keys[layer], 1), torch.cat(values[layer], 1))
                q, k, v = (each.transpose(1, 2) for each in past)
                return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

            return model.clean(x, sigma, texts[number], attend)

        for earlier in range(number):
            passed(latents[earlier], 0.0, earlier)
        return passed(x, sigma, number)

    for number in range(4):
        x0 = seen(draw(number, 0, None), 1.0, number)
        latents.append(seen(0.2 * x0 + 0.8 * draw(number, 1, x0), 0.8, number))
    made = core(case, model)
    assert [chunk.position for chunk in made] == list(starts)
    assert max((chunk.latent - x).abs().max().item() for chunk, x in zip(made, latents, strict=True)) < 1e-5
    without = core(replace(case, shots=Shots("", 0)), model)
    assert (without[3].latent - latents[3]).abs().max() > 0.01


NOTHING = FinishedChunks()


@dataclass
class Film:
    """Chunks of 3 with shots at 3, 8 and 10 and a cut at 6, made from the first or on from finished ones."""

    policy: CachePolicy = PRESETS["paper"]
    shots: Shots | None = THREE
    texts: list[Tensor] = field(default_factory=list)
    passes: int = 0

    def made(self, finished: FinishedChunks = NOTHING, live: int | None = None) -> list[Chunk]:
        model = TinyModel(layers=2, heads=3)
        words = () if live else ((3, "shot"), (6, "cut"), (8, "shot"), (10, "shot"))
        segments = [Segment(0, model.text(0))]
        segments += [Segment(at, model.text(at), how, first_text=model.text(50 + at)) for at, how in words]
        policy = fit_policy(self.policy, 3, 21, 36, self.shots)
        plan = RolloutPlan(policy, 12, 4, 6, (1.0, 0.6, 0.0), tuple(segments), blend, finished=finished)
        memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
        listening = Listening(model, memory)
        shot = Segment(live or 0, model.text(1), "shot", first_text=model.text(2))
        noise = PerChunkNoise(1, (1, CHANNELS, 3, 4, 6))
        most, made = memory.plan.expected_bytes(FrameOfHead(6, model.head_dim, 4)), []
        try:
            for chunk in rollout(listening, memory, plan, noise, live=lambda at: shot if at == live else None):
                assert 0 < memory.kv_bytes + memory.chunk_bytes <= most
                made.append(chunk)
            return made
        finally:
            self.texts, self.passes = [*listening.texts], listening.passes


@pytest.mark.parametrize(("preset", "every"), [("paper", 1), ("recall", 1), ("tiny", 4)])
def test_a_run_of_shots_resumes_from_every_chunk(preset: str, every: int) -> None:
    film = Film(PRESETS[preset])
    whole_run = film.made()
    for done in range(1, 12, every):
        first = whole_run[:done]
        decisions = {each.frame: each for chunk in first for each in chunk.decisions}
        choices = {chunk.index: chunk.choice for chunk in first if chunk.choice is not None}
        again = film.made(FinishedChunks(done, lambda chunk: whole_run[chunk].latent, decisions, choices))
        for one, other in zip(whole_run, again, strict=True):
            assert torch.equal(one.latent, other.latent), done
            assert (one.seen, one.decisions, one.choice) == (other.seen, other.decisions, other.choice)


@pytest.mark.parametrize("finished", [0, 5, 12])
def test_the_first_chunk_alone_is_made_and_committed_under_the_text_of_a_shot(finished: int) -> None:
    film, model = Film(), TinyModel(layers=2, heads=3)
    made = film.made()
    film.made(FinishedChunks(finished, lambda chunk: made[chunk].latent))
    calls = [0, 0, 0, 53, 3, 3, 6, 6, 58, 8, 60, 10]  # the text of a cut's first chunk is its own
    assert len(film.texts) == 12 - (finished == 12)
    for text, seed in zip(film.texts, calls, strict=False):
        assert torch.equal(text, model.text(seed)) or seed == 6


def test_a_live_shot_is_made_as_a_planned_one() -> None:
    film, model = Film(), TinyModel(layers=2, heads=3)
    made = film.made(live=5)
    assert torch.equal(film.texts[5], model.text(2)) and torch.equal(film.texts[6], model.text(1))
    assert [tier for _, _, tier in made[9].seen["anchor"]] == ["sink"] * 3 + ["pinned"] * 3 + ["recent"]


@pytest.mark.parametrize(
    ("policy", "shots", "told"),
    [
        (PRESETS["paper"], None, "by shot, but this model's family was never taught.* Use cut"),
        (
            replace(PRESETS["paper"], anchor=Tiers(15, 0, 1)),
            THREE,
            "anchor heads have no room.*22 frames.*sink by 1",
        ),
        (PRESETS["paper"], Shots("", 15), "anchor heads have no room .*gap of 15 or a pinned chunk of 3.*sink by 1"),
        (PRESETS["uniform_21"], Shots("", 18), "local heads have no room.*sink by 4|Use a shorter chunk"),
    ],
)
def test_a_shot_that_cannot_be_is_refused_before_the_first_pass(
    policy: CachePolicy, shots: Shots | None, told: str
) -> None:
    for live in (None, 2):
        film = Film(policy, shots)
        with pytest.raises(ValueError, match=told):
            film.made(live=live)
        assert film.passes == (0 if live is None else 6)


@pytest.mark.parametrize(
    ("sizes", "n", "trained", "without", "planned"),
    [
        (PAPER, 3, 21, (1, 4, 15), (1, 7, 18)),
        (((0, 0, 1), (3, 0, 1), (3, 9, 6)), 3, 21, (1, 4, 18), (1, 7, 18)),
        (UNIFORM, 3, 21, (10, 10, 10), (13, 13, 13)),
        (PAPER_8, 8, 32, (3, 11, 24), (3, 19, 24)),
        (LOW_8, 8, 32, (1, 5, 16), (1, 13, 24)),
        (UNIFORM_8, 8, 32, (24, 24, 24), (24, 24, 24)),
    ],
)
def test_memory_is_planned_for_a_pinned_chunk_where_there_can_be_one(
    sizes: Sizes, n: int, trained: int, without: tuple[int, ...], planned: tuple[int, ...]
) -> None:
    case = own_case(sizes, n, 12, trained_frames=trained)
    policy = (case if sizes == LOW_8 else whole(case)).policy
    for shots, frames in ((None, without), (Shots("", n), planned)):
        capacity = plan_memory(fit_policy(policy, n, trained, 12 * n, shots), [HEAD_TYPES], 12).capacity
        assert capacity == dict(zip(HEAD_TYPES, frames, strict=True))


def random_case(seed: int) -> Case:
    """Any policy that leaves room for shots, with several of them among other changes."""
    draw = random.Random(seed)
    n, gap = draw.randint(1, 4), draw.randint(0, 5)
    room = TRAINED - n - max(n, gap)
    sink = [draw.randint(0, min(6, room - 1)) for _ in HEAD_TYPES]
    recent = [draw.randint(1, TRAINED - n - each) for each in sink]
    episodes = draw.randint(0, TRAINED - n - sink[2] - recent[2])
    rope = draw.choice(ROPES)
    case = own_case(
        ((sink[0], 0, recent[0]), (sink[1], 0, recent[1]), (sink[2], episodes, recent[2])),
        n,
        36 // n,
        rope,
        draw.choice(CONTEXTS),
        draw.choice((-1, 1, 2)),
        draw.choice((10.0, 60.0)),
    )
    if episodes == 0 or episodes >= n:
        case = draw.choice((case, whole(case), recalling(case), recalling(case)))
    if draw.random() < 0.3:
        case = filling(case)
    words = ("shot", "shot", "shot", "recache", "flush", "soft", *(("cut",) if rope != "absolute" else ()))
    places = sorted(draw.sample(range(1, case.chunks), 5))
    changes = tuple((place, draw.choice(words), draw.randint(1, 3)) for place in places)
    rules = replace(case.rules, gap=gap)
    prefix = draw.choice((0, 0, 1, 7))
    return replace(
        case, rules=rules, shots=Shots("", gap), latent=(4, 4), changes=changes, prefix_frames=prefix, seed=seed
    )


def check_case(case: Case) -> None:
    """The latents of the reference; tiers in time order within the trained range."""
    compare(case, tolerance=3 * TOLERANCE)
    starts = [first for first, how, _ in case.changes if how == "shot"]
    for chunk in core(case, TinyModel(head_dim=12)):
        for seen in chunk.seen.values():
            frames = [frame for frame, _, _ in seen]
            assert frames == sorted(set(frames))
            stand = [place for _, place, _ in seen]
            assert stand == sorted(stand)
            if case.policy.rope != "absolute":
                gap = case.shots.gap if case.shots and chunk.index in starts else 0
                assert all(0 <= place < chunk.position - gap for place in stand)


@pytest.mark.parametrize("seed", range(6))
def test_shots_among_any_changes_under_any_policy(seed: int) -> None:
    check_case(random_case(seed))


@pytest.mark.full_product
@pytest.mark.parametrize("seed", range(6, 200))
def test_many_shots_among_any_changes_under_any_policy(seed: int) -> None:
    check_case(random_case(seed))
