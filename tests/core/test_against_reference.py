"""Any policy, prompt change and prefix gives the same latents as the naive reference (method.md section 9, truth 2)."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

import pytest
import reference_tiers
import torch
from side_by_side import MIXED, TOLERANCE, TRAINED, Case, Change, compare, core, soft
from tiny_model import TinyModel

from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers

ROPES = ("compact", "clamp", "tied", "absolute")
CONTEXTS = ("full", "recent")
TRANSITIONS = ("recache", "flush", "soft", "cut")
PREFIXES = (0, 1, 7, 30)

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


# Presets


def preset_case(name: str, rope: str, commit_context: str, chunk_frames: int, index: int) -> Case:
    chunks = {3: 30, 1: 60}[chunk_frames]
    if name == "full":
        chunks = chunks if rope == "absolute" else TRAINED // chunk_frames
    percentile = (60.0, 15.0)[index % 5 % 2]  # a low one fills the bank early, so that episodes are dropped
    return Case(
        rules=replace(reference_tiers.PRESETS[name], rope=rope, commit_context=commit_context, percentile=percentile),
        policy=replace(PRESETS[name], rope=rope, commit_context=commit_context, novelty_percentile=percentile),
        chunk_frames=chunk_frames,
        chunks=chunks,
        labels=(MIXED, SCATTERED, NO_LOCAL)[index % 3],
        latent=((8, 8), (8, 10), (12, 8))[index % 3],
        changes=((), tuple(change for change in soft(9, 14) if change[0] < chunks))[index % 2],
        seed=100 + index,
    )


EXACT = [name for name, preset in PRESETS.items() if preset.kv_precision == "model"]
COMBINATIONS = [
    (name, rope, CONTEXTS[(i + j) % 2], (3, 1)[(i + j // 2) % 2])
    for (i, name), (j, rope) in product(enumerate(EXACT), enumerate(ROPES))
]
PRESET_CASES = [
    pytest.param(preset_case(*combination, index), id="-".join(map(str, combination)))
    for index, combination in enumerate(COMBINATIONS)
]


def test_the_preset_cases_cover_every_pair_of_settings() -> None:
    values = [set(column) for column in zip(*COMBINATIONS, strict=True)]
    for a in range(4):
        for b in range(a):
            assert {(c[a], c[b]) for c in COMBINATIONS} == set(product(values[a], values[b]))


@pytest.mark.parametrize("case", PRESET_CASES)
def test_a_preset_gives_the_latents_of_the_naive_reference(case: Case) -> None:
    compare(case)


@pytest.mark.parametrize("name", ["paper", "low_vram", "uniform_21"])
def test_the_core_stays_within_rounding_of_a_float64_reference(name: str) -> None:
    compare(preset_case(name, "compact", "full", 3, 0), torch.float64)


# Prompt changes and prefixes

Setting = tuple[str, str, str, str, int, int]
"(preset, rope, commit context, transition, chunk frames, prefix frames)"


def possible(setting: Setting) -> bool:
    """Without a cut at absolute positions, and without positions past the trained range."""
    preset, rope, _, transition, _, prefix = setting
    return not (rope == "absolute" and transition == "cut") and not (
        preset == "full" and rope != "absolute" and prefix > TRAINED // 2
    )


SETTINGS: list[Setting] = [
    setting for setting in product(EXACT, ROPES, CONTEXTS, TRANSITIONS, (3, 1), PREFIXES) if possible(setting)
]


def pairs(setting: Setting) -> set[tuple[int, int | str, int, int | str]]:
    return {(a, setting[a], b, setting[b]) for a, b in combinations(range(len(setting)), 2)}


def covering_every_pair(settings: list[Setting]) -> Iterator[Setting]:
    """Few settings that have every possible pair of values: each time the one that brings the most new pairs."""
    left = [(setting, pairs(setting)) for setting in settings]
    missing = set().union(*(found for _, found in left))
    while missing:
        setting, found = max(left, key=lambda each: len(each[1] & missing))
        missing -= found
        yield setting


def prompt_changes(case: Case, main: str, other: str, plan: int) -> tuple[Change, ...]:
    """Two to four prompt changes, most of them by `main`, of which those that the video has room for."""
    n = case.chunk_frames
    most = case.policy.memory.frames if case.policy.fills else TRAINED - n  # frames of which nothing is dropped yet
    at = max(3, -(-(most - case.prefix_frames + 1) // n))
    if case.policy.compress_from_chunk > 0 and not case.policy.fills:
        at = min(at, max(3, case.policy.compress_from_chunk))
    plans: list[list[Change]] = [
        # at chunk 1, as compression begins, long after
        [(1, main, 4), (at, other, 2), (at + 9, main, 3)],
        # in warm-up; a soft change that is interrupted
        [(2, main, 2), (at + 1, "soft", 5), (at + 3, main, 3), (at + 8, other, 2)],
        # one after the other, as compression begins
        [(at, main, 1), (at + 1, other, 3), (at + 2, main, 4)],
        # in warm-up after another; right after compression, twice
        [(1, other, 3), (at - 1, main, 4), (at + 1, main, 2), (at + 10, "recache", 1)],
        # far into the video, within reach of the chunks that are committed again
        [(at + 6, main, 4), (at + 6 + max(1, 4 // n), "recache", 1), (at + 7 + 4 // n, main, 1)],
    ]
    if case.chunks <= at:  # warm-up to the end
        plans = [[(1, main, 2), (2, other, 2), (3, main, 2)]]
    found: dict[int, Change] = {}
    for change in plans[plan % len(plans)]:
        if change[0] < case.chunks:
            found.setdefault(change[0], change)
    return tuple(found[first] for first in sorted(found))


def changing_case(setting: Setting, index: int) -> Case:
    preset, rope, commit_context, transition, chunk_frames, prefix_frames = setting
    case = preset_case(preset, rope, commit_context, chunk_frames, index)
    chunks = {3: 20, 1: 36}[chunk_frames]
    if preset == "full" and rope != "absolute":
        chunks = (TRAINED - prefix_frames) // chunk_frames
    latent = ((6, 8), (8, 6), (4, 10))[index % 3]
    case = replace(case, chunks=chunks, prefix_frames=prefix_frames, latent=latent)
    others = [other for other in TRANSITIONS if other != transition and (rope != "absolute" or other != "cut")]
    return replace(case, changes=prompt_changes(case, transition, others[index % len(others)], index))


CHANGING_CASES = [
    pytest.param(changing_case(setting, index), id="-".join(map(str, setting)))
    for index, setting in enumerate(covering_every_pair(SETTINGS))
]


@pytest.mark.parametrize("case", CHANGING_CASES)
def test_prompt_changes_give_the_latents_of_the_naive_reference(case: Case) -> None:
    compare(case)


@pytest.mark.full_product
@pytest.mark.parametrize("chunk_frames", [3, 1])
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("preset", EXACT)
def test_every_combination_gives_the_latents_of_the_naive_reference(
    preset: str, rope: str, transition: str, chunk_frames: int
) -> None:
    """To three times the tolerance: in a few of so many, the roundings of 36 chunks on both sides add up past it."""
    for index, setting in enumerate(SETTINGS):
        if (setting[0], setting[1], setting[3], setting[4]) == (preset, rope, transition, chunk_frames):
            compare(changing_case(setting, index), tolerance=3 * TOLERANCE)


# Policies of one's own

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
    local, anchor, memory = (reference_tiers.Sizes(*size) for size in sizes)
    rules = reference_tiers.Rules(
        local, anchor, memory, rope, commit_context, compress_from_chunk, percentile, trained_frames
    )
    local, anchor, memory = (Tiers(*size) for size in sizes)
    policy = CachePolicy(
        "own",
        local,
        anchor,
        memory,
        rope,
        commit_context,
        compress_from_chunk,
        percentile,
        trained_frames,
        episode="frame",
    )
    return Case(rules, policy, chunk_frames, chunks)


def whole(case: Case) -> Case:
    """The same with whole chunks for episodes."""
    return replace(case, rules=replace(case.rules, episode="chunk"), policy=replace(case.policy, episode="chunk"))


def recalling(case: Case, share: float = 0.2) -> Case:
    """The same with whole chunks that are recalled."""
    case, settings = whole(case), {"episode_choice": "recall", "recall_share": share}
    return replace(case, rules=replace(case.rules, **settings), policy=replace(case.policy, **settings))


def filling(case: Case, compress_from_chunk: int = 1) -> Case:
    """The same with nothing dropped, past an early warm-up, while it fits into the tiers."""
    settings = {"fills": True, "compress_from_chunk": compress_from_chunk}
    return replace(case, rules=replace(case.rules, **settings), policy=replace(case.policy, **settings))


EAGER = own_case(((0, 0, 1), (3, 0, 1), (0, 4, 1)), 1, 60, percentile=10.0)
ODD = own_case(((0, 0, 2), (2, 0, 5), (4, 5, 7)), 3, 30, rope="clamp", percentile=10.0)
FIVES = own_case(((1, 0, 2), (2, 0, 4), (4, 3, 7)), 5, 14, percentile=10.0)
SHORT = own_case(((1, 0, 1), (3, 0, 2), (2, 6, 1)), 3, 30, percentile=10.0)

OWN_CASES = {
    "native noise": replace(own_case(PAPER, 3, 12), noise="native"),
    "four steps and heads of 128": replace(
        own_case(PAPER, 3, 12), sigmas=(1.0, 0.9375, 5 / 6, 0.625, 0.0), head_dim=128, latent=(6, 8)
    ),
    "one step": replace(own_case(PAPER, 3, 20), sigmas=(1.0, 0.0)),
    "chunks of two": replace(own_case(PAPER, 2, 30), changes=soft(11)),
    "chunks of five": FIVES,
    "recent tiers that are no multiple of a chunk": ODD,
    "a recent tier shorter than a chunk": SHORT,
    "no sink": own_case(((0, 0, 3), (0, 0, 4), (0, 5, 6)), 3, 30),
    "a sink longer than the warm-up": own_case(((0, 0, 1), (7, 0, 1), (8, 3, 2)), 3, 30, compress_from_chunk=1),
    "compression in between": own_case(PAPER, 3, 20, commit_context="recent", compress_from_chunk=4),
    "frame-wise, compressed at once": own_case(PAPER, 1, 60, commit_context="recent", compress_from_chunk=1),
    "a shorter trained range": own_case(((0, 0, 1), (2, 0, 2), (2, 2, 3)), 3, 25, trained_frames=12),
    "one episode": replace(own_case(((0, 0, 1), (3, 0, 1), (3, 1, 6)), 3, 30), changes=soft(8, 16)),
    "many prompts": replace(own_case(PAPER, 3, 40), changes=soft(6, 11, 16, 21, 26, 31)),
    "a low percentile": own_case(PAPER, 3, 40, percentile=10.0),
    "a high percentile": own_case(PAPER, 3, 40, percentile=95.0),
    "no memory heads anywhere": replace(own_case(PAPER, 3, 20), labels=NO_MEMORY),
    "only memory heads": replace(own_case(PAPER, 3, 25), labels=ALL_MEMORY),
    "every kind of change": replace(
        own_case(PAPER, 3, 45, percentile=10.0),
        changes=((9, "recache", 1), (14, "soft", 3), (19, "recache", 1), (24, "flush", 1), (33, "soft", 2)),
    ),
    "episodes after a cut": replace(own_case(PAPER, 3, 45, percentile=10.0), changes=((12, "cut", 1), (28, "cut", 1))),
    "frame-wise episodes after a cut": replace(own_case(PAPER, 1, 80, percentile=10.0), changes=((30, "cut", 1),)),
    "whole chunks": whole(own_case(PAPER, 3, 40, percentile=10.0)),
    "whole chunks of an odd recent tier": whole(replace(ODD, changes=((8, "recache", 1), (13, "flush", 1)))),
    "whole chunks of five": whole(own_case(((1, 0, 2), (2, 0, 4), (2, 5, 6)), 5, 20, percentile=10.0)),
    "whole chunks of one": whole(own_case(PAPER, 1, 60, percentile=10.0)),
    "whole chunks through every kind of change": whole(
        replace(
            own_case(PAPER, 3, 60, percentile=10.0),
            changes=((9, "recache", 1), (14, "soft", 3), (19, "flush", 1), (33, "cut", 1), (46, "recache", 1)),
        )
    ),
    "whole chunks of two, of which a flush leaves one frame": whole(
        replace(own_case(PAPER, 2, 30, percentile=10.0), changes=((12, "flush", 1), (21, "flush", 1)))
    ),
    "whole chunks after a prefix": whole(replace(own_case(PAPER, 3, 30, percentile=10.0), prefix_frames=11)),
    "whole chunks past a short recent tier": whole(replace(SHORT, changes=((9, "recache", 1), (17, "recache", 1)))),
    "the clock of admissions across flushes": replace(EAGER, changes=((12, "flush", 1), (24, "flush", 1))),
    "the clock of admissions across cuts": replace(EAGER, changes=((12, "cut", 1), (24, "cut", 1))),
    "a candidate that a flush keeps": replace(
        own_case(PAPER, 1, 44, percentile=10.0), changes=((11, "flush", 1), (29, "flush", 1))
    ),
    "the second of two frames, kept by a flush": replace(own_case(PAPER, 2, 25), changes=((12, "flush", 1),)),
    "a sink that is cut while it grows": replace(
        own_case(((0, 0, 1), (7, 0, 1), (8, 3, 2)), 1, 40, percentile=10.0),
        changes=((3, "cut", 1), (6, "cut", 1), (9, "flush", 1), (24, "cut", 1), (26, "recache", 1)),
    ),
    "odd recent tiers made again": replace(ODD, changes=((8, "recache", 1), (13, "flush", 1), (14, "recache", 1))),
    "committing again past the recent tier": replace(
        FIVES, changes=((2, "recache", 1), (7, "recache", 1), (9, "cut", 1), (10, "recache", 1)), prefix_frames=8
    ),
    "episodes out of the chunks committed again": replace(SHORT, changes=((9, "recache", 1), (17, "recache", 1))),
    "a recent context that finds episodes": replace(
        own_case(PAPER, 1, 60, commit_context="recent", percentile=10.0),
        changes=((30, "recache", 1), (43, "recache", 1)),
    ),
    "committing the sink again, not what a flush dropped": replace(
        own_case(PAPER, 1, 16, compress_from_chunk=3), changes=((4, "flush", 1), (6, "flush", 1), (7, "recache", 1))
    ),
    "a remainder past the warm-up": replace(own_case(PAPER, 3, 12, rope="tied"), prefix_frames=32),
    "a remainder at clamped positions": replace(
        own_case(PAPER, 3, 12, rope="clamp"), prefix_frames=34, changes=((1, "recache", 1),)
    ),
    "compression that a prefix brings forward": replace(
        own_case(PAPER, 3, 15, compress_from_chunk=6), prefix_frames=7, changes=((3, "recache", 1), (4, "flush", 1))
    ),
}

RECALL_CASES = {
    "one prompt": recalling(own_case(PAPER, 3, 40)),
    "one prompt, all but the farthest": recalling(own_case(PAPER, 3, 40), share=0.95),
    "the most alike alone": recalling(replace(own_case(PAPER, 3, 30), changes=soft(8, 9, 14, 20)), share=0.0),
    "one step": recalling(
        replace(own_case(PAPER, 3, 24), sigmas=(1.0, 0.0), changes=((9, "recache", 1), (12, "cut", 1)))
    ),
    "two steps": recalling(replace(own_case(PAPER, 3, 24), sigmas=(1.0, 0.7, 0.0), changes=((9, "recache", 1),))),
    "room for one, early": recalling(
        replace(own_case(((0, 0, 1), (3, 0, 1), (3, 3, 3)), 3, 30, compress_from_chunk=1), changes=soft(5, 11))
    ),
    "room for three": recalling(
        replace(own_case(((0, 0, 1), (3, 0, 1), (3, 9, 5)), 3, 30), changes=((8, "recache", 1), (9, "recache", 1)))
    ),
    "chunks of two": recalling(replace(own_case(PAPER, 2, 40), changes=((13, "recache", 1), (21, "soft", 4)))),
    "chunks of five": recalling(
        replace(own_case(((1, 0, 2), (2, 0, 4), (4, 5, 7)), 5, 16), changes=((5, "recache", 1), (10, "flush", 1)))
    ),
    "odd tiers": recalling(replace(ODD, changes=((8, "recache", 1), (13, "flush", 1), (20, "cut", 1)))),
    "a recent tier shorter than a chunk": recalling(replace(SHORT, changes=((9, "recache", 1), (17, "recache", 1)))),
    "no sink": recalling(replace(own_case(((0, 0, 3), (0, 0, 4), (0, 6, 6)), 3, 30), changes=((11, "recache", 1),))),
    "a recent context": recalling(
        replace(own_case(PAPER, 3, 30, commit_context="recent"), changes=((10, "recache", 1), (15, "soft", 3)))
    ),
    "a fade that another one ends": recalling(
        replace(own_case(PAPER, 3, 30), changes=((9, "soft", 6), (12, "soft", 4), (20, "soft", 3)))
    ),
    "the remainder of a prefix": recalling(
        replace(own_case(PAPER, 3, 24), prefix_frames=11, changes=((7, "recache", 1), (15, "recache", 1)))
    ),
    "a long prefix": recalling(replace(own_case(PAPER, 3, 15), prefix_frames=40, changes=((6, "recache", 1),))),
    "only memory heads": recalling(replace(own_case(PAPER, 3, 25), labels=ALL_MEMORY, changes=soft(10, 16))),
    "anchor heads with more sink": recalling(
        replace(own_case(((0, 0, 1), (5, 0, 1), (1, 6, 3)), 3, 24, compress_from_chunk=1), changes=soft(*range(2, 22)))
    ),
    "anchor heads with more recent frames": recalling(
        replace(own_case(((0, 0, 2), (3, 0, 11), (2, 6, 3)), 3, 24, compress_from_chunk=1), changes=soft(*range(2, 22)))
    ),
    "frame-wise, with more sink elsewhere": recalling(
        replace(own_case(((2, 0, 1), (3, 0, 5), (0, 4, 2)), 1, 30, compress_from_chunk=1), changes=soft(*range(2, 28)))
    ),
    "a flush that ends the warm-up": recalling(
        replace(own_case(PAPER, 3, 30), changes=((4, "flush", 1), (6, "cut", 1), (16, "recache", 1)))
    ),
}
OWN_CASES |= {f"recall: {name}": case for name, case in RECALL_CASES.items()}

FILLING_CASES = {
    "paper": filling(own_case(PAPER, 3, 12, percentile=10.0)),
    "whole chunks": filling(whole(own_case(PAPER, 3, 12, percentile=10.0))),
    "room for no whole episode": filling(
        whole(replace(ODD, chunks=10, changes=((4, "recache", 1), (7, "recache", 1))))
    ),
    "a warm-up past all room": filling(own_case(((0, 0, 1), (2, 0, 2), (2, 2, 3)), 3, 10), 4),
    "as late as possible": filling(recalling(own_case(PAPER, 3, 10)), -1),
    "as late as possible, off the chunks": filling(replace(own_case(PAPER, 2, 12), prefix_frames=7), -1),
    "frame-wise": filling(own_case(PAPER, 1, 24, commit_context="recent", percentile=10.0), 3),
    "chunks of two": filling(recalling(replace(own_case(PAPER, 2, 12), changes=((3, "soft", 2), (8, "recache", 1))))),
    "chunks of four": filling(recalling(replace(own_case(((0, 0, 2), (3, 0, 6), (3, 8, 5)), 4, 8), changes=soft(6)))),
    "anchor heads with more room": filling(
        recalling(replace(own_case(((0, 0, 4), (3, 0, 14), (1, 6, 2)), 3, 10), changes=soft(*range(2, 9))))
    ),
    "made again while there is room": filling(
        recalling(replace(own_case(PAPER, 3, 10), changes=((2, "recache", 1), (5, "recache", 1), (6, "recache", 1))))
    ),
    "flushed while there is room": filling(
        recalling(replace(own_case(PAPER, 3, 13), changes=((3, "flush", 1), (8, "soft", 3), (11, "recache", 1))))
    ),
    "flushed after one frame": filling(replace(own_case(PAPER, 1, 20, percentile=10.0), changes=((1, "flush", 1),))),
    "cut while there is room": filling(
        recalling(replace(own_case(PAPER, 3, 13), changes=((4, "cut", 1), (7, "recache", 1), (9, "soft", 1))))
    ),
    "a start image": filling(recalling(replace(own_case(PAPER, 3, 10), prefix_frames=1, changes=((5, "recache", 1),)))),
    "a prefix that goes beyond warm-up": filling(
        recalling(replace(own_case(PAPER, 3, 9), prefix_frames=11, changes=((1, "recache", 1),))), 2
    ),
    "a long prefix": filling(recalling(replace(own_case(PAPER, 3, 9), prefix_frames=40, changes=((6, "flush", 1),)))),
    "one step": filling(recalling(replace(own_case(PAPER, 3, 9), sigmas=(1.0, 0.0), changes=((5, "soft", 3),)))),
}
OWN_CASES |= {f"filling: {name}": case for name, case in FILLING_CASES.items()}


@pytest.mark.parametrize("name", OWN_CASES)
def test_an_own_policy_gives_the_latents_of_the_naive_reference(name: str) -> None:
    compare(OWN_CASES[name])


def random_filling_case(seed: int) -> Case:
    """Any policy that fills, with any changes and prefix."""
    draw = random.Random(seed)
    n = draw.randint(1, 4)
    room = TRAINED - n
    recent = [draw.randint(1, room) for _ in range(3)]
    sink = [draw.randint(0, min(5, room - each)) for each in recent]
    episodes = draw.randint(0, room - sink[2] - recent[2])
    case = own_case(
        ((sink[0], 0, recent[0]), (sink[1], 0, recent[1]), (sink[2], episodes, recent[2])),
        n,
        40 // n,
        draw.choice(ROPES[:3]),
        draw.choice(CONTEXTS),
        percentile=draw.choice((10.0, 60.0)),
    )
    if episodes == 0 or episodes >= n:
        case = draw.choice((case, whole(case), recalling(case), recalling(case)))
    places = sorted(draw.sample(range(1, case.chunks), 4))
    changes = tuple((place, draw.choice(TRANSITIONS), draw.randint(1, 4)) for place in places)
    prefix = draw.choice((0, 0, 1, 2, 7, 30))
    start = draw.choice((-1, *range(1, room // n + 2)))
    return filling(replace(case, changes=changes, prefix_frames=prefix, seed=seed), start)


@pytest.mark.full_product
@pytest.mark.parametrize("seed", range(120))
def test_any_policy_that_fills_gives_the_latents_of_the_naive_reference(seed: int) -> None:
    compare(random_filling_case(seed), tolerance=3 * TOLERANCE)


def test_the_remainder_of_a_prefix_is_an_episode_as_short_as_it_is() -> None:
    case = OWN_CASES["whole chunks after a prefix"]  # of 11 frames
    last = core(case, TinyModel(head_dim=case.head_dim))[-1]
    episodes = [frame for frame, _, tier in last.seen["memory"] if tier == "episode"]
    assert episodes[:2] == [9, 10] and len(episodes) == 5


def test_a_film_of_one_prompt_chooses_anew_when_its_view_changes() -> None:
    chosen = {}
    for name in ("one prompt", "one prompt, all but the farthest"):
        case = RECALL_CASES[name]
        made = core(case, TinyModel(head_dim=case.head_dim))
        chosen[name] = [chunk.index for chunk in made if chunk.choice is not None]
    assert all(at[0] == 7 for at in chosen.values())  # the first chunk whose past is compressed
    later = [b - a for at in chosen.values() for a, b in itertools.pairwise(at)]
    assert later and min(later) >= 8  # 24 frames
