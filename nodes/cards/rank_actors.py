"""The ranks as Ray actors of this machine: begun, called all together, heard, killed."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from threading import RLock
from time import monotonic
from typing import Any, cast

import comfy.model_management
import psutil
import torch

from . import rank_process
from .job import Arrived, Job, Message, RankError
from .local_ray import SHARED_RAY, LocalRay, lives
from .model_recipe import ModelRecipe
from .rank_process import RankProcess, this_page
from .rank_talk import CardError

log = logging.getLogger(__name__)

_AT_ONCE = 8  # calls of one process: a run, and what is heard and answered beside it
_TOGETHER = 600.0  # seconds that one rank waits for another; a rank that is gone is noticed sooner
_AFTERMATH = 3.0  # within which it shows whose error was the first
_GOING, _DYING = 2.0, 10.0
_POLL = 0.1
_RAY_IS_LOST = "The processes of Ray itself were ended by somebody, as by the command ray stop."
_KILLED = "Its process ended: it was killed, by somebody or for want of main memory."

Ref = Any  # what Ray gives for a call


class RankActors:
    """So many processes of this machine, each with a card of its own, where there are cards."""

    def __init__(self, ranks: int, address: str) -> None:
        self.ranks, self.address = ranks, address
        self._lock = RLock()
        self._ray: LocalRay | None = None
        self._actors: list[Any] = []
        self._processes: list[psutil.Process] = []
        self._recipe: ModelRecipe | None = None

    @property
    def are_there(self) -> bool:
        """Whether they have begun and not ended."""
        return bool(self._actors)

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of their processes."""
        return tuple(process.pid for process in self._processes)

    @property
    def _module(self) -> Any:
        """Ray's. CardError where it cannot be asked any more."""
        assert self._ray is not None
        if self._ray.is_lost:
            raise CardError(_RAY_IS_LOST)
        return self._ray.module

    def load(self, recipe: ModelRecipe, seconds: float) -> tuple[Arrived, ...]:
        """Have a model on all, which begin if need be, in so many seconds. CardError for what fails; they are gone
        then."""
        if self._ray is not None and (self._ray.is_lost or not all(map(lives, self._processes))):
            self.end()  # since the last run they were killed
        try:
            if self._recipe is not None and self._recipe.is_same(recipe):
                return tuple(self.gather(self.call("arrived"), seconds))
            if not self.are_there:
                self._begin(seconds)
            arrived = tuple(self.gather(self.call("load", recipe)))
        except BaseException:
            self.end()
            raise
        self._recipe = recipe
        log.info("Head forcing: %d cards, processes %s", self.ranks, self.pids)
        return arrived

    def _begin(self, seconds: float) -> None:
        self._ray = SHARED_RAY.enter(self.address)
        ray = self._ray.module
        ray.cloudpickle.register_pickle_by_value(rank_process)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        made = ray.remote(RankProcess).options(
            num_cpus=0,
            num_gpus=int(comfy.model_management.get_torch_device().type == "cuda"),
            max_restarts=0,
            max_concurrency=_AT_ONCE,
            scheduling_strategy=here(ray.get_runtime_context().get_node_id(), soft=False),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(torch.get_num_threads())}},
        )
        self._actors = [made.remote(rank, self.ranks, this_page()) for rank in range(self.ranks)]
        pids = self.gather([actor.__ray_call__.remote(_pid) for actor in self._actors], seconds)
        self._processes = [psutil.Process(pid) for pid in pids]
        self.gather(self.call("join", str(self._ray.folder / f"ranks-{pids[0]}"), _TOGETHER), seconds)

    def call_one(self, rank: int, method: str, *arguments: object) -> Ref:
        """Call a method on one rank."""
        return getattr(self._actors[rank], method).remote(*arguments)

    def call(self, method: str, *arguments: object) -> list[Ref]:
        """Call a method on every rank; arguments travel once."""
        given = [self.put(argument) for argument in arguments]
        return [getattr(actor, method).remote(*given) for actor in self._actors]

    def put(self, value: object) -> Ref:
        """A value that several calls are given."""
        return self._module.put(value)

    def gather(self, refs: Sequence[Ref], seconds: float = float("inf")) -> list[Any]:
        """What the calls return, one of each rank. CardError when one fails or it takes longer. Raises the host's
        interrupt."""
        ends, pending = monotonic() + seconds, list(refs)
        while pending:
            comfy.model_management.throw_exception_if_processing_interrupted()
            done, pending = self._module.wait(pending, num_returns=1, timeout=_POLL)
            self.results(done, refs)
            if pending and monotonic() > ends:
                raise silent(seconds)
        return self._module.get(list(refs))

    def results(self, done: Sequence[Ref], refs: Sequence[Ref]) -> list[Any]:
        """What calls return that are done. CardError when one has failed; of the errors of all `refs`, one of each
        rank, it is that which caused the others."""
        try:
            return self._module.get(list(done))
        except self._module.exceptions.RayError as error:
            raise self._cause(refs, error) from None

    def wait(self, refs: Sequence[Ref], seconds: float) -> list[Ref]:
        """The calls that are done, as soon as one is; none when that takes longer."""
        return self._module.wait(list(refs), num_returns=1, timeout=seconds)[0]

    def errors(self, refs: Sequence[Ref], seconds: float) -> list[Exception | None]:
        """The errors of calls, one of each rank, waiting so long for all of them; TimeoutError of one that still
        goes on."""
        ray, found = self._module, []
        ray.wait(list(refs), num_returns=len(refs), timeout=seconds)
        for ref in refs:
            try:
                ray.get(ref, timeout=0)
                found.append(None)
            except Exception as error:
                found.append(cast("Exception", getattr(error, "cause", None) or error))
        return found

    def end(self) -> None:
        """Kill the processes, and wait until they are gone."""
        with self._lock:
            if self._ray is None:
                return
            for actor in () if self._ray.is_lost else self._actors:
                self._ray.module.kill(actor)
            _, left = psutil.wait_procs(self._processes, timeout=_GOING)
            for process in left:  # as one that is stopped
                process.kill()
            psutil.wait_procs(left, timeout=_DYING)
            self._actors, self._processes, self._ray, self._recipe = [], [], None, None
            SHARED_RAY.leave()

    def _cause(self, refs: Sequence[Ref], first: Exception) -> CardError:
        exceptions, ends = self._module.exceptions, monotonic() + _AFTERMATH
        while True:
            errors = self.errors(refs, _POLL)
            for rank, error in enumerate(errors):
                if isinstance(error, exceptions.RayActorError):
                    return CardError(
                        f"Ray says: {error}" if getattr(error, "actor_init_failed", False) else _KILLED, rank
                    )
                if isinstance(error, RankError) and error.is_oom:
                    return CardError(error.sentence, rank, is_oom=True)
            said = {rank: error for rank, error in enumerate(errors) if isinstance(error, RankError)}
            if len(said) < len(errors) and monotonic() < ends:
                continue
            if not said:
                return CardError(f"Ray says: {first}")
            rank, error = next(iter(said.items()))
            is_of_all = len({each.sentence for each in said.values()}) == 1 and len(said) == len(errors)
            return CardError(error.sentence, None if is_of_all else rank)


class Turn:
    """One run of the ranks, from its first call to its last word."""

    def __init__(self, actors: RankActors, job: Job) -> None:
        self._actors = actors
        self._runs = actors.call("run", job)
        self._hears = actors.call("hear")
        self._going = list(self._runs)

    def listen(self, seconds: float = _POLL) -> list[tuple[int, list[Message]]]:
        """What ranks have said, as soon as one does; nothing when that takes longer. CardError for a failed one."""
        heard: list[tuple[int, list[Message]]] = []
        for ref in self._actors.wait([*self._hears, *self._going], seconds):
            (said,) = self._actors.results([ref], self._runs)
            if ref in self._going:
                self._going.remove(ref)
                continue
            rank = self._hears.index(ref)
            self._hears[rank] = self._actors.call_one(rank, "hear")
            heard.append((rank, said))
        return heard

    def answer(self, rank: int, answer: object) -> None:
        """Answer the open question of a rank."""
        self._actors.call_one(rank, "answer", answer)

    def finish(self, seconds: float) -> None:
        """Wait for the end. CardError for what fails there."""
        self._actors.gather([*self._runs], seconds)
        self._actors.errors(self._hears, seconds)

    def cancel(self, seconds: float) -> bool:
        """Whether all ranks have ended within so many seconds, and can make another run."""
        ends = monotonic() + seconds
        while True:  # again and again, since a run that is about to begin would not hear of it
            self._actors.call("cancel")
            errors = self._actors.errors(self._runs, 1.0)
            if monotonic() > ends or not any(isinstance(error, TimeoutError) for error in errors):
                break
        self._actors.errors(self._hears, seconds)
        left = [self._actors.call_one(rank, "hear", 0.0) for rank in range(self._actors.ranks)]
        self._actors.errors(left, seconds)  # the next run must not hear it
        return all(error is None or (isinstance(error, RankError) and error.is_cancel) for error in errors)


def silent(seconds: float) -> CardError:
    """The error for ranks of which none says anything."""
    return CardError(f"No card has said a word for {seconds:.0f} s, so one of them hangs.")


def _pid(process: object) -> int:
    return os.getpid()
