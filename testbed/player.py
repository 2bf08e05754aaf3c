"""The trained network under the core's rollout: videos of the world by any policy, without the host."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from headforcing_core.families.family import FOUR_STEPS
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import PATCH, WAN21
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.rollout.loop import Chunk, Recipe, rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan, Segment
from headforcing_core.rollout.recall import Choose
from headforcing_core.rollout.told import NOTHING, Told

from .latents import LATENT_SIZE
from .network import CausalWan, rotation
from .prompts import Script
from .text_encoder import Texts


@dataclass(frozen=True)
class NetworkBackbone:
    """The network as a rollout's backbone; a text is (batch, words, text_dim). `half` computes
    matrices and keeps the past in bfloat16."""

    network: CausalWan
    memory: KVMemory
    half: bool = False

    @torch.inference_mode()
    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: Tensor) -> Tensor:
        """Run a recipe with the network in place."""
        kept_as = torch.bfloat16 if self.half else torch.float32

        def predict(x: Tensor, sigma: Tensor, told: Told = NOTHING) -> Tensor:
            turn = _as_matrices(rotation(x.shape[2], x.shape[3] // PATCH, x.shape[4] // PATCH, x.device))

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return self.memory.attend(layer, q.to(kept_as), k.to(kept_as), v.to(kept_as), turn)[0]

            with torch.autocast(x.device.type, torch.bfloat16) if self.half else nullcontext():
                return x - sigma * self.network.chunk_flow(x, sigma, text, attend)

        return recipe(predict, noise, sigmas)


def segments_of(script: Script, texts: Texts, chunk_frames: int, transition: str) -> tuple[Segment[Tensor], ...]:
    """A script as a rollout's segments, of which all take over in one way."""
    return tuple(
        Segment(scene.first_frame // chunk_frames, texts.tokens[texts.index(scene.prompt)][None], transition)
        for scene in script
    )


def play(
    network: CausalWan,
    texts: Texts,
    script: Script,
    seed: int,
    chunks: int,
    chunk_frames: int,
    policy: CachePolicy,
    labels: Sequence[Sequence[str]],
    transition: str = "soft",
    half: bool = False,
    given: Tensor | None = None,
) -> list[Chunk]:
    """Make a video under a script. `given` holds its first chunks in model space, (1, 16, frames, height, width), for
    instance the truth: they are remembered under the script's prompts and not made."""
    segments = segments_of(script, texts, chunk_frames, transition)
    return play_segments(network, segments, Film(seed, chunks, chunk_frames, given), policy, labels, half=half)


@dataclass(frozen=True)
class Film:
    """How long a video gets, by which noise, and what of it is given. `choose` chooses what is recalled in place of a
    look, with the chunks that were made so far."""

    seed: int
    chunks: int
    chunk_frames: int
    given: Tensor | None = None
    choose: Callable[[Sequence[Chunk]], Choose] | None = None


def play_segments(
    network: CausalWan,
    segments: tuple[Segment[Tensor], ...],
    film: Film,
    policy: CachePolicy,
    labels: Sequence[Sequence[str]],
    half: bool = False,
) -> list[Chunk]:
    """Make a video under segments."""
    finished, made = FinishedChunks(), list[Chunk]()
    if film.given is not None:
        ready = film.given.split(film.chunk_frames, dim=2)
        finished = FinishedChunks(len(ready), lambda chunk: ready[chunk])
    choose = film.choose and film.choose(made)
    fitted = fit_policy(policy, film.chunk_frames, SELF_FORCING.trained_frames, film.chunks * film.chunk_frames)
    plan = RolloutPlan(fitted, film.chunks, *LATENT_SIZE, FOUR_STEPS.sigmas, segments, finished=finished, choose=choose)
    memory = KVMemory(plan.memory_plan(labels), dense_attention, rotate)
    noise = PerChunkNoise(film.seed, (1, WAN21.channels, film.chunk_frames, *LATENT_SIZE))
    for chunk in rollout(NetworkBackbone(network, memory, half), memory, plan, noise):
        made.append(chunk)
    return made


def _as_matrices(turn: Tensor) -> Tensor:
    cos, sin = turn.unbind(-1)
    matrix = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return matrix[None, :, None]  # (1, tokens, 1, pairs, 2, 2)
