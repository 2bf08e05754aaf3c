"""How long a thing takes and where its time goes, on a processor or on a graphics card."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import ParamSpec, TypeVar

import torch
from torch.utils.benchmark import Timer, timer

from benchmarks.shared.tables import Row

LEAST_SECONDS = 0.3  # that one thing is timed for
Given = ParamSpec("Given")
Result = TypeVar("Result")
Place = TypeVar("Place")


@dataclass(frozen=True)
class Taken:
    """Seconds of one run: on the clock, and of the processor, which other jobs disturb far less."""

    clock: float
    processor: float


@dataclass(frozen=True)
class Ratios:
    """One thing's times over another's, round by round: medians, and the extremes of the clock."""

    clock: float
    processor: float
    least: float
    greatest: float


def take(run: Callable[[], object]) -> Taken:
    """Run once and say how long it took, a card's work included."""
    clock, processor = timer(), process_time()
    run()
    return Taken(timer() - clock, process_time() - processor)


def in_turns(turns: Mapping[Place, Callable[[], object]], warm: int, rounds: int) -> dict[Place, list[Taken]]:
    """Times of things that are done once a round each, after rounds that do not count."""
    taken: dict[Place, list[Taken]] = {place: [] for place in turns}
    for number in range(warm + rounds):
        for place, make in turns.items():
            run = take(make)
            if number >= warm:
                taken[place].append(run)
    return taken


def seconds_per_call(run: Callable[[], object]) -> float:
    """Median over blocks of calls of the seconds of one, a card's work included."""
    timed = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    with torch.inference_mode():
        return timed.blocked_autorange(min_run_time=LEAST_SECONDS).median


def timed_row(name: str, run: Callable[[], object]) -> Row:
    """Milliseconds of a call as a row of a table, or why it cannot be made here."""
    try:
        seconds = seconds_per_call(run)
    except (RuntimeError, TypeError) as error:  # a build without this kernel, or with another signature
        return {"what": name, "milliseconds": None, "note": str(error).splitlines()[0][:80]}
    return {"what": name, "milliseconds": 1e3 * seconds, "note": ""}


def ratios(above: Sequence[Taken], below: Sequence[Taken]) -> Ratios:
    """Compare runs that were made in the same rounds."""
    pairs = list(zip(above, below, strict=True))
    clocks = [a.clock / b.clock for a, b in pairs]
    return Ratios(median(clocks), median(a.processor / b.processor for a, b in pairs), min(clocks), max(clocks))


class Stopwatch:
    """Seconds per name, every moment counting for the innermost one. Names nest. On a card time is what passes in its
    stream, which nobody waits for on the way; else it is that of the `clock`."""

    def __init__(self, on_card: bool = False, clock: Callable[[], float] = perf_counter) -> None:
        self._on_card, self._clock = on_card, clock
        self._names: list[str] = []
        self._since = _Mark(on_card, clock())
        self._spans: list[tuple[str, _Mark, _Mark]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """What was counted so far."""
        if self._on_card:
            torch.cuda.synchronize()
        found: defaultdict[str, float] = defaultdict(float)
        for name, since, until in self._spans:
            found[name] += until.seconds_after(since)
        return dict(found)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count what happens inside for a name."""
        self._turn()
        self._names.append(name)
        try:
            yield
        finally:
            self._turn()
            self._names.pop()

    def timed(self, name: str, function: Callable[Given, Result]) -> Callable[Given, Result]:
        """The same function, counted for a name."""

        def counted(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            with self.measure(name):
                return function(*args, **kwargs)

        return counted

    def _turn(self) -> None:
        now = _Mark(self._on_card, self._clock())
        if self._names:
            self._spans.append((self._names[-1], self._since, now))
        self._since = now


class _Mark:
    """A moment: on the clock, and in a card's stream."""

    def __init__(self, on_card: bool, clock: float) -> None:
        self._clock = clock
        self._event = torch.cuda.Event(enable_timing=True) if on_card else None
        if self._event is not None:
            self._event.record()

    def seconds_after(self, before: "_Mark") -> float:
        if self._event is None or before._event is None:
            return self._clock - before._clock
        return before._event.elapsed_time(self._event) / 1000
