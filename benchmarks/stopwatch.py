"""How long a thing takes and where its time goes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


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
    """Run once and say how long it took."""
    clock, processor = perf_counter(), process_time()
    run()
    return Taken(perf_counter() - clock, process_time() - processor)


def ratios(above: Sequence[Taken], below: Sequence[Taken]) -> Ratios:
    """Compare runs that were made in the same rounds."""
    pairs = list(zip(above, below, strict=True))
    clocks = [a.clock / b.clock for a, b in pairs]
    return Ratios(median(clocks), median(a.processor / b.processor for a, b in pairs), min(clocks), max(clocks))


class Stopwatch:
    """Seconds per name, every moment counting for the innermost one. Names nest."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._names: list[str] = []
        self._since = 0.0

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
        now = perf_counter()
        if self._names:
            self.seconds[self._names[-1]] += now - self._since
        self._since = now
