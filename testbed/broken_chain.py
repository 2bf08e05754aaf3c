"""Which frames does the model need to bring back what it saw? Tried within the trained range, on the true past.

usage: python -m testbed.broken_chain [--seeds 0:10]

The camera stays at home for 3 frames, pans away for 9 and comes back. The first 15 frames are the truth; then the model
goes on while home comes into view again, and reads a part of them. Prints the share of home's landmarks that are right.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from headforcing_core.policy import PRESETS, CachePolicy, Tiers
from headforcing_core.rules import label_heads

from .evaluate import seed_range
from .evaluation_script import CHUNK_FRAMES
from .latents import load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .player import play
from .policies import EVERY_HEAD
from .prompts import Prompt, Scene
from .reading import read_landmark
from .statistics import HOME_SLOTS
from .text_encoder import load_texts
from .world import SLOT, WIDTH, World, last_picture

_SCRIPT = (Scene(0, Prompt()), Scene(3, Prompt(camera="pans right")), Scene(12, Prompt(camera="pans left")))
_TRUE_FRAMES, _FRAMES = 15, 21


def _kept(tiers: Tiers, rope: str) -> CachePolicy:
    return CachePolicy("", tiers, tiers, tiers, rope=rope, compress_from_chunk=_TRUE_FRAMES // CHUNK_FRAMES)


CASES: Mapping[str, CachePolicy] = {
    "all 15": replace(PRESETS["full"], rope="absolute"),
    "the last 12": _kept(Tiers(0, 0, 12), "absolute"),
    "the last 9": _kept(Tiers(0, 0, 9), "absolute"),
    "the last 6": _kept(Tiers(0, 0, 6), "absolute"),
    **{
        f"the first 3 and the last {recent}, {rope}": _kept(Tiers(3, 0, recent), rope)
        for recent in (9, 6)
        for rope in ("absolute", "compact", "clamp")
    },
}
"""What is read of the true past. Positions `absolute` are the true ones here, within the trained range."""


def recall(network: CausalWan, policy: CachePolicy, seeds: Sequence[int]) -> float:
    """Share of home's landmarks that come back right, of those out of view in the last true frame."""
    basis, texts = load_basis(), load_texts()
    labels = label_heads(EVERY_HEAD, network.shape.layers, network.shape.heads, None)
    right = []
    for seed in seeds:
        world = World(seed, _SCRIPT)
        truth = world_latent(world, range(_TRUE_FRAMES), basis)[None]
        length = _FRAMES // CHUNK_FRAMES
        chunks = play(
            network, texts, _SCRIPT, seed, length, CHUNK_FRAMES, policy, labels, "recache", half=True, given=truth
        )
        pictures = basis.pictures(torch.cat([chunk.latent for chunk in chunks], dim=2)[0])
        gone = set(HOME_SLOTS) - set(world.slots(last_picture(_TRUE_FRAMES - 1)))
        for frame in range(_TRUE_FRAMES, _FRAMES):
            places = {slot: slot * SLOT - world.camera(last_picture(frame)) for slot in gone}
            whole = {slot: left for slot, left in places.items() if 0 <= left <= WIDTH - SLOT}
            right += [read_landmark(pictures[frame], left) == world.landmark(slot) for slot, left in whole.items()]
    return sum(right) / len(right)


def main() -> None:
    """Print every case."""
    parser = argparse.ArgumentParser(prog="python -m testbed.broken_chain", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=seed_range, default=range(10), metavar="FROM:TO")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    network = network_of(read_weights(MODEL_FILE))
    for name, policy in CASES.items():
        print(f"| {name} | {recall(network, policy, seeds):.2f} |", flush=True)


if __name__ == "__main__":
    main()
