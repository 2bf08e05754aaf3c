"""Where time goes: nested calls share it out, every moment counting for the innermost name."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Stopwatch:
    """Seconds per name. Names nest; what an inner one takes does not count for the outer one."""

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
