"""How long a thing takes and where its time goes, by the processor's clock or by a graphics card's."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Generic, ParamSpec, Protocol, TypeVar

import torch

Given = ParamSpec("Given")
Result = TypeVar("Result")
Mark = TypeVar("Mark")


class Clock(Protocol[Mark]):
    """Marks moments, and says afterwards how far they lay apart."""

    def now(self) -> Mark: ...

    def seconds(self, since: Mark, until: Mark) -> float: ...

    def settle(self) -> None:
        """Wait for all work that was given out."""
        ...


class ProcessorClock:
    """The clock on the wall, for work that is done when a function returns."""

    def now(self) -> float:
        return perf_counter()

    def seconds(self, since: float, until: float) -> float:
        return until - since

    def settle(self) -> None:
        pass


class CudaClock:
    """Events in the current stream: time as it passes on the card, without waiting for it on the way."""

    def now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, since: torch.cuda.Event, until: torch.cuda.Event) -> float:
        until.synchronize()
        return since.elapsed_time(until) / 1000

    def settle(self) -> None:
        torch.cuda.synchronize()


def clock_of(device: torch.device) -> Clock:
    """The clock that a device's work is measured by."""
    return CudaClock() if device.type == "cuda" else ProcessorClock()


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


def _at_once() -> None:
    pass


def take(run: Callable[[], object], settle: Callable[[], None] = _at_once) -> Taken:
    """Run once and say how long it took; `settle` waits for a device that works behind the processor's back."""
    settle()
    clock, processor = perf_counter(), process_time()
    run()
    settle()
    return Taken(perf_counter() - clock, process_time() - processor)


def seconds_per_call(run: Callable[[], object], clock: Clock, calls: int, batches: int) -> float:
    """Median over batches of the seconds of one call, after one batch that is not counted."""
    marks = [clock.now()]
    for _ in range(batches + 1):
        for _ in range(calls):
            run()
        marks.append(clock.now())
    clock.settle()
    return median(clock.seconds(*pair) for pair in zip(marks[1:-1], marks[2:], strict=True)) / calls


def ratios(above: Sequence[Taken], below: Sequence[Taken]) -> Ratios:
    """Compare runs that were made in the same rounds."""
    pairs = list(zip(above, below, strict=True))
    clocks = [a.clock / b.clock for a, b in pairs]
    return Ratios(median(clocks), median(a.processor / b.processor for a, b in pairs), min(clocks), max(clocks))


class Stopwatch(Generic[Mark]):
    """Seconds per name, every moment counting for the innermost one. Names nest."""

    def __init__(self, clock: Clock[Mark] | None = None) -> None:
        self._clock: Clock = clock or ProcessorClock()
        self._names: list[str] = []
        self._since: object = None
        self._spans: list[tuple[str, object, object]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """What was counted so far."""
        self._clock.settle()
        found: defaultdict[str, float] = defaultdict(float)
        for name, since, until in self._spans:
            found[name] += self._clock.seconds(since, until)
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
        now = self._clock.now()
        if self._names:
            self._spans.append((self._names[-1], self._since, now))
        self._since = now
