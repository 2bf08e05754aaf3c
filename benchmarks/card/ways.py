"""Other ways to the same chunk, which the product had before or does not take: what each one gains or costs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TypeVar
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.card.ceilings import hosts_order
from benchmarks.shared.host_process import PACK
from benchmarks.shared.stage import Rolling
from headforcing_core.kv_memory import frame_slots, memory
from headforcing_core.kv_memory.frame_slots import FrameSlots

Inside = Callable[[], AbstractContextManager[object]]
Result = TypeVar("Result")
HOSTS_ORDER, NUMBERS, STREAMS = "host's order of kernels", "heads number by number", "a stream a head type"


def ways(rolling: Rolling) -> dict[str, Inside]:
    """What to be inside of while the rollout's model runs."""
    found: dict[str, Inside] = {
        HOSTS_ORDER: lambda: patch.object(rolling, "attention", hosts_order),
        NUMBERS: _number_by_number,
    }
    if rolling.on_card:
        found[STREAMS] = partial(attending, Streams())
    return found


def within(inside: Inside, run: Callable[[], Result]) -> Callable[[], Result]:
    """The same call, inside."""

    def call() -> Result:
        with inside():
            return run()

    return call


class Streams:
    """In place of `attend_all`: the call that reads most runs in the stream that everything is in, each other one in a
    stream of its own. A side stream begins when all that was given out before is done, and is waited for, so what it
    frees is taken again in order."""

    def __init__(self) -> None:
        self._side: list[torch.cuda.Stream] = []

    def __call__(self, calls: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        main, seen = torch.cuda.current_stream(), [torch.empty(0)] * len(calls)
        while len(self._side) < len(calls) - 1:
            self._side.append(torch.cuda.Stream())
        ready = main.record_event()
        longest_first = sorted(range(len(calls)), key=lambda place: -_numbers_read(calls[place]))
        for stream, place in zip((main, *self._side), longest_first, strict=False):
            if stream is not main:
                stream.wait_event(ready)
            with torch.cuda.stream(stream):
                seen[place] = calls[place]()
        for stream in self._side[: len(calls) - 1]:
            main.wait_stream(stream)
        return seen


def _numbers_read(call: Callable[[], Tensor]) -> int:
    assert isinstance(call, partial)
    return call.args[1].numel()


@contextmanager
def attending(attend_all: Callable[[Sequence[Callable[[], Tensor]]], list[Tensor]]) -> Iterator[None]:
    """Inside, this stands in place of `attend_all`: in the core that rollouts are made of here, and in the one that the
    pack imports as its own."""
    with ExitStack() as patches:
        for module in (memory, sys.modules[f"{PACK}.{memory.__name__}"]):
            patches.enter_context(patch.object(module, "attend_all", attend_all))
        yield


@contextmanager
def _number_by_number() -> Iterator[None]:
    """As heads were picked before: not in words of 8 bytes, and not straight into their buffers."""

    def put(buffer: FrameSlots, x: Tensor, place: Tensor) -> None:
        place.copy_(buffer.pick(x))

    def as_they_are(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors

    with ExitStack() as patches:
        patches.enter_context(patch.object(FrameSlots, "put", put))
        patches.enter_context(patch.object(frame_slots, "_in_words", as_they_are))
        yield
