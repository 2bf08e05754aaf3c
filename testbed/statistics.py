"""Means over seeds with bootstrap intervals, of the results that `evaluate` appends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABSENCES = {"10": (6, 15), "21": (16, 30), "42": (31, 60), "84": (61, 10**6)}
"""Names of absences, and from how many frames to how many each stands for."""
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


def recall(absence: str) -> Value:
    """Share of the landmarks absent for so long that came back in kind and colour."""
    shortest, longest = ABSENCES[absence]
    return lambda result: _share(
        [each["kind"] and each["colour"] for each in result["returns"] if shortest <= each["absence"] <= longest]
    )


def recalled(result: Result) -> float | None:
    """Share of all landmarks absent for 6 frames or more that came back in kind and colour."""
    shortest = min(least for least, _ in ABSENCES.values())
    return _share([each["kind"] and each["colour"] for each in result["returns"] if each["absence"] >= shortest])


def by_chance(result: Result) -> float | None:
    """Share of other places in the video that show the very landmark that should have come back."""
    return _share([each["elsewhere"] for each in result["returns"]])


def mean_of(results: Sequence[Result], policy: str, value: Value) -> Interval | None:
    """The mean of a value over the seeds of a policy."""
    return _interval([value(each) for each in results if each["policy"] == policy])


def difference(results: Sequence[Result], policy: str, other: str, value: Value) -> Interval | None:
    """The mean over seeds of how much more one policy has than another on the same seed."""
    found = {(each["policy"], each["seed"]): value(each) for each in results}
    seeds = sorted({seed for _, seed in found})
    pairs = [(found.get((policy, seed)), found.get((other, seed))) for seed in seeds]
    return _interval([one - two for one, two in pairs if one is not None and two is not None])


def _interval(values: Sequence[float | None]) -> Interval | None:
    known: NDArray[np.float64] = np.array([value for value in values if value is not None], np.float64)
    if not known.size:
        return None
    drawn = np.random.default_rng(0).integers(known.size, size=(_DRAWS, known.size))
    low, high = np.percentile(known[drawn].mean(axis=1), _PERCENTILES)
    return Interval(float(known.mean()), float(low), float(high), known.size)


def _share(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
