"""How ranks exchange numbers; and ranks that are threads of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

Done = TypeVar("Done")
Got = TypeVar("Got")


class Exchange(Protocol):
    """One of several ranks. Every rank calls the same in the same order, or all wait for it. `sent_bytes` counts what
    this one has sent to others."""

    @property
    def rank(self) -> int:
        """Its number, from 0."""
        ...

    @property
    def ranks(self) -> int:
        """How many there are."""
        ...

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to others so far."""
        ...

    def all_to_all(self, x: Tensor, sent: Sequence[int], got: Sequence[int]) -> Tensor:
        """To each rank in turn so many numbers of a flat tensor; so many from each, in order."""
        ...

    def all_gather(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """The flat tensors of all ranks, of these sizes, in order."""
        ...

    def broadcast(self, x: Tensor) -> Tensor:
        """What rank 0 has for this; all have it in one shape and type."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether any rank says so. Waits for no card."""
        ...


class Threads:
    """Ranks that are threads, to be run side by side: for tests, and to count what would travel between cards."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.barrier = Barrier(ranks)
        self.posted: list[tuple[str, Any]] = [("", None)] * ranks

    def run(self, work: Callable[[Exchange], Done]) -> list[Done]:
        """What `work` returns on each rank. The first error on one ends all of them, and is raised."""
        errors: list[Exception] = []

        def on_rank(rank: int) -> Done:
            exchange = _OfThreads(self, rank)
            try:
                done = work(exchange)
                exchange.swap("end", None, len)
            except Exception as error:
                errors.append(error)
                self.barrier.abort()
                raise
            return done

        with ThreadPoolExecutor(self.ranks) as pool:
            running = [pool.submit(on_rank, rank) for rank in range(self.ranks)]
        if errors:
            raise errors[0]
        return [each.result() for each in running]


class _OfThreads:
    """One of `Threads`."""

    def __init__(self, group: Threads, rank: int) -> None:
        self.rank, self.ranks, self.sent_bytes = rank, group.ranks, 0
        self._group = group

    def all_to_all(self, x: Tensor, sent: Sequence[int], got: Sequence[int]) -> Tensor:
        parts = x.split(list(sent))
        self.sent_bytes += x.nbytes - parts[self.rank].nbytes
        return self.swap("all_to_all", parts, lambda posted: _joined([each[self.rank] for each in posted], got))

    def all_gather(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        self.sent_bytes += x.nbytes * (self.ranks - 1)
        return self.swap("all_gather", x, lambda posted: _joined(posted, sizes))

    def broadcast(self, x: Tensor) -> Tensor:
        self.sent_bytes += 0 if self.rank else x.nbytes * (self.ranks - 1)
        return self.swap("broadcast", x, lambda posted: posted[0].clone())

    def any(self, flag: bool) -> bool:
        return self.swap("any", flag, any)

    def swap(self, what: str, mine: Any, take: Callable[[list[Any]], Got]) -> Got:
        """What a rank takes of what all have posted. None goes on before all have taken theirs."""
        group = self._group
        group.posted[self.rank] = what, mine
        group.barrier.wait()
        posted = group.posted
        if any(each != what for each, _ in posted):
            raise RuntimeError(f"The ranks have parted: they are at {', '.join(each for each, _ in posted)}.")
        taken = take([each for _, each in posted])
        group.barrier.wait()
        return taken


def _joined(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    if [len(part) for part in parts] != list(sizes):
        raise RuntimeError(
            f"The ranks have parted: {list(sizes)} numbers wanted, {[len(part) for part in parts]} sent."
        )
    return torch.cat(list(parts))
