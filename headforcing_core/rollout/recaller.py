"""What memory heads recall at a chunk: when it is settled, by what, and what the model goes through for it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..kv_memory.rollout_memory import RolloutMemory
from .history import History
from .passes import Recall, Recalled, not_finite
from .plan import RolloutPlan
from .recall import Choice


class Recaller:
    """Settles what is recalled, chunk by chunk: as recorded for finished chunks, else by the plan's own `choose`, else
    by a look. `made` are the latents of the chunks so far, where the plan cannot read them. `choice` is that of the
    chunk last begun, None if nothing was to be chosen there. Under other policies it does nothing."""

    def __init__(self, history: History, plan: RolloutPlan[Any], grid: tuple[int, int], made: Sequence[Tensor]) -> None:
        self._history, self._grid, self._plan, self._made = history, grid, plan, made
        self._finished, self._choose = plan.finished.chunks, plan.choose
        self._recorded = plan.finished.choices
        self.choice: Choice | None = None

    def fall_asleep(self, chunk: int, settles: bool) -> None:
        """From a change on nothing is read as an episode until it is chosen: before a new text takes over."""
        self.choice = None
        if self._history.recall is not None:
            self._history.recall.asleep = self._is_due(chunk, settles)

    def recall(self, chunk: int, settles: bool, far: bool) -> Recall | None:
        """How it is settled for a chunk what is recalled, once its text is in force; None when that stays as it is.
        RuntimeError when that is lost for a finished chunk."""
        if self._history.recall is None:
            return None
        if not self._is_due(chunk, settles):
            self._check_none_is_lost(chunk, settles)
            return None
        looks = chunk >= self._finished and self._choose is None
        looks = looks and len(self._history.candidates(chunk)) > 1  # one alone is recalled without
        return Recall(looks, lambda memory: self._recalled(chunk, far, looks, memory))

    def _is_due(self, chunk: int, settles: bool) -> bool:
        if chunk < self._finished:
            return chunk in (self._recorded or {})
        return self._history.recall_is_due(chunk, settles)

    def _check_none_is_lost(self, chunk: int, settles: bool) -> None:
        """Views are not looked at: on another machine they may come out by a hair otherwise."""
        is_expected = chunk < self._finished and self._recorded is not None
        if is_expected and self._history.recall_is_due(chunk, settles, by_view=False):
            raise RuntimeError(
                f"What chunk {chunk} recalled of the past is not recorded, though the chunk is finished. The chunks "
                "still to be made would go on from another past. Put a good copy of journal.jsonl back, or make the "
                "run anew."
            )

    def _recalled(self, chunk: int, far: bool, looks: bool, memory: RolloutMemory) -> Recalled:
        history = self._history
        recorded = (self._recorded or {}).get(chunk) if chunk < self._finished else None
        candidates = history.candidates(chunk)
        all_likeness: Sequence[float] = [1.0] * len(candidates)
        if recorded is not None:
            chosen = history.numbers_of(chunk, recorded.frames)
        elif self._choose is not None:
            starts = [history.chunks[number].start for number in candidates]
            chosen = history.numbers_of(chunk, self._choose(chunk, starts))
        elif looks:
            assert history.recall is not None
            chosen, all_likeness = history.recall.choose(candidates, history.describe(memory, self._grid))
            if not all(map(math.isfinite, all_likeness)):
                raise not_finite(chunk)
        else:
            chosen = list(candidates)
        likeness = dict(zip(candidates, all_likeness, strict=True))
        again = history.load(chunk, chosen, self._latent)
        self.choice = recorded or Choice(
            tuple(history.chunks[number].start for number in chosen),
            tuple(likeness[number] for number in chosen),
            len(candidates),
            looks + len(again.commits) + (self._plan.steps_of(chunk).count == 1 and bool(chosen)),
            min(all_likeness, default=0.0),
            max(all_likeness, default=0.0),
        )
        layout = history.layout(chunk, history.policy.chunk_frames, far)
        return Recalled(again, layout, bool(chosen))

    def recallable(self, last: Tensor) -> tuple[Tensor, ...]:
        """The clean latents of all committed chunks and of the last one, for a rollout that goes on from here and may
        recall them."""
        if self._history.recall is None:
            return ()
        there = () if self._plan.carried is None else self._plan.carried.recallable
        later = map(self._latent, range(len(there), len(self._history.chunks)))
        return (*there, *(latent.to("cpu", torch.float32, copy=True) for latent in later), last)

    def _latent(self, number: int) -> Tensor:
        """The clean latent of a committed chunk, by its number from the first of the prefix on."""
        own, plan = self._history.chunks[number], self._plan
        if plan.carried is not None and number < len(plan.carried.recallable):
            return plan.carried.recallable[number]
        if plan.prefix is not None and own.start < plan.prefix_frames:
            return plan.prefix[:, :, own.start : own.stop]
        chunk = (own.start - plan.prefix_frames) // plan.policy.chunk_frames
        return self._made[chunk] if plan.read is None else plan.read(chunk)
