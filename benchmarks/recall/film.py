"""A film that returns to its scenes, made by the policy recall on the host, and what each look in it saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.recall.telling import Look
from benchmarks.shared.host_process import pack_module
from benchmarks.shared.stage import Size
from benchmarks.shared.tables import say
from headforcing_core.families.family import CONCAT
from headforcing_core.geometry import latent_size, tokens_per_frame
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.policy.family_presets import for_family
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.head_types import Labels
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.loop import rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment
from headforcing_core.rollout.recall import RecallMemory

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

_STRETCH = 9  # frames under one prompt, three chunks at least: the first of them leaves the recent frames meanwhile
_TRANSITION = "recache"


@dataclass(frozen=True)
class Film:
    """A film to be made: a prompt a stretch, and an equal one for a scene that it returns to. ValueError when there is
    none."""

    prompts: Sequence[str]
    size: Size
    labels: Labels
    seed: int = 0

    def __post_init__(self) -> None:
        scenes = self.scenes
        if not any(there in scenes[:before] and there != scenes[before] for before, there in enumerate(scenes[1:])):
            raise ValueError(
                f"The film has the scenes {self.script}, and returns to none of them. Nothing can be told without a "
                "scene that was left and comes again. Write at least three prompts, one a line, of which one is there "
                "again after another."
            )

    @property
    def script(self) -> str:
        """The scenes in their order, by letters."""
        return " ".join(chr(ord("A") + scene) for scene in self.scenes)

    @property
    def scenes(self) -> tuple[int, ...]:
        """Which scene each stretch shows: the place of its prompt among the different ones."""
        known = list(dict.fromkeys(self.prompts))
        return tuple(known.index(prompt) for prompt in self.prompts)


def looks_of(model: ModelPatcher, clip: CLIP, film: Film) -> list[Look]:
    """Make a film and give what was seen in it: at every change, how alike the look is to each chunk that might be
    recalled, by the keys of every layer. What is recalled in the film itself goes by the prompts, so that a wrong
    choice does not spoil what is measured after it. ValueError for a model that is given a
    picture beside every chunk, or makes videos of others alone."""
    host, of_host = pack_module("host.backbone"), pack_module("host.model")
    facts, layers = of_host.facts_of(model), range(len(film.labels))
    n, family = facts.chunk_frames, facts.record
    if family.image == CONCAT or family.needs_video:
        given = "a video to make another one of" if family.needs_video else "a picture beside every chunk"
        raise ValueError(
            f"The model is of family {facts.family}, which is given {given}. A film of several places is made of "
            "prompts alone here. Measure another checkpoint."
        )
    size = latent_size(film.size.width, film.size.height, family.space)
    each = max(3, _STRETCH // n)
    chunks = each * len(film.prompts)
    texts = {prompt: clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in dict.fromkeys(film.prompts)}
    segments = tuple(
        Segment(each * stretch, texts[prompt], _TRANSITION, prompt=prompt)
        for stretch, prompt in enumerate(film.prompts)
        if stretch == 0 or prompt != film.prompts[stretch - 1]
    )
    policy = for_family(replace(PRESETS["recall"], compress_from_chunk=1), n, family)
    fitted = fit_policy(policy, n, facts.trained_frames, n * chunks).recalling(tuple(layers), None)
    plan = RolloutPlan(
        fitted,
        chunks,
        *size,
        family.steps.sigmas,
        segments,
        first=family.steps_of_first(0, continues=False),
        timesteps=family.steps.timesteps,
        solver=family.solver,
    )
    backbone = host.HostBackbone(model, film.seed)
    memory = KVMemory(plan.memory_plan(film.labels), backbone.attention, host.rotate)
    expected = memory.plan.expected_bytes(of_host.frame_of_head(model, tokens_per_frame(*size)))
    noise = PerChunkNoise(film.seed, (1, family.space.channels, n, *size))
    scenes = [scene for scene in film.scenes for _ in range(each)]
    with torch.inference_mode(), _recorded(scenes) as looks, backbone.reading(memory, expected):
        for chunk in rollout(backbone, memory, plan, noise):
            if (chunk.index + 1) % each == 0:
                say(f"  {chunk.index + 1} of {chunks} chunks, {len(looks)} looks")
    return looks


@contextmanager
def _recorded(scenes: Sequence[int]) -> Iterator[list[Look]]:
    """Inside, every look is noted. `scenes` says which scene each chunk shows."""
    looks: list[Look] = []

    def choose(memory: RecallMemory, candidates: range, present: Tensor) -> tuple[list[int], list[float]]:
        past = torch.stack([memory.remembered[chunk] for chunk in candidates]).unflatten(1, present.shape)
        likeness = (past * present).sum(dim=-1).mean(dim=-1).T
        here = scenes[memory.remembered.count]
        same = tuple(scenes[chunk] == here for chunk in candidates)
        looks.append(Look(memory.remembered.count, same, likeness, memory.size))
        right = [chunk for chunk in candidates if scenes[chunk] == here]
        return right[-memory.size :], likeness.mean(dim=0).tolist()

    with patch.object(RecallMemory, "choose", choose):
        yield looks
