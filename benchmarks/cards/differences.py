"""What several ranks make beside what one makes, on threads: the small random model of the tests, the pack's own chunk
loop and memory. Differences of a latent value, whose spread is about 1."""

import sys
from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor

from benchmarks.shared.host_process import REPOSITORY
from benchmarks.shared.stage import CHUNK_FRAMES, FOUR_STEPS
from benchmarks.shared.tables import Row, yes

sys.path.insert(0, str(REPOSITORY / "tests" / "core"))
from tiny_model import CHANNELS, Attend, CoreBackbone, TinyModel  # noqa: E402

from headforcing_core.cards.exchange import Exchange, Threads  # noqa: E402
from headforcing_core.cards.head_shares import deal  # noqa: E402
from headforcing_core.cards.sharded_memory import ShardedMemory  # noqa: E402
from headforcing_core.families.self_forcing import SELF_FORCING  # noqa: E402
from headforcing_core.heads.rules import LabelRule, label_heads  # noqa: E402
from headforcing_core.kv_memory.attention import dense_attention  # noqa: E402
from headforcing_core.kv_memory.memory import KVMemory  # noqa: E402
from headforcing_core.kv_memory.rollout_memory import RolloutMemory  # noqa: E402
from headforcing_core.kv_memory.rope import rotate  # noqa: E402
from headforcing_core.policy.fitting import fit_policy  # noqa: E402
from headforcing_core.policy.head_types import Labels  # noqa: E402
from headforcing_core.policy.presets import PRESETS  # noqa: E402
from headforcing_core.rollout.loop import Chunk, rollout  # noqa: E402
from headforcing_core.rollout.noise import PerChunkNoise  # noqa: E402
from headforcing_core.rollout.plan import RolloutPlan, Segment  # noqa: E402

LAYERS, HEADS, HEAD_DIM, CHUNKS, LATENT = 4, 12, 24, 12, (10, 10)
TYPES = {"32 bits": torch.float32, "bfloat16": torch.bfloat16}


class SharedModel(TinyModel):
    """The model on one of several ranks: its blocks see the rank's own tokens."""

    memory: ShardedMemory

    def through(self, tokens: Tensor, condition: Tensor, attend: Attend) -> Tensor:
        memory = self.memory
        given = memory.own_tokens(condition, 0) if condition.dim() == 2 else condition
        return memory.all_tokens(super().through(memory.own_tokens(tokens), given, attend))


def differences(ranks: Sequence[int]) -> list[Row]:
    """A row for each type, number of ranks and way."""
    rows: list[Row] = []
    for name, dtype in TYPES.items():
        alone = _made_alone(dtype)
        for count, exact in product(ranks, (False, True)):
            every = Threads(count).run(partial(_made_on_rank, dtype=dtype, exact=exact))
            way = "exact" if exact else "tokens shared"
            rows.append({"type": name, "ranks": count, "way": way} | _row(alone, every))
    return rows


def _made_alone(dtype: torch.dtype) -> list[Chunk]:
    model = TinyModel(layers=LAYERS, heads=HEADS, head_dim=HEAD_DIM, dtype=dtype)
    plan = _plan(model)
    return _rolled(model, KVMemory(plan.memory_plan(_labels()), dense_attention, rotate), plan)


def _made_on_rank(exchange: Exchange, dtype: torch.dtype, exact: bool) -> list[Chunk]:
    model = SharedModel(layers=LAYERS, heads=HEADS, head_dim=HEAD_DIM, dtype=dtype)
    plan = _plan(model)
    held = plan.memory_plan(_labels())
    shares = deal(held.labels, held.capacity, CHUNK_FRAMES, exchange.ranks)
    model.memory = ShardedMemory(held, shares, exchange, exact, dense_attention, rotate)
    return _rolled(model, model.memory, plan)


def _labels() -> Labels:
    return label_heads(LabelRule("random"), LAYERS, HEADS, None)


def _plan(model: TinyModel) -> RolloutPlan[Tensor]:
    fitted = fit_policy(PRESETS["paper"], CHUNK_FRAMES, SELF_FORCING.trained_frames, CHUNKS * CHUNK_FRAMES)
    return RolloutPlan(fitted, CHUNKS, *LATENT, FOUR_STEPS, (Segment(0, model.text(0)),))


def _rolled(model: TinyModel, memory: RolloutMemory, plan: RolloutPlan[Tensor]) -> list[Chunk]:
    noise = PerChunkNoise(5, (1, CHANNELS, CHUNK_FRAMES, *LATENT))
    with torch.inference_mode():
        return list(rollout(CoreBackbone(model, memory), memory, plan, noise))


def _row(alone: Sequence[Chunk], every: Sequence[Sequence[Chunk]]) -> Row:
    apart = [float((a.latent - b.latent).abs().max()) for a, b in zip(alone, every[0], strict=True)]
    decided = [[(d.frame, d.admitted, d.dropped) for chunk in chunks for d in chunk.decisions] for chunks in every]
    expected = [(d.frame, d.admitted, d.dropped) for chunk in alone for d in chunk.decisions]
    same = all(torch.equal(a.latent, b.latent) for chunks in every for a, b in zip(every[0], chunks, strict=True))
    return {
        "first chunk": f"{apart[0]:.1e}",
        f"all {len(apart)} chunks": f"{max(apart):.1e}",
        "decisions as on one": yes(all(each == expected for each in decided)),
        "ranks agree to the last bit": yes(same),
    }
