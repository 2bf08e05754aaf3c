"""The processes of several cards, one each: begun for the first run, kept for the next ones, ended without a trace."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import RLock, Timer
from time import monotonic
from typing import NamedTuple, TypeAlias

import comfy.model_management

from ...headforcing_core.rollout.loop import Chunk
from ..host.held_elsewhere import HeldElsewhere
from .job import Arrived, Job
from .local_ray import LOCAL
from .model_recipe import ModelRecipe
from .rank_actors import RankActors, Turn, silent
from .rank_talk import CardError, RankTalk

_Key: TypeAlias = tuple[int, str]  # cards, address


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


class CardGroup:
    """So many cards that make a video together; `exact`: by the arithmetic of one card. Groups of as many cards at one
    address have the same processes, one of whom is at work at a time."""

    def __init__(self, cards: int, exact: bool, address: str = LOCAL, patience: Patience = PATIENCE) -> None:
        self.cards, self.exact, self.address = cards, exact, address
        self._patience = patience
        self._actors = RankActors(cards, address)
        _PROCESSES.add(self)
        # Ray's end is seen to where Python ends
        weakref.finalize(self, _PROCESSES.drop, (cards, address), patience.orphan).atexit = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of its processes; none while there are none."""
        return _PROCESSES.pids_of((self.cards, self.address))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts the processes stay, unless one of them fails; those of other groups end. The page's own
        models make room first."""
        with _PROCESSES.at_work((self.cards, self.address), self._patience.idle) as self._actors:
            yield

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


class _Processes:
    """The processes of all groups. There is one set at a time, since each of them has a card for itself. They end when
    another set is wanted, when ComfyUI unloads models, when nothing is made for a while, and when no group is left that
    they are of."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._groups: weakref.WeakSet[CardGroup] = weakref.WeakSet()
        self._actors: RankActors | None = None
        self._is_at_work = False
        self._held: HeldElsewhere | None = None
        self._idle: Timer | None = None

    def add(self, group: CardGroup) -> None:
        """One group more."""
        self._groups.add(group)

    def drop(self, key: _Key, seconds: float) -> None:
        """A group is gone; within so many seconds there may be another that these processes are of. Called whenever
        Python tidies up, so it waits for nothing."""
        if self.pids_of(key):
            _later(seconds, lambda: self._end_without_group(key))

    def pids_of(self, key: _Key) -> tuple[int, ...]:
        """The ids of the processes, if they are of such a group."""
        actors = self._actors
        return actors.pids if actors is not None and _key_of(actors) == key else ()

    @contextmanager
    def at_work(self, key: _Key, idle: float) -> Iterator[RankActors]:
        """The processes of a group, begun or not, which are not let go while this lasts, and then after so many seconds
        without work."""
        with self._lock:
            self._is_at_work = True
            if self._idle is not None:
                self._idle.cancel()
            if self._actors is None or _key_of(self._actors) != key:
                if self._actors is not None:
                    self._actors.end()
                self._actors = RankActors(*key)
            actors = self._actors
        try:
            comfy.model_management.unload_all_models()
            comfy.model_management.soft_empty_cache()
            yield actors
        finally:
            self._is_at_work = False
            if actors.are_there:
                self._held = self._held or HeldElsewhere(self.let_go)
                self._held.show()
                self._idle = _later(idle, self.let_go)

    def let_go(self) -> None:
        """End the processes, unless they are at work."""
        with self._lock:
            if self._actors is not None and not self._is_at_work:
                self._actors.end()

    def _end_without_group(self, key: _Key) -> None:
        if self.pids_of(key) and not any((group.cards, group.address) == key for group in list(self._groups)):
            self.let_go()


def _key_of(actors: RankActors) -> _Key:
    return actors.ranks, actors.address


def _later(seconds: float, work: Callable[[], None]) -> Timer:
    timer = Timer(seconds, work)
    timer.daemon = True
    timer.start()
    return timer


_PROCESSES = _Processes()
