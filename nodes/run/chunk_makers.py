"""What makes the chunks of a run: the card of this process, or several cards with a process each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias

import comfy.model_management

from ...headforcing_core.files.byte_words import bytes_in_words
from ...headforcing_core.geometry import tokens_per_frame
from ...headforcing_core.kv_memory.memory import KVMemory
from ...headforcing_core.rollout.carried import Carried
from ...headforcing_core.rollout.loop import Chunk, Listeners, Live, rollout
from ...headforcing_core.rollout.noise import Noise
from ...headforcing_core.rollout.plan import RolloutPlan
from ..cards.job import Arrived, job_for, shares_of
from ..cards.rank_talk import CardError, Pace, RankTalk
from ..cards.spread import Spread
from ..host.backbone import HostBackbone, rotate
from ..host.device_memory import free_bytes, free_main_memory, total_bytes
from ..host.model import frame_of_head
from ..keeping.kept_run import KeptRun
from ..request.carried_memory import EndOfRun
from ..request.noise_choice import chunks_before
from .memory_anew import kv_of

if TYPE_CHECKING:
    from ..request.run_cost import RunCost
    from ..sockets import Conditioning
    from .head_labels import RunHeads
    from .video_job import VideoJob

    Plan: TypeAlias = RolloutPlan[Conditioning]
    OnLive: TypeAlias = Live[Conditioning]

_MUCH_LONGER = 3.0  # than the chunk in the middle of all


class ChunkMaker(Protocol):
    """Makes the chunks of one run. `cost` is what a card takes for it, `beside_bytes` what the newest chunk took beside
    the history, `attentions` the names of what has computed; `end` what goes on from the last chunk, if it is to and
    that could be kept, else `gone` says why not."""

    cost: RunCost
    end: EndOfRun | None
    gone: str

    @property
    def attentions(self) -> list[str]: ...

    @property
    def beside_bytes(self) -> int: ...

    def told(self, cost: RunCost) -> str:
        """What the run will take, beside what is there; `cost` is this one's, complete."""
        ...

    def out_of_memory(self, cost: RunCost) -> str:
        """What to say when the memory ran out; asked when all that the run held is gone."""
        ...

    def making(self, plan: Plan, listeners: Listeners, live: OnLive) -> AbstractContextManager[Iterator[Chunk]]:
        """The chunks, each made when it is asked for; on leaving, all that they took is given back."""
        ...


class OneCard:
    """The card of this process."""

    def __init__(self, job: VideoJob, heads: RunHeads, noise: Noise) -> None:
        self.cost = heads.cost
        self.attentions: list[str] = []
        self._job, self._heads, self._noise = job, heads, noise
        self.end: EndOfRun | None = None
        self.gone = job.why_not_kept
        self._memory: KVMemory | None = None

    @property
    def beside_bytes(self) -> int:
        return 0 if self._memory is None else self._memory.chunk_bytes

    def told(self, cost: RunCost) -> str:
        model = self._job.request.model
        total = total_bytes(model)
        return " ".join(filter(None, [cost.told(free_bytes(model), total), cost.warning(total)]))

    def out_of_memory(self, cost: RunCost) -> str:
        return cost.out_of_memory(free_bytes(self._job.request.model))

    @contextmanager
    def making(self, plan: Plan, listeners: Listeners, live: OnLive) -> Iterator[Iterator[Chunk]]:
        backbone = HostBackbone(self._job.request.model, self._job.run.seed_for(0))
        self.attentions = backbone.attentions
        memory = self._memory = KVMemory(self._heads.memory, backbone.attention, rotate)
        if (past := self._job.request.past.memory) is not None:
            memory.take_over(kv_of(past, backbone, self._noise, self.cost.memory_bytes, self._job.status))
        listeners = replace(listeners, on_end=partial(self._end_of_run, memory))
        with backbone.reading(self._memory, self.cost.memory_bytes):
            yield rollout(backbone, memory, plan, self._noise, listeners, live)

    def _end_of_run(self, memory: KVMemory, carried: Carried[Conditioning]) -> None:
        if (past := self._job.request.past.memory) is not None:
            past.kv = None  # held once: who goes on from the same video again makes it anew
        if not self.gone:
            self._keep(memory, carried)

    def _keep(self, memory: KVMemory, carried: Carried[Conditioning]) -> None:
        needed, free = memory.held_bytes, free_main_memory()
        if needed <= free:
            self.end = EndOfRun(carried, memory.hand_over())
            return
        there = f"{bytes_in_words(needed)}, and {bytes_in_words(free)} of main memory were free at the end of its run"
        self.gone = f"it takes {there}"
        note = f"The memory was not kept for the sampler that goes on: it takes {there}."
        self._job.run.notes.append(note)
        self._job.status.warn(note)


class SeveralCards:
    """Cards that are at work for this run, and have its model."""

    def __init__(self, job: VideoJob, heads: RunHeads, spread: Spread, arrived: Sequence[Arrived]) -> None:
        request = job.request
        self._job, self._heads, self._group, self._arrived = job, heads, spread.group, arrived
        self._rooms = [(each.free_bytes, each.total_bytes) for each in arrived]
        self.end: EndOfRun | None = None
        self.gone = job.why_not_kept
        self._failed = ""
        self._talk: RankTalk | None = None
        frame = frame_of_head(request.model, tokens_per_frame(*request.video.latent_size))
        ranks, shares = range(spread.group.cards), shares_of(request.rollout, heads.memory, spread.group.cards)
        self.cost = heads.cost.over(max(shares.plan_of(heads.memory, rank).expected_bytes(frame) for rank in ranks))

    @property
    def attentions(self) -> list[str]:
        return [] if self._talk is None else self._talk.attentions

    @property
    def beside_bytes(self) -> int:
        return 0 if self._talk is None else self._talk.beside_bytes

    def told(self, cost: RunCost) -> str:
        warning = cost.warning(min(total for _, total in self._rooms))
        return " ".join(filter(None, [cost.told_of_cards(self._rooms), warning]))

    def out_of_memory(self, cost: RunCost) -> str:
        return f"{self._failed}{cost.out_of_memory(min(free for free, _ in self._rooms))}"

    @contextmanager
    def making(self, plan: Plan, listeners: Listeners, live: OnLive) -> Iterator[Iterator[Chunk]]:
        run, group, request = self._job.run, self._group, self._job.request
        shape, before = request.video.chunk_shape, chunks_before(request.noise, request.video)
        job = job_for(plan, self._heads.memory, run.seed_for, shape, group.exact, before)
        talk = self._talk = RankTalk(group.cards, plan, listeners, live)
        try:
            with closing(group.chunks(job, talk)) as chunks:
                yield chunks
        except CardError as error:
            self._fail(error, talk.chunk)
        run.notes += [*self._told_of_cards(talk), *told_of_pace(talk.paces, group.cards)]

    def _fail(self, error: CardError, chunk: int) -> NoReturn:
        run = self._job.run
        safe = _safe(max(chunk, run.finished.chunks), isinstance(run, KeptRun))
        lost, cards, chunks = "", self._group.cards, self._job.request.video.chunks
        if error.card is not None:
            lost = f"Card {error.card + 1} of {cards} was lost in chunk {chunk + 1} of {chunks}. "
        if error.is_oom:
            self._failed = f"{lost}{safe} "
            raise comfy.model_management.OOM_EXCEPTION(error.why)
        raise RuntimeError(f"{lost}{error.why} {safe}") from error

    def _told_of_cards(self, talk: RankTalk) -> list[str]:
        names = [each.device for each in self._arrived]
        how = "by the arithmetic of one card" if self._group.exact else "each with its share of the picture"
        took = (f"{bytes_in_words(most)} on card {number}" for number, most in enumerate(talk.peak_bytes, 1))
        notes = [f"Made on {self._group.cards} cards, {how}. Keys and values took {', '.join(took)}."]
        if len(set(names)) > 1:
            notes.append(f"The cards are unlike ({', '.join(names)}): all go by the slowest.")
        return notes


def told_of_pace(paces: Sequence[Pace], cards: int) -> list[str]:
    """Sentences on cards that wait for each other more than they win by it, and on a chunk that took much longer than
    others. The first chunk, in which the model is put on the cards, says nothing."""
    usual = [pace for pace in paces if pace.seconds][1:]
    if not usual:
        return []
    notes: list[str] = []
    waited = sum(pace.waited for pace in usual) / sum(pace.seconds for pace in usual)
    if waited > 1 - 1 / cards:
        notes.append(
            f"The cards waited {waited:.0%} of the time for each other, so one card alone would hardly be slower. Set "
            "cards to 1, or to less than now: their link is slow for this."
        )
    middle, longest = median(pace.seconds for pace in usual), max(usual, key=lambda pace: pace.seconds)
    if longest.seconds > _MUCH_LONGER * middle:
        notes.append(
            f"Chunk {longest.chunk} took {longest.seconds:.1f} s, where {middle:.1f} s is usual: something else was at "
            "work on a card, or its memory was short."
        )
    return notes


@contextmanager
def opened_maker(job: VideoJob, heads: RunHeads, noise: Noise) -> Iterator[ChunkMaker]:
    """What makes the chunks of a run, ready for it."""
    if job.spread is None:
        yield OneCard(job, heads, noise)
        return
    with job.spread.at_work(job.request, job.status) as arrived:
        yield SeveralCards(job, heads, job.spread, arrived)


def _safe(chunks: int, is_kept: bool) -> str:
    if not is_kept:
        return "Nothing is kept of a run without a run_name. Press Run again."
    return f"{chunks} chunks are safe: press Run again to go on from there."
