"""Which keys tell places apart? Frames of one place against frames of two, by what the episodic memory looks at.

usage: python -m testbed.likeness [--seeds 0:4]

The truth of the evaluation's scripts is committed chunk by chunk under a plain window. Middle frames of chunks that
are 12 frames or more apart are compared by the keys of memory heads, as the episodes of the core are. Prints, for each
layer, some sets of layers and two ways to pool the picture, how often two frames of one place are more alike than two
frames of different places (1: always, 0.5: by chance), and how novel they are to one another.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from headforcing_core.families.family import FOUR_STEPS
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import PATCH
from headforcing_core.heads.profile_file import load_profile
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.episodes import describe, descriptor_layers, similarity
from headforcing_core.rollout.loop import rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import FinishedChunks, RolloutPlan

from .evaluate import FRAMES, labels_for, seed_range
from .evaluation_script import CHUNK_FRAMES, TRANSITION, evaluation_script
from .head_profile import PROFILE_FILE
from .latents import LATENT_SIZE, load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .player import NetworkBackbone, segments_of
from .policies import MEASURED
from .prompts import prompt_at
from .text_encoder import load_texts
from .world import World

Describe = Callable[[Tensor, int, int], Tensor]
"""(keys (frames, tokens, heads, head_dim), height, width) -> (frames, cells, head_dim), each cell of length 1."""
_APART = 12  # frames
_TOKENS = LATENT_SIZE[0] // PATCH, LATENT_SIZE[1] // PATCH


def middle_keys(network: CausalWan, seed: int) -> list[Tensor]:
    """Keys of the middle frames of a true video's chunks, a tensor a layer: (chunks, tokens, memory heads, head_dim);
    of all heads where a layer has no memory heads."""
    script, texts = evaluation_script(seed, FRAMES), load_texts()
    truth = world_latent(World(seed, script), range(FRAMES), load_basis())[None].split(CHUNK_FRAMES, dim=2)
    labels = labels_for(MEASURED, load_profile(PROFILE_FILE), seed)
    layers = range(len(labels))
    segments = segments_of(script, texts, CHUNK_FRAMES, TRANSITION)
    finished = FinishedChunks(len(truth), lambda chunk: truth[chunk])
    policy = fit_policy(PRESETS["uniform_21"], CHUNK_FRAMES, SELF_FORCING.trained_frames, FRAMES)
    plan = RolloutPlan(policy, len(truth), *LATENT_SIZE, FOUR_STEPS.sigmas, segments, finished=finished)
    memory = KVMemory(replace(plan.memory_plan(labels), capture=tuple(layers)), dense_attention, rotate)
    noise = PerChunkNoise(seed, tuple(truth[0].shape))
    backbone = NetworkBackbone(network, memory, half=True)
    found: list[list[Tensor]] = [[] for _ in layers]
    for chunk in rollout(backbone, memory, plan, noise):
        if chunk.index == plan.chunks - 1:
            break  # the last one is not committed
        for layer in layers:
            heads = [head for head, label in enumerate(labels[layer]) if label == "memory"]
            keys = memory.captured_keys(layer)[0, CHUNK_FRAMES // 2].float()
            found[layer].append(keys[:, heads] if heads else keys)
    return [torch.stack(each) for each in found]


def cells(keys: Tensor, height: int, width: int) -> Tensor:
    """Like the core's `describe`, but in 6 x 8 cells."""
    picture = keys.mean(dim=2).unflatten(1, (height, width)).permute(0, 3, 1, 2)
    return normalize(adaptive_avg_pool2d(picture, (6, 8)).flatten(2).transpose(1, 2), dim=-1)


POOLED: Mapping[str, Describe] = {"6 x 8 cells": cells, "6 rows": describe}


def described(keys: Sequence[Tensor], layers: Sequence[int], pool: Describe) -> Tensor:
    """Frames described by the keys of these layers: (chunks, layers, cells, head_dim)."""
    return torch.stack([pool(keys[layer], *_TOKENS) for layer in layers], dim=1)


def places_of(seed: int, chunks: int) -> list[str]:
    """The places of so many chunks."""
    script = evaluation_script(seed, FRAMES)
    return [prompt_at(script, CHUNK_FRAMES * chunk).place for chunk in range(chunks)]


def telling(frames: Tensor, places: Sequence[str]) -> tuple[float, float, float]:
    """How often two frames of a place are more alike than two of different ones, and the mean novelty of both kinds.
    `frames` are (chunks, layers, cells, head_dim)."""
    novelties: dict[bool, list[float]] = {True: [], False: []}
    for one, other in combinations(range(len(frames)), 2):
        if (other - one) * CHUNK_FRAMES >= _APART:
            alike = similarity(frames[one], frames[other])
            novelties[places[one] == places[other]].append(1 - alike)
    same, different = torch.tensor(novelties[True]), torch.tensor(novelties[False])
    return (
        (same[:, None] < different).float().mean().item(),
        same.mean().item(),
        different.mean().item(),
    )


def main() -> None:
    """Print a row for every layer and set of layers."""
    parser = argparse.ArgumentParser(prog="python -m testbed.likeness", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=seed_range, default=range(4), metavar="FROM:TO")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(read_weights(MODEL_FILE))
    layers = network.shape.layers
    keys = {seed: middle_keys(network, seed) for seed in given.seeds}
    thirds = tuple(sorted({layers // 3, layers // 2, 2 * layers // 3}))
    print(
        f"| layers | {' | '.join(f'{name} | same | other' for name in POOLED)} |\n|{' --- |' * (1 + 3 * len(POOLED))}"
    )
    for chosen in [(layer,) for layer in range(layers)] + [thirds, descriptor_layers(layers)]:
        row: list[str] = []
        for pool in POOLED.values():
            rows = [
                telling(described(each, chosen, pool), places_of(seed, len(each[0]))) for seed, each in keys.items()
            ]
            share, same, different = torch.tensor(rows).mean(dim=0).tolist()
            row += [f"{share:.2f}", f"{same:.3f}", f"{different:.3f}"]
        print(f"| {', '.join(map(str, chosen))} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
