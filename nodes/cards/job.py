"""What crosses between the page's process and a card's: a run to make, and what is said while it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import comfy.model_management
from torch import Tensor

from ...headforcing_core.cards.head_shares import HeadShares, deal
from ...headforcing_core.kv_memory.memory_plan import MemoryPlan
from ...headforcing_core.rollout.loop import Chunk
from ...headforcing_core.rollout.plan import RolloutPlan

if TYPE_CHECKING:
    from ..sockets import Conditioning

_NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # PyTorch's words where the processor is the card
LIVE, FINISHED, WINDOW, READ, SOURCE = "live", "finished", "window", "read", "source"


@dataclass(frozen=True)
class Job:
    """A run for several ranks. `plan` is what to make, without what only the page's process can answer; `asks` says for
    which latents it is asked beside those of finished chunks; `memory` is for all heads; `seeds` has one of every
    chunk, `chunks_before` says how many of their noise lie before the first. `exact`: by the same arithmetic as on one
    card."""

    plan: RolloutPlan[Conditioning]
    asks: frozenset[str]
    memory: MemoryPlan
    seeds: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    exact: bool
    chunks_before: int


@dataclass(frozen=True)
class Step:
    """A denoising step was made. `x0` is the clean chunk as rank 0 sees it, float32 on the CPU; of other ranks None."""

    chunk: int
    step: int
    x0: Tensor | None


@dataclass(frozen=True)
class Prefix:
    """So many of the chunks before the first one are committed."""

    done: int
    chunks: int


@dataclass(frozen=True)
class Recalls:
    """It is being settled what a chunk recalls."""

    chunk: int


@dataclass(frozen=True)
class Asked:
    """A question, on which the rank waits. Every rank has the same ones in the same order. `what` and its `number`:

    live      segment (or None) that begins on this chunk beyond those of the plan
    finished  latent of this chunk, which was made before
    window    noisy frames that stand behind this finished chunk
    read      latent of this chunk, as it was made; any that was told by `Made` before
    source    clean latent of the video that this chunk is made of

    `live` comes before every later chunk that is made, `finished` before every chunk that is not: answered once the
    chunk before is kept and shown, both hold the ranks back until then.
    """

    what: str
    number: int


@dataclass(frozen=True)
class Made:
    """A chunk is finished; its latent and window are those of rank 0, empty and None from others. `chunk_bytes` is what
    this rank's memory takes beside the history, `attentions` the names of what has computed there, `waited` the seconds
    in which it exchanged tensors with others, or waited for that."""

    chunk: Chunk
    chunk_bytes: int
    attentions: tuple[str, ...]
    waited: float = 0.0


Message: TypeAlias = Step | Prefix | Recalls | Asked | Made


@dataclass(frozen=True)
class Arrived:
    """A rank that has loaded the model: its device by name, the bytes there, free and in all, and what decides about
    bits in its process by name, as `deciding_about_bits` has it."""

    device: str
    free_bytes: int
    total_bytes: int
    decides: Mapping[str, str]


class RankError(RuntimeError):
    """What went wrong in a rank's process, whatever its class was there: the name of that class, what it said, and
    whether memory ran out."""

    def __init__(self, kind: str, sentence: str, is_oom: bool) -> None:
        super().__init__(kind, sentence, is_oom)
        self.kind, self.sentence, self.is_oom = kind, sentence, is_oom

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"

    @property
    def is_cancel(self) -> bool:
        """Whether the rank ended because it was cancelled."""
        return self.kind == InterruptedError.__name__


def told(error: Exception) -> RankError:
    """An error of this process as another one can read it."""
    sentence = str(error) or type(error).__name__
    is_oom = isinstance(error, MemoryError) or bool(comfy.model_management.is_oom(error)) or _NO_MEMORY in sentence
    return RankError(type(error).__name__, sentence, is_oom)


def job_for(
    plan: RolloutPlan[Conditioning],
    memory: MemoryPlan,
    seed_for: Callable[[int], int],
    chunk_shape: tuple[int, ...],
    exact: bool,
    chunks_before: int = 0,
) -> Job:
    """A run as it travels. `plan` is complete, as one process would go by it; `seed_for` gives the seed of a chunk."""
    asks = {name for name, read in ((READ, plan.read), (SOURCE, plan.source)) if read is not None}
    finished = replace(plan.finished, read=_elsewhere, window=_elsewhere)
    seeds = tuple(seed_for(chunk) for chunk in range(plan.chunks))
    plan = replace(plan, finished=finished, read=None, source=None)
    return Job(plan, frozenset(asks), memory, seeds, chunk_shape, exact, chunks_before)


def shares_of(plan: RolloutPlan[Conditioning], memory: MemoryPlan, ranks: int) -> HeadShares:
    """Which rank has which heads of a run."""
    frames = {name: plan.policy.tiers(name).frames for name in memory.capacity}
    return deal(memory.labels, frames, plan.policy.chunk_frames, ranks)


def answer_of(plan: RolloutPlan[Conditioning], asked: Asked) -> Tensor:
    """What a complete plan answers to a question for a latent."""
    finished = plan.finished
    readers: dict[str, Callable[[int], Tensor] | None] = {
        FINISHED: finished.read,
        WINDOW: finished.window,
        READ: plan.read,
        SOURCE: plan.source,
    }
    reader = readers[asked.what]
    assert reader is not None
    return reader(asked.number)


def plan_with(job: Job, ask: Callable[[str, int], Tensor]) -> RolloutPlan[Conditioning]:
    """The plan of a job in the rank's process, where latents are asked for."""

    def asking(what: str) -> Callable[[int], Tensor]:
        return lambda number: ask(what, number)

    return replace(
        job.plan,
        finished=replace(job.plan.finished, read=asking(FINISHED), window=asking(WINDOW)),
        read=asking(READ) if READ in job.asks else None,
        source=asking(SOURCE) if SOURCE in job.asks else None,
    )


def _elsewhere(chunk: int) -> Tensor:
    raise LookupError(f"chunk {chunk} is not in this process")
