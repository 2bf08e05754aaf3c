"""Jobs on workers: who makes what, and what happens when a job or a worker is lost.

Ray places workers on cards and starts their processes. A worker that is lost, or whose ComfyUI is, is made anew, on
whatever card is free; its job goes first to the next worker that is. So a machine that never comes back holds nothing
up, and a job fails for good only by an error of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from .finished_jobs import chunks_kept
from .job_states import FINAL, LEFT, WAITING, JobState
from .same_files import difference
from .worker import FAILED, IN_USE, LOST, Order, Outcome, Ready, Worker

SECONDS_IN_USE = 180.0  # longer than a network disk keeps the lock of a machine that died
_SECONDS_BETWEEN_TRIES = 5.0
_SECONDS_BETWEEN_LINES = 10.0
_LOST_IN_VAIN = 5
_STARTS = 3
_SECONDS_TO_CLOSE = 20.0


@dataclass
class Slot:
    """Where a worker is wanted: the worker there, what it was asked for, and the job that it makes."""

    worker: Any
    call: Any  # a reference of Ray, as the next one
    heard: Any = None
    ready: Ready | None = None
    job: JobState | None = None
    failures: int = 0  # in a row, to start


class Foreman:
    """Has jobs made on so many workers; `options` are Ray's for each, `tell` takes lines for whoever watches."""

    def __init__(
        self,
        order: Order,
        jobs: Sequence[JobState],
        workers: int,
        options: dict[str, float],
        tell: Callable[[str], None],
    ) -> None:
        self._order = order
        self._jobs = jobs
        self._options = options
        self._tell = tell
        self._waiting = deque(jobs)
        self._first: Ready | None = None
        self._slots = [self._new() for _ in range(workers)]

    def work(self) -> bool:
        """Until every job is done, has failed or is left, or no worker is. Whether any worker was ever ready."""
        while self._slots and any(job.word not in FINAL for job in self._jobs):
            self._hand_out()
            asked = {ref: slot for slot in self._slots for ref in (slot.call, slot.heard) if ref is not None}
            if not asked:  # all that is left is in use elsewhere
                time.sleep(1)
                continue
            for ref in ray.wait(list(asked), num_returns=1, timeout=1)[0]:
                slot = asked[ref]
                if ref == slot.heard:
                    self._hear(slot)
                elif slot.job is None:
                    self._started(slot)
                else:
                    self._ended(slot, slot.job)
        for job in self._waiting:
            job.word, job.said = LEFT, "no worker is left to make it"
        return self._first is not None

    def close(self) -> None:
        """End all workers and their ComfyUIs."""
        ends = [slot.worker.close.remote() for slot in self._slots]
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=_SECONDS_TO_CLOSE)

    def _new(self) -> Slot:
        actor = (
            cast(Any, ray.remote(Worker))
            .options(max_restarts=0, max_task_retries=0, max_concurrency=3, **self._options)
            .remote(self._order)
        )
        return Slot(actor, actor.ready.remote())

    def _replace(self, slot: Slot, is_gone: bool) -> None:
        """Another worker in place of one that is gone, or is to go."""
        if is_gone:
            ray.kill(slot.worker)
        else:
            slot.worker.close.remote()  # and nobody holds it any more: it ends after that
        new = self._new()
        slot.worker, slot.call, slot.heard, slot.ready, slot.job = new.worker, new.call, None, None, None

    def _hand_out(self) -> None:
        for slot in self._slots:
            due = (job for job in self._waiting if job.not_before <= time.monotonic())
            if slot.ready is None or slot.job is not None or (job := next(due, None)) is None:
                continue
            self._waiting.remove(job)
            job.begin(slot.ready.machine, chunks_kept(self._order.output, job.job))
            slot.job, slot.call = job, slot.worker.render.remote(job.job)
            slot.heard = slot.worker.said.remote("")
            self._tell(job.line())

    def _hear(self, slot: Slot) -> None:
        ref, slot.heard = slot.heard, None
        try:
            said = str(ray.get(ref))
        except RayError:
            return  # the call that it works on says more
        if slot.job is None:
            return
        if said and said != slot.job.said:
            slot.job.said = said
            if time.monotonic() - slot.job.told > _SECONDS_BETWEEN_LINES:
                slot.job.told = time.monotonic()
                self._tell(slot.job.line())
        slot.heard = slot.worker.said.remote(said)

    def _started(self, slot: Slot) -> None:
        answer, slot.call = _answer(slot.call), None
        if isinstance(answer, Ready):
            slot.failures = 0
            self._first = self._first or answer
            first = self._first
            where = f"worker on {answer.machine} (process {answer.pid}, ComfyUI {answer.comfyui_pid})"
            if other := difference(answer.found, first.found, answer.machine, first.machine):
                self._tell(f"{where} is not used: {other}")
                slot.worker.close.remote()
                self._slots.remove(slot)
                return
            slot.ready = answer
            self._tell(f"{where} is ready: {answer.versions}")
            if answer.versions != first.versions:
                self._tell(
                    f"note: {first.machine} has {first.versions}. A film that goes from one machine to the other need "
                    "not have the same bits."
                )
            return
        slot.failures += 1
        self._tell(f"a worker did not start: {answer}")
        if slot.failures < _STARTS:
            self._replace(slot, is_gone=True)
        else:
            ray.kill(slot.worker)
            self._slots.remove(slot)

    def _ended(self, slot: Slot, job: JobState) -> None:
        answer, slot.call, slot.heard, slot.job = _answer(slot.call), None, None, None
        is_gone = not isinstance(answer, Outcome)
        outcome = answer if isinstance(answer, Outcome) else Outcome(LOST, str(answer))
        if outcome.word == LOST:
            self._lost(job, outcome.said)
            self._replace(slot, is_gone)
        elif outcome.word == IN_USE and job.is_in_use(SECONDS_IN_USE):
            job.not_before = time.monotonic() + _SECONDS_BETWEEN_TRIES
            job.end(WAITING, f"{outcome.said} It is tried again for {SECONDS_IN_USE / 60:.0f} minutes.", ())
            self._waiting.appendleft(job)
        else:
            job.end(LEFT if outcome.word == IN_USE else outcome.word, outcome.said, outcome.files)
            if outcome.word == FAILED and self._waiting:  # an error on the card may have spoiled what runs there
                self._replace(slot, is_gone=False)
        self._tell(job.line())

    def _lost(self, job: JobState, why: str) -> None:
        job.lose(chunks_kept(self._order.output, job.job))
        if job.in_vain < _LOST_IN_VAIN:
            job.end(WAITING, f"its worker was lost ({why}); it goes on with the next one", ())
            self._waiting.appendleft(job)
            return
        job.end(
            LEFT,
            f"its worker was lost {job.in_vain} times without one more chunk ({why}). The same command goes on "
            "with it; look first whether memory is enough for it.",
            (),
        )


def _answer(call: Any) -> Ready | Outcome | str:
    """What a worker answered, or why it did not, in a few words."""
    try:
        return ray.get(call)
    except RayActorError:
        return "its process ended"
    except RayTaskError as error:
        return str(error.cause)
    except RayError as error:
        return str(error).partition("\n")[0]
