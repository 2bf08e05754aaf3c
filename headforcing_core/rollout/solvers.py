"""How a chunk goes from one noise level to the next (docs/method_decisions.md). A solver is made for a chunk, hears
what the model sees at each level, and is dropped with it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..families.family import RENOISE, UNIPC2

Fresh = Callable[[int, Tensor], Tensor]
"""(step, like) -> noise to add after a step."""


class Solver(Protocol):
    """What makes one chunk."""

    def after(self, step: int, x: Tensor, x0: Tensor) -> Tensor:
        """The chunk at the next level, where the model saw `x0` in `x`; x0 itself where that level is 0."""
        ...


@dataclass(frozen=True)
class Renoise:
    """Noise of the next level on what was predicted. `levels` are the noise levels as numbers, which tell whether one
    is 0 without waiting for the device that holds them as `sigmas`."""

    levels: Sequence[float]
    sigmas: Tensor
    fresh: Fresh

    def after(self, step: int, x: Tensor, x0: Tensor) -> Tensor:
        """See Solver."""
        if not self.levels[step + 1]:
            return x0
        following = self.sigmas[step + 1]
        return (1.0 - following) * x0 + following * self.fresh(step, x0)


class UniPC2:
    """UniPC of second order, of predictions of x0 (its variant bh2): every step goes by a polynomial through what was
    seen at its start and before, and is corrected once it is known what the model sees at its end. No noise is drawn.
    """

    def __init__(self, levels: Sequence[float], sigmas: Tensor, fresh: Fresh) -> None:
        self._levels = levels
        self._seen: tuple[Tensor, ...] = ()  # x0 of this step and of the one before
        self._x: Tensor | None = None  # where this step began, corrected

    def after(self, step: int, x: Tensor, x0: Tensor) -> Tensor:
        """See Solver."""
        if not self._levels[step + 1]:
            return x0
        self._x = x if step == 0 else self._moved(step - 1, x0)
        self._seen = (x0, *self._seen[:1])
        return self._moved(step)

    def _moved(self, step: int, at_end: Tensor | None = None) -> Tensor:
        """The chunk at the end of a step: predicted, or corrected by what was seen `at_end`."""
        start, end = self._levels[step : step + 2]
        assert self._x is not None
        seen = self._seen[0]
        long = _clearness(end) - _clearness(start)
        decay = math.expm1(-long)
        pull = (end - 1.0) * decay
        moved = (end / start) * self._x + pull * seen
        if step == 0:
            return moved if at_end is None else moved + (pull / 2) * (at_end - seen)
        back = (_clearness(self._levels[step - 1]) - _clearness(start)) / long
        slope = self._seen[1] - seen
        if at_end is None:
            return moved + (pull / (2 * back)) * slope
        first = -decay / long - 1
        second = -first / long - 0.5
        before = (first - 2 * second) / decay / (1 - back)
        return moved + (pull * before / back) * slope + (pull * (first / decay - before)) * (at_end - seen)


def _clearness(level: float) -> float:
    """Logarithm of how much of a chunk at a noise level is picture, against noise."""
    return -math.inf if level == 1 else math.log1p(-level) - math.log(level)


SOLVERS: Mapping[str, Callable[[Sequence[float], Tensor, Fresh], Solver]] = {RENOISE: Renoise, UNIPC2: UniPC2}
