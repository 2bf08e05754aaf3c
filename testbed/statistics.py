"""Means over seeds with bootstrap intervals, of the results that `evaluate` appends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

ABSENCES = {"3": (1, 5), "10": (6, 15), "21": (16, 30), "42": (31, 60), "84": (61, 10**6)}
"""Names of absences, and from how many frames to how many each stands for. After the first every policy still reads
frames that show what left: whoever fails there has forgotten nothing, it cannot read."""
GONE = 6
"""From so many frames on an absence counts as one."""
_DRAWS, _PERCENTILES = 4000, (2.5, 97.5)

Result = Mapping
"""One line of the results: policy, seed, measures, returns and more."""
Value = Callable[[Result], float | None]
"""A number of one video, None where it has none."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    seeds: int


def measured(name: str) -> Value:
    """A measure by its name."""
    return lambda result: result["measures"][name]


@dataclass(frozen=True)
class Which:
    """Some of the landmarks that came back: those that came back one way, that were in the first frames or not, of
    which a frame could be read or not. None: all."""

    way: str | None = None
    home: bool | None = None
    held: bool | None = None

    def of(self, result: Result) -> list[Mapping]:
        """Those of a video that were away long enough."""
        return [each for each in self.at_all(result) if each["absence"] >= GONE]

    def at_all(self, result: Result) -> list[Mapping]:
        """Those of a video after any absence."""
        wanted = [(name, value) for name, value in asdict(self).items() if value is not None]
        return [each for each in result["returns"] if all(each[name] == value for name, value in wanted)]


REMEMBERED = Which("place", home=False)
"""Places that the prompt returns to, and that no sink holds: what only memory can bring back."""


def recall(which: Which = REMEMBERED, absence: str | None = None) -> Value:
    """Share of these landmarks that came back in kind and colour, after all absences that count or one. Where none was
    clear before, none came back."""

    def value(result: Result) -> float | None:
        found = which.of(result)
        if absence is not None:
            shortest, longest = ABSENCES[absence]
            found = [each for each in which.at_all(result) if shortest <= each["absence"] <= longest]
        return _share([each["was"] is not None and each["came"] == each["was"] for each in found])

    return value


def by_chance(which: Which = REMEMBERED) -> Value:
    """What would come back right if every slot got the landmark that came back in another one."""

    def value(result: Result) -> float | None:
        gone, shares = which.of(result), []
        for each in gone:
            others = [other["came"] for other in gone if other["slot"] != each["slot"]]
            if others:
                shares.append(0 if each["was"] is None else sum(came == each["was"] for came in others) / len(others))
        return _share(shares)

    return value


def above_chance(which: Which = REMEMBERED) -> Value:
    """Recall over all absences that count, less what chance gives this video."""

    def value(result: Result) -> float | None:
        found, chance = recall(which)(result), by_chance(which)(result)
        return None if found is None or chance is None else found - chance

    return value


def asked(result: Result) -> float | None:
    """Share of the returns before which the landmark was clear."""
    return _share([each["was"] is not None for each in Which().of(result)])


def held(which: Which = REMEMBERED) -> Value:
    """Share of these landmarks of which a frame that shows them could be read."""
    return lambda result: _share([each["held"] for each in which.of(result)])


def check_comparable(results: Sequence[Result]) -> None:
    """ValueError for results of several models or lengths, or of one video twice."""
    kinds = {(each["model"], each["frames"]) for each in results}
    videos = [(each["policy"], each["seed"]) for each in results]
    again = len(videos) - len(set(videos))
    if len(kinds) > 1 or again:
        raise ValueError(
            f"The results hold {len(kinds)} kinds of model and length, and {again} videos more than once. "
            "Their mean would say nothing. Use files of one model and one length, each video in one of them."
        )


def mean_of(results: Sequence[Result], policy: str, value: Value) -> Interval | None:
    """The mean of a value over the seeds of a policy."""
    return interval([value(each) for each in results if each["policy"] == policy])


def difference(results: Sequence[Result], policy: str, other: str, value: Value) -> Interval | None:
    """The mean over seeds of how much more one policy has than another on the same seed."""
    both = (each for each in results if each["policy"] in (policy, other))
    found = {(each["policy"], each["seed"]): value(each) for each in both}
    seeds = sorted({seed for _, seed in found})
    pairs = [(found.get((policy, seed)), found.get((other, seed))) for seed in seeds]
    return interval([one - two for one, two in pairs if one is not None and two is not None])


def interval(values: Sequence[float | None]) -> Interval | None:
    """The mean of the values that there are, and its interval."""
    known: NDArray[np.float64] = np.array([value for value in values if value is not None], np.float64)
    if not known.size:
        return None
    low, high = np.percentile(known[_drawn(known.size)].mean(axis=1), _PERCENTILES)
    return Interval(float(known.mean()), float(low), float(high), known.size)


@cache
def _drawn(size: int) -> NDArray[np.int64]:
    """Which of so many values each draw takes."""
    return np.random.default_rng(0).integers(size, size=(_DRAWS, size))


def _share(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
