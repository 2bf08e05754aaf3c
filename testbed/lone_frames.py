"""Which frames does the model need to bring back what it saw? Tried on the true past.

usage: python -m testbed.lone_frames [--seeds 0:10] [--weights FILE]

A place is in view for 3 frames. Then the camera pans away and back, or the prompt is elsewhere for a while. (After a
*visit* the place was in view for 9 frames, and not the first one of all, so that no sink holds it.) All frames until
then are the truth; the model goes on when the place returns, and reads a part of them. Prints the share of its
landmarks that are right.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from headforcing_core.heads.rules import label_heads
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers

from .evaluate import seed_range
from .evaluation_script import CHUNK_FRAMES, TRANSITION
from .latents import load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .player import play
from .policies import EVERY_HEAD
from .prompts import Prompt, Scene, Script
from .reading import read_landmark
from .text_encoder import load_texts
from .world import SLOT, WIDTH, World, last_picture

_AT_HOME, _VISIT = 3, 9  # frames before the journey


@dataclass(frozen=True)
class Journey:
    """A script, how many of its frames are given as the truth, and how many there are."""

    script: Script
    true: int
    frames: int


def _pan(frames: int) -> Journey:
    back = _AT_HOME + frames
    script = (Scene(0, Prompt()), Scene(_AT_HOME, Prompt(camera="pans right")), Scene(back, Prompt(camera="pans left")))
    return Journey(script, back + frames - 6, back + frames)  # home is back for 6 frames


def _stay(frames: int) -> Journey:
    back = _AT_HOME + frames
    away = Scene(_AT_HOME, Prompt(place="meadow", camera="pans right"))
    return Journey((Scene(0, Prompt()), away, Scene(back, Prompt())), back, back + CHUNK_FRAMES)


def _visit(frames: int) -> Journey:
    away = _AT_HOME + _VISIT
    first, visited, then = (Prompt(place=place) for place in ("desert", "harbour", "meadow"))
    script = (Scene(0, first), Scene(_AT_HOME, visited), Scene(away, replace(then, camera="pans right")))
    return Journey((*script, Scene(away + frames, visited)), away + frames, away + frames + CHUNK_FRAMES)


def _kept(tiers: Tiers, rope: str, episode: str = "frame") -> CachePolicy:
    others = replace(tiers, episodes=0)  # of which there are none
    return CachePolicy("", others, others, tiers, rope=rope, compress_from_chunk=2, episode=episode)


JOURNEYS = {
    **{f"pan of {frames}": _pan(frames) for frames in (9, 30)},
    **{f"stay of {frames}": _stay(frames) for frames in (9, 30)},
    **{f"visit, stay of {frames}": _visit(frames) for frames in (9, 30)},
}
CASES: Mapping[str, CachePolicy] = {
    "all": replace(PRESETS["full"], rope="absolute"),
    "the last 12": _kept(Tiers(0, 0, 12), "compact"),
    "the last 6": _kept(Tiers(0, 0, 6), "compact"),
    "the first 3 and the last 9, compact": _kept(Tiers(3, 0, 9), "compact"),
    **{
        f"the first {sink} and the last 6, {rope}": _kept(Tiers(sink, 0, 6), rope)
        for sink in (3, 2, 1)
        for rope in ("absolute", "compact", "clamp")
    },
    **{
        f"the first 3, {episodes} and the last 6, {rope}": _kept(Tiers(3, 6, 6), rope, episode)
        for episode, episodes in (("frame", "6 single episodes"), ("chunk", "2 whole chunks"))
        for rope in ("absolute", "compact", "clamp")
    },
}
"""What is read of the true past, and at which positions. `absolute` leaves the trained range in a journey of 30."""


def recall(network: CausalWan, policy: CachePolicy, journey: Journey, seeds: Sequence[int]) -> float:
    """Share of the landmarks in view at the end that come back right, of those out of view in the last true frame."""
    basis, texts = load_basis(), load_texts()
    labels = label_heads(EVERY_HEAD, network.shape.layers, network.shape.heads, None)
    chunks, right = journey.frames // CHUNK_FRAMES, []
    for seed in seeds:
        world = World(seed, journey.script)
        truth = world_latent(world, range(journey.true), basis)[None]
        made = play(
            network,
            texts,
            journey.script,
            seed,
            chunks,
            CHUNK_FRAMES,
            policy,
            labels,
            TRANSITION,
            half=True,
            given=truth,
        )
        pictures = basis.pictures(torch.cat([chunk.latent for chunk in made], dim=2)[0])
        gone = set(world.slots(last_picture(journey.frames - 1))) - set(world.slots(last_picture(journey.true - 1)))
        for frame in range(journey.true, journey.frames):
            places = {slot: world.left_of(slot, last_picture(frame)) for slot in gone}
            whole = {slot: left for slot, left in places.items() if 0 <= left <= WIDTH - SLOT}
            right += [read_landmark(pictures[frame], left) == world.landmark(slot) for slot, left in whole.items()]
    return sum(right) / len(right)


def main() -> None:
    """Print every case."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lone_frames", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=seed_range, default=range(10), metavar="FROM:TO")
    parser.add_argument("--weights", type=Path, default=MODEL_FILE, help="or the state.safetensors of a training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(read_weights(given.weights))
    print(f"| read of the past | {' | '.join(JOURNEYS)} |\n|{' --- |' * (1 + len(JOURNEYS))}")
    for name, policy in CASES.items():
        found = (f"{recall(network, policy, journey, given.seeds):.2f}" for journey in JOURNEYS.values())
        print(f"| {name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
