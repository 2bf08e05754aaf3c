"""Contact sheets of videos that the model makes, above the truth where there is one: to be looked at.

usage: python -m testbed.sheet OUT.png [--weights FILE] [--chunks 7] [--true-chunks 4] [--preset full] [--rope absolute]
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.heads.rules import label_heads
from headforcing_core.policy.presets import PRESETS

from .evaluation_script import CHUNK_FRAMES
from .latents import load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .player import play
from .policies import EVERY_HEAD
from .prompts import training_script
from .text_encoder import load_texts
from .world import World

_COLUMNS = 11


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(prog="python -m testbed.sheet", description=__doc__, allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=MODEL_FILE, help="or the state.safetensors of a training")
    parser.add_argument("--chunks", type=int, default=SELF_FORCING.trained_frames // CHUNK_FRAMES)
    parser.add_argument("--true-chunks", type=int, default=0, help="chunks of the truth that the video begins with")
    parser.add_argument("--preset", default="full", choices=PRESETS)
    parser.add_argument("--rope", default="absolute")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(read_weights(given.weights))
    policy = replace(PRESETS[given.preset], rope=given.rope)
    labels = label_heads(EVERY_HEAD, network.shape.layers, network.shape.heads, None)
    basis, texts = load_basis(), load_texts()
    rows = []
    frames = given.chunks * CHUNK_FRAMES
    step = max(1, math.ceil(frames / _COLUMNS))
    for seed in given.seeds:
        script = training_script(seed, CHUNK_FRAMES, frames)
        truth = world_latent(World(seed, script), range(frames), basis)
        shown = range(0, frames, step)
        given_frames = given.true_chunks * CHUNK_FRAMES
        true = truth[None, :, :given_frames] if given_frames else None
        chunks = play(network, texts, script, seed, given.chunks, CHUNK_FRAMES, policy, labels, half=True, given=true)
        made = torch.cat([chunk.latent for chunk in chunks], dim=2)[0]
        rows += [_strip(basis.pictures(latent[:, list(shown)])) for latent in (truth, made)]
    sheet = (np.concatenate(rows) * 255).round().astype(np.uint8)
    Image.fromarray(sheet).save(given.out)


def _strip(pictures: Tensor) -> np.ndarray:
    gap = torch.ones(pictures.shape[1], 2, 3)
    row = torch.cat([part for picture in pictures.clamp(0, 1) for part in (picture, gap)], dim=1)
    return torch.cat([row, torch.ones(2, row.shape[1], 3)]).numpy()


if __name__ == "__main__":
    main()
