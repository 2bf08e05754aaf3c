"""Rollouts that stand at any chunk and take turns on one model: rolled there, or put there with made-up K and V."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.shared.host_process import TEXT_DIM, build_model, make_text, model_shape
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import WAN21, latent_size, tokens_per_frame
from headforcing_core.kv_memory.attention import Attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import FittedPolicy, fit_policy
from headforcing_core.policy.head_types import Labels
from headforcing_core.rollout.loop import Chunk, Recipe, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment
from headforcing_core.rollout.told import NOTHING, Told

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CHUNK_FRAMES = 3
FOUR_STEPS = (1.0, 0.9375, 0.83333, 0.625, 0.0)
ONE_STEP = (1.0, 0.0)

RunsModel = Callable[[int], bool]
"""Whether a chunk is made by the model; the others get made-up K and V."""


@dataclass(frozen=True)
class Size:
    """A picture in pixels."""

    width: int
    height: int

    @property
    def latent(self) -> tuple[int, int]:
        """(height, width) of a latent frame."""
        return latent_size(self.width, self.height)

    @property
    def tokens(self) -> int:
        """Tokens per frame."""
        return tokens_per_frame(*self.latent)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Turn:
    """Stands for the KV memory of whichever rollout has its turn while one patched model serves them all."""

    memory: KVMemory

    @property
    def kv_bytes(self) -> int:
        return self.memory.kv_bytes

    def release(self) -> None:
        """Each rollout drops its own memory."""


class Stage:
    """A model on the host, of the labels' layers and heads, and what its rollouts have in common. Without a `model` one
    is built, with texts of width `text_dim`."""

    def __init__(
        self,
        host: ModuleType,
        labels: Labels,
        size: Size,
        text_tokens: int,
        sigmas: tuple[float, ...],
        text_dim: int = TEXT_DIM,
        model: ModelPatcher | None = None,
    ) -> None:
        self.host, self.labels, self.size, self.sigmas = host, labels, size, sigmas
        self.model: ModelPatcher = model or build_model(model_shape(len(labels), len(labels[0])), text_dim)
        self.text = make_text(text_tokens, text_dim)
        self.turn = Turn()
        self.backbone = host.HostBackbone(self.model, 0)
        wan = self.model.model.diffusion_model
        self.device: torch.device = self.model.load_device
        self.dtype: torch.dtype = self.model.model.get_dtype_inference()
        self.head_dim = wan.blocks[0].self_attn.head_dim
        self.rotation: Tensor = wan.rope_encode(CHUNK_FRAMES, *size.latent, device=self.device)

    @contextmanager
    def open(self) -> Iterator[None]:
        """The model reads KV memories inside, and is as before afterwards."""
        with self.backbone.reading(self.turn, 0):
            yield

    def random_kv(self, chunk: int) -> tuple[Tensor, Tensor]:
        """Stand-in for K and V of a chunk, (1, tokens, heads, head_dim) each, of unit size as after norm_k."""
        generator = torch.Generator(self.device).manual_seed(chunk)
        shape = (2, 1, CHUNK_FRAMES * self.size.tokens, len(self.labels[0]), self.head_dim)
        k, v = torch.randn(shape, generator=generator, device=self.device).to(self.dtype).unbind()
        return k, v


class _NoiseForModel:
    """Noise for the chunks that the model makes, nothing for the others, which do not read it."""

    def __init__(self, stage: Stage, runs_model: RunsModel) -> None:
        shape = (1, WAN21.channels, CHUNK_FRAMES, *stage.size.latent)
        self._noise, self._none, self._runs_model = PerChunkNoise(0, shape, pins=True), torch.zeros(shape), runs_model

    def initial(self, chunk: int) -> Tensor:
        return self._noise.initial(chunk) if self._runs_model(chunk) else self._none

    def fresh(self, chunk: int, step: int, like: Tensor) -> Tensor:
        return self._noise.fresh(chunk, step, like) if self._runs_model(chunk) else self._none


class Rolling:
    """A rollout that stands before its next chunk. As the core's Backbone it runs the host's model for the chunks of
    `runs_model`; for the others it only writes K and V, while everything between chunks is the pack's own. These K are
    taken to be rotated already, unless `rotates_all`. Heads that the policy treats alike form one group, as they do in
    the node."""

    def __init__(
        self,
        stage: Stage,
        policy: CachePolicy,
        chunks: int,
        runs_model: RunsModel,
        sigmas: tuple[float, ...] | None = None,
        rotates_all: bool = False,
    ) -> None:
        self._stage = stage
        self._runs_model = runs_model
        self._rotates_all = rotates_all
        self.chunk = 0
        self.attention: Attention = stage.backbone.attention
        self.fitted: FittedPolicy = fit_policy(policy, CHUNK_FRAMES, SELF_FORCING.trained_frames, chunks * CHUNK_FRAMES)
        levels = sigmas or stage.sigmas
        plan = RolloutPlan(self.fitted, chunks, *stage.size.latent, levels, (Segment(0, stage.text),))
        alike = tuple(("memory",) * len(layer) for layer in stage.labels)
        labels = stage.labels if policy.needs_profile else alike
        self.memory = KVMemory(plan.memory_plan(labels), self._attend, self._rotate)
        self._chunks = rollout(self, self.memory, plan, _NoiseForModel(stage, runs_model))

    @property
    def on_card(self) -> bool:
        """Whether it rolls on a graphics card."""
        return self._stage.device.type == "cuda"

    def next(self) -> Chunk:
        """Make the next chunk."""
        with torch.inference_mode():
            made = next(self._chunks)
        self.chunk += 1
        return made

    def go_to(self, chunk: int) -> None:
        """Make all chunks before this one."""
        while self.chunk < chunk:
            self.next()

    def close(self) -> None:
        """End the rollout, which drops its buffers."""
        self._chunks.close()

    def fills_bank(self, made: Chunk) -> bool:
        """Whether a chunk was compressed and read a full episodic bank."""
        episodes = sum(tier == "episode" for _, _, tier in made.seen["memory"])
        return made.index >= self.fitted.compress_from_chunk and episodes == self.fitted.memory.episodes

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: list[list[object]]) -> Tensor:
        if not self._runs_model(self.chunk):
            return recipe(self._fill, noise, sigmas)
        self._stage.turn.memory = self._stage.backbone.memory = self.memory
        return self._stage.backbone.sample(recipe, noise, sigmas, text)

    def _fill(self, x: Tensor, sigma: Tensor, told: Told = NOTHING) -> Tensor:
        missed = self.memory.missed_layers  # once to make the chunk, and once to commit it
        k, v = self._stage.random_kv(self.chunk) if missed else (x, x)
        for layer in missed:
            self.memory.attend(layer, k, k, v, self._stage.rotation)
        return x

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        return self.attention(q, k, v, heads) if self._runs_model(self.chunk) else q

    def _rotate(self, x: Tensor, rotation: Tensor) -> Tensor:
        return self._stage.host.rotate(x, rotation) if self._rotates_all or self._runs_model(self.chunk) else x


def first_chunk_after_full_bank(stage: Stage, policy: CachePolicy, chunks: int, runs_model: RunsModel) -> int:
    """The chunk that follows the first one with a full episodic bank. RuntimeError when the bank does not fill."""
    probe = Rolling(stage, policy, chunks, runs_model)
    try:
        while probe.chunk < chunks:
            if probe.fills_bank(probe.next()):
                return probe.chunk
    finally:
        probe.close()
    raise RuntimeError(
        f"The episodic bank is not full after {chunks} chunks. There is nothing steady to measure. Ask for more chunks."
    )
