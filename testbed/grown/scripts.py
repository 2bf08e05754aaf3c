"""Training scripts of the grown world: a prompt for every chunk of a window.

As in the old world cameras turn back often and films return to a place, so that what left the view comes back within
the window. A stay is a stretch of chunks at one place; its words are drawn for it, other ones than for the stay before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from ..prompts import COLOURS, SHAPES, SKIES, SPEEDS, next_camera
from .words import CAMERAS, FOLLOWS, GROUNDS, HERE, PLACES, THINGS, VIEWS, GrownPrompt

_KINDS = {"plain": 0.45, "changing": 0.2, "ends": 0.2, "follows": 0.15}
_TRAVEL, _LONGEST_STAY, _LONGEST_PAN, _OTHER_CHANGE = 0.6, 4, 4, 0.3
PANS = CAMERAS[:2]


class Visits:
    """Draws the words of stays: of a place's things and grounds never those of the stay before."""

    def __init__(self, rng: Random) -> None:
        self._rng, self._last = rng, dict[str, tuple[str, str]]()

    def words(self, prompt: GrownPrompt, place: str) -> GrownPrompt:
        """The prompt at a place, in words for a new stay."""
        before = self._last.get(place, ("", ""))
        things, ground = (
            self._rng.choice([word for word in known[place] if word != said])
            for known, said in zip((THINGS, GROUNDS), before, strict=True)
        )
        self._last[place] = (things, ground)
        return replace(prompt, place=place, things=things, ground=ground)


def training_prompts(seed: int, chunks: int) -> list[GrownPrompt]:
    """A random script of one of the kinds, by chunk."""
    rng = Random(f"grown {seed}")
    visits = Visits(rng)
    places = rng.sample(PLACES, 3)
    words = {"shape": SHAPES, "colour": COLOURS, "speed": SPEEDS, "sky": SKIES}
    first = GrownPrompt(**{name: rng.choice(choices) for name, choices in words.items()})
    (kind,) = rng.choices([*_KINDS], [*_KINDS.values()])
    if kind == "follows":
        return [replace(visits.words(first, places[0]), camera=FOLLOWS)] * chunks
    stays = {"plain": _plain, "changing": _changing, "ends": _ends}[kind]
    prompts: list[GrownPrompt] = []
    for stay in stays(rng, visits, first, places):
        prompts += stay
        if len(prompts) >= chunks:
            break
    if rng.random() < _OTHER_CHANGE:
        start, name = rng.randrange(1, chunks), rng.choice([*words])
        word = rng.choice(words[name])
        prompts[start:] = [replace(each, **{name: word}) for each in prompts[start:]]
    return prompts[:chunks]


Stays = Iterator[Sequence[GrownPrompt]]


def _plain(rng: Random, visits: Visits, first: GrownPrompt, places: Sequence[str]) -> Stays:
    """Home and elsewhere by turns, or home alone; the camera goes as it likes."""
    cameras, home, *elsewhere = _cameras(rng), *places
    travels = rng.random() < _TRAVEL
    while True:
        for place in (home, rng.choice(elsewhere)) if travels else (home,):
            prompt = visits.words(first, place)
            length = rng.randint(1, _LONGEST_STAY) if travels else 100
            yield [replace(prompt, camera=next(cameras)) for _ in range(length)]


def _changing(rng: Random, visits: Visits, first: GrownPrompt, places: Sequence[str]) -> Stays:
    """A place with a still camera that is another at one of the returns, and as it then is from there on."""
    cameras, home, *elsewhere = _cameras(rng), *places
    changed, visit = rng.choice((1, 1, 2)), 0
    if rng.random() < 0.5:
        yield [replace(visits.words(first, rng.choice(elsewhere)), camera=next(cameras))]
    while True:
        yield [replace(visits.words(first, home), version=int(visit >= changed))] * rng.randint(1, 2)
        away = visits.words(first, rng.choice(elsewhere))
        yield [replace(away, camera=next(cameras)) for _ in range(rng.randint(1, 2))]
        visit += 1


def _ends(rng: Random, visits: Visits, first: GrownPrompt, places: Sequence[str]) -> Stays:
    """A place that is seen from its two ends, by a pan from one to the other or on two visits, and from between."""
    cameras, home, *elsewhere = _cameras(rng), *places
    ends, visit = rng.sample(("west", "east"), 2), 0
    while True:
        prompt = visits.words(first, home)
        if visit < 2 and rng.random() < 0.3:
            pan = replace(prompt, view=ends[0], camera=PANS[ends[0] == "west"])
            still = [replace(prompt, view=ends[0])] * rng.randint(0, 1)
            yield [*still, pan, pan, *[replace(prompt, view=ends[1])] * rng.randint(0, 1)]
        else:
            view = ends[visit] if visit < 2 else rng.choice([*VIEWS])
            yield [replace(prompt, view=view)] * rng.randint(1, 2)
        away = visits.words(first, rng.choice(elsewhere))
        yield [replace(away, view=HERE, camera=next(cameras)) for _ in range(rng.randint(1, 2))]
        visit += 1


def _cameras(rng: Random) -> Iterator[str]:
    camera = rng.choice(CAMERAS[:3])
    while True:
        yield from [camera] * rng.randint(1, _LONGEST_PAN)
        camera = next_camera(rng, camera)
