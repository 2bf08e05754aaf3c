"""What ranks exchange, and the time that goes into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import torch
from torch import Tensor

from ...headforcing_core.cards.exchange import Exchange


class TimedExchange:
    """An exchange of which the seconds are counted, those included in which others are waited for."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._seconds = 0.0
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []  # on a card, which is ahead of this process

    @property
    def rank(self) -> int:
        return self._exchange.rank

    @property
    def ranks(self) -> int:
        return self._exchange.ranks

    @property
    def sent_bytes(self) -> int:
        return self._exchange.sent_bytes

    def all_to_all(self, x: Tensor, sent: Sequence[int], got: Sequence[int]) -> Tensor:
        return self._timed(x, lambda: self._exchange.all_to_all(x, sent, got))

    def all_gather(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        return self._timed(x, lambda: self._exchange.all_gather(x, sizes))

    def broadcast(self, x: Tensor) -> Tensor:
        return self._timed(x, lambda: self._exchange.broadcast(x))

    def any(self, flag: bool) -> bool:
        return self._exchange.any(flag)

    def take_seconds(self) -> float:
        """The seconds since this was asked last. Waits for the card."""
        for begun, over in self._marks:
            over.synchronize()
            self._seconds += begun.elapsed_time(over) / 1000
        self._marks.clear()
        taken, self._seconds = self._seconds, 0.0
        return taken

    def _timed(self, x: Tensor, exchange: Callable[[], Tensor]) -> Tensor:
        if x.is_cuda:
            begun, over = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begun.record()
            got = exchange()
            over.record()
            self._marks.append((begun, over))
            return got
        began = perf_counter()
        got = exchange()
        self._seconds += perf_counter() - began
        return got
