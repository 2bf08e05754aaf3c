"""Rollouts of the tiny model by one, and by ranks that are threads."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from side_by_side import Case, planned
from tiny_model import Attend, CoreBackbone, TinyModel
from torch import Tensor

from headforcing_core.cards.exchange import Exchange, Threads
from headforcing_core.cards.head_shares import HeadShares, deal
from headforcing_core.cards.sharded_memory import ShardedMemory
from headforcing_core.kv_memory.attention import Attention, dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.memory_plan import MemoryPlan
from headforcing_core.kv_memory.rollout_memory import RolloutMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.rollout.loop import Chunk, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan

NOTHING = FinishedChunks()


class TinyShare(TinyModel):
    """The tiny model on one rank: its blocks see the rank's own tokens."""

    def __init__(self, model: TinyModel, memory: ShardedMemory) -> None:
        vars(self).update(vars(model))
        self.memory = memory

    def through(self, tokens: Tensor, condition: Tensor, attend: Attend) -> Tensor:
        own = self.memory.own_tokens(tokens)
        if condition.ndim > 1:
            condition = self.memory.own_tokens(condition, dim=0)
        return self.memory.all_tokens(super().through(own, condition, attend))


@dataclass(frozen=True)
class Made:
    """What one rank has made, what it has sent for it, and in how many passes."""

    chunks: list[Chunk]
    sent_bytes: int
    passes: int


@dataclass(frozen=True)
class Group:
    """Ranks that make one film together; `attention` of each."""

    case: Case
    model: TinyModel
    ranks: int
    exact: bool
    memory: type[ShardedMemory] = ShardedMemory
    share: type[TinyShare] = TinyShare
    attention: Callable[[Exchange], Attention] = lambda exchange: dense_attention

    def made(self, finished: FinishedChunks = NOTHING) -> list[Made]:
        """What each of them has made."""
        return Threads(self.ranks).run(lambda exchange: self.on_rank(exchange, finished))

    def on_rank(self, exchange: Exchange, finished: FinishedChunks = NOTHING) -> Made:
        """The part of one."""
        plan = replace(planned(self.case, self.model), finished=finished)
        whole = plan.memory_plan(self.case.labels)
        shares = dealt(whole, self.ranks)
        memory = self.memory(whole, shares, exchange, self.exact, self.attention(exchange), rotate)
        backbone = CoreBackbone(self.share(self.model, memory), memory)
        return Made(rolled(self.case, plan, backbone, memory), exchange.sent_bytes, backbone.passes)


def dealt(plan: MemoryPlan, ranks: int) -> HeadShares:
    """The heads of a plan on so many ranks."""
    return deal(plan.labels, plan.capacity, plan.chunk_frames, ranks)


def alone(case: Case, model: TinyModel, finished: FinishedChunks = NOTHING) -> list[Chunk]:
    """The same film, made by one."""
    plan = replace(planned(case, model), finished=finished)
    memory = KVMemory(plan.memory_plan(case.labels), dense_attention, rotate)
    return rolled(case, plan, CoreBackbone(model, memory), memory)


def rolled(case: Case, plan: RolloutPlan[Tensor], backbone: CoreBackbone, memory: RolloutMemory) -> list[Chunk]:
    """All chunks of a film."""
    return list(rollout(backbone, memory, plan, PerChunkNoise(case.seed, case.chunk_shape)))


def check_same(one: list[Chunk], ranks: list[Made], tolerance: float = 0.0) -> None:
    """That each rank has made what one makes by itself, by the same decisions and choices, and all ranks the same to
    the last bit; and that the past lies once on all of them, where all are given."""
    for chunk, *others in zip(one, *(rank.chunks for rank in ranks), strict=True):
        for other in others:
            assert (other.frames, other.position, other.seen) == (chunk.frames, chunk.position, chunk.seen)
            assert _decided(other, tolerance) == _decided(chunk, tolerance), f"chunk {chunk.index}"
            assert other.latent.equal(others[0].latent), f"chunk {chunk.index} differs from rank to rank"
            assert (other.window is None) == (chunk.window is None)
            if other.window is not None and chunk.window is not None:
                assert (other.window - chunk.window).abs().max() <= tolerance
        assert len(others) == 1 or sum(other.kv_bytes for other in others) == chunk.kv_bytes
        worst = (others[0].latent - chunk.latent).abs().max()
        assert worst <= tolerance, f"chunk {chunk.index} is {worst} away"


def _decided(chunk: Chunk, tolerance: float) -> list[object]:
    """What was decided and chosen; with the numbers by which, where they have to be the same."""
    decisions = [*chunk.prefix_decisions, *chunk.decisions]
    if not tolerance:
        return [decisions, chunk.choice]
    found: list[object] = [(each.frame, each.admitted, each.dropped) for each in decisions]
    return [*found, chunk.choice and (chunk.choice.frames, chunk.choice.candidates, chunk.choice.passes)]
