"""The processes of several cards, one each: begun for the first run, kept for the next ones, ended without a trace."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import RLock, Timer
from time import monotonic
from typing import NamedTuple, Self

import comfy.model_management

from ...headforcing_core.rollout.loop import Chunk
from ..host.held_elsewhere import HeldElsewhere
from .job import Arrived, Job
from .local_ray import LOCAL
from .model_recipe import ModelRecipe
from .rank_actors import RankActors, Turn, silent
from .rank_talk import CardError, RankTalk


class Patience(NamedTuple):
    """Seconds that are waited: for processes to begin; for the first word of a run, before which the model is put on
    the cards; for any other, unless so many `times` the slowest chunk is more; for an interrupt to be heeded; for
    another run; and, once the node's output is dropped, for another output of the same cards."""

    begin: float = 180.0
    first: float = 900.0
    word: float = 60.0
    times: float = 10.0
    cancel: float = 10.0
    idle: float = 600.0
    orphan: float = 15.0


PATIENCE = Patience()
_ORPHANS: dict[tuple[int, str], RankActors] = {}


class CardGroup:
    """So many cards that make a video together; `exact`: by the arithmetic of one card. Its processes end with it,
    unless another of as many cards is made at once. They end as well when ComfyUI unloads models, when nothing is made
    for a while, and after an error."""

    def __init__(self, cards: int, exact: bool, address: str = LOCAL, patience: Patience = PATIENCE) -> None:
        self.cards, self.exact = cards, exact
        self._patience = patience
        self._actors = RankActors(cards, address)
        self._lock = RLock()
        self._is_at_work = False
        self._held: HeldElsewhere | None = None
        self._idle: Timer | None = None
        self._end = self._at_its_end(self._actors)

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of its processes; none while there are none."""
        return self._actors.pids

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts the processes stay, unless one of them fails. The page's own models make room first."""
        with self._lock:
            self._is_at_work = True
            if self._idle is not None:
                self._idle.cancel()
        try:
            self._take_over()
            comfy.model_management.unload_all_models()
            comfy.model_management.soft_empty_cache()
            yield
        finally:
            self._is_at_work = False
            if self._actors.are_there:
                self._await_another()

    def load(self, recipe: ModelRecipe) -> tuple[Arrived, ...]:
        """Have the model on all cards, whose processes are begun if need be. CardError for what fails there."""
        return self._actors.load(recipe, self._patience.begin)

    def chunks(self, job: Job, talk: RankTalk) -> Generator[Chunk, None, None]:
        """The chunks of a job. CardError for what fails there; the processes are gone then. Whatever else ends it, they
        are ready for the next job."""
        turn = Turn(self._actors, job)
        limit = self._patience.first
        try:
            for talk.chunk in range(job.plan.chunks):
                began = monotonic()
                made = self._chunk(turn, talk, limit)
                limit = max(self._patience.word, self._patience.times * (monotonic() - began), limit * (talk.chunk > 0))
                yield made
            turn.finish(self._patience.word)
        except CardError:
            self._actors.end()
            raise
        except BaseException:  # an interrupt, or what the page does with the chunks
            if not turn.cancel(self._patience.cancel):
                self._actors.end()
            raise

    def _chunk(self, turn: Turn, talk: RankTalk, limit: float) -> Chunk:
        heard = monotonic()
        while (made := talk.take_chunk()) is None:
            for rank, answer in talk.answers(self._actors.put):
                turn.answer(rank, answer)
                heard = monotonic()
            comfy.model_management.throw_exception_if_processing_interrupted()
            for rank, messages in turn.listen():
                for message in messages:
                    talk.take(rank, message)
                    heard = monotonic()
            if monotonic() - heard > limit:
                raise silent(limit)
        return made

    def _take_over(self) -> None:
        """Of outputs that are dropped by now, which the host does after it has made the next one: the processes, where
        they are as many at one address; otherwise their cards."""
        for key in list(_ORPHANS):
            left = _ORPHANS.pop(key, None)
            if left is None:
                continue
            if self._actors.are_there or key != _key(self._actors):
                left.end()
            else:
                self._end.detach()
                self._actors, self._end = left, self._at_its_end(left)

    def _at_its_end(self, actors: RankActors) -> weakref.finalize[..., Self]:
        end = weakref.finalize(self, _orphaned, actors, self._patience.orphan)
        end.atexit = False  # Ray's end is seen to there
        return end

    def _await_another(self) -> None:
        if self._held is None:
            self._held = HeldElsewhere(_weakly(self))
        self._held.show()
        self._idle = _later(self._patience.idle, _weakly(self))

    def let_go(self) -> None:
        """End the processes, unless they are at work."""
        with self._lock:
            if not self._is_at_work:
                self._actors.end()


def _weakly(group: CardGroup) -> Callable[[], None]:
    weak = weakref.ref(group)

    def let_go() -> None:
        found = weak()
        if found is not None:
            found.let_go()

    return let_go


def _orphaned(actors: RankActors, seconds: float) -> None:
    if not actors.are_there:
        return
    key = _key(actors)
    before, _ORPHANS[key] = _ORPHANS.get(key), actors
    if before is not None:
        before.end()

    def end() -> None:
        if _ORPHANS.get(key) is actors:
            del _ORPHANS[key]
            actors.end()

    _later(seconds, end)


def _key(actors: RankActors) -> tuple[int, str]:
    return actors.ranks, actors.address


def _later(seconds: float, work: Callable[[], None]) -> Timer:
    timer = Timer(seconds, work)
    timer.daemon = True
    timer.start()
    return timer
