"""What several ranks say while they make a video together, put in order: steps shown once, questions answered alike,
chunks compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from ...headforcing_core.rollout.loop import Chunk, Listeners, Live
from ...headforcing_core.rollout.plan import RolloutPlan
from .job import FINISHED, LIVE, Asked, Made, Message, Prefix, Recalls, Step, answer_of

if TYPE_CHECKING:
    from ..sockets import Conditioning


class CardError(RuntimeError):
    """What ended the work of several cards: why, as a sentence; on which of them, from 0, if on one alone; and whether
    memory ran out there."""

    def __init__(self, why: str, card: int | None = None, is_oom: bool = False) -> None:
        super().__init__(why)
        self.why, self.card, self.is_oom = why, card, is_oom


class Pace(NamedTuple):
    """Seconds that a chunk took, and how many of them a card waited for others on average."""

    chunk: int
    seconds: float
    waited: float


class RankTalk:
    """The ranks of one run. `plan` is complete; `chunk` is the one that is made, those before are kept and shown."""

    def __init__(
        self, ranks: int, plan: RolloutPlan[Conditioning], listeners: Listeners, live: Live[Conditioning]
    ) -> None:
        self.chunk = 0
        self.peak_bytes = [0] * ranks  # by rank, the most that keys and values took
        self.beside_bytes = 0
        self.paces: list[Pace] = []
        self.attentions: list[str] = []
        self._plan, self._listeners, self._live = plan, listeners, live
        self._open: dict[int, Asked] = {}
        self._asked = [0] * ranks  # questions of each rank that are answered
        self._answers: dict[int, tuple[Asked, object]] = {}  # that some ranks have yet to ask for
        self._made: dict[int, Made] = {}

    def take(self, rank: int, message: Message) -> None:
        """A message of a rank. Raises what the listeners raise."""
        if isinstance(message, Asked):
            self._open[rank] = message
        elif isinstance(message, Made):
            self._made[rank] = message
        elif rank == 0:
            self._tell(message)

    def answers(self, put: Callable[[object], object]) -> Iterator[tuple[int, object]]:
        """Ranks whose question can be answered now, with the answer, which was `put` once for all."""
        for rank, asked in list(self._open.items()):
            if asked.what in (LIVE, FINISHED) and asked.number > self.chunk:
                continue  # the chunk before is not kept yet
            del self._open[rank]
            number = self._asked[rank]
            self._asked[rank] += 1
            if number not in self._answers:
                self._answers[number] = asked, put(self._answer(asked))
            known, answer = self._answers[number]
            if known != asked:
                raise _parted(rank, f"asked for {asked} in place of {known}")
            if min(self._asked) > number:
                del self._answers[number]
            yield rank, answer

    def take_chunk(self) -> Chunk | None:
        """The chunk that is made now, once all ranks have made it."""
        if len(self._made) < len(self._asked):
            return None
        made, self._made = self._made, {}
        for rank, other in made.items():
            if _decided(other.chunk) != _decided(made[0].chunk):
                raise _parted(rank, f"decided {_decided(other.chunk)} in place of {_decided(made[0].chunk)}")
            self.peak_bytes[rank] = max(self.peak_bytes[rank], other.chunk.kv_bytes)
        self.beside_bytes = sum(each.chunk_bytes for each in made.values())
        self.attentions = list(made[0].attentions)
        waited = sum(each.waited for each in made.values()) / len(made)
        self.paces.append(Pace(self.chunk, made[0].chunk.seconds, waited))
        return replace(made[0].chunk, kv_bytes=sum(each.chunk.kv_bytes for each in made.values()))

    def _tell(self, message: Message) -> None:
        hear = self._listeners
        if isinstance(message, Step):
            hear.on_step(message.chunk, message.step, torch.empty(0) if message.x0 is None else message.x0)
        elif isinstance(message, Prefix):
            hear.on_prefix(message.done, message.chunks)
        elif isinstance(message, Recalls):
            hear.on_recall(message.chunk)

    def _answer(self, asked: Asked) -> object:
        return self._live(asked.number) if asked.what == LIVE else answer_of(self._plan, asked).cpu()


def _parted(rank: int, what: str) -> CardError:
    why = f"It {what}, and the cards would make two videos. This must not happen: set cards to 1, and report it."
    return CardError(why, rank)


def _decided(chunk: Chunk) -> tuple[object, ...]:
    return chunk.index, chunk.position, chunk.decisions, chunk.prefix_decisions, chunk.choice, chunk.seen
