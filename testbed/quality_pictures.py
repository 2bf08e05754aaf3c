"""Strips of evaluated videos, one row a policy under the truth, for docs/quality.md.

usage: python -m testbed.quality_pictures RESULTS.jsonl [MORE.jsonl] --folder docs

Of the seeds in the results it takes the one with the middle recall of `paper` for the typical strip, and the one with
the lowest for the worst. Every column is a moment at home, before or after a journey, and the last one the end: so the
landmarks of one row should stay the same. Those of the truth are the world's, which a model that begins from nothing
cannot know.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from headforcing_core.profile import load_profile

from .evaluate import FRAMES, kept_video, pictures_of, read_results
from .evaluation_script import evaluation_script
from .head_profile import PROFILE_FILE
from .latents import load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .statistics import recalled_where
from .world import HEIGHT, WIDTH, World, last_picture

_SHOWN = ("full", "uniform_21", "uniform", "paper", "enhanced")
_CHOSEN_BY, _NAMES = "paper", 100


def strips(seed: int, network: CausalWan) -> Image.Image:
    """The videos of a seed."""
    script, profile = evaluation_script(seed, FRAMES), load_profile(PROFILE_FILE)
    world = World(seed, script)
    home = [frame for frame in range(FRAMES) if world.camera(last_picture(frame)) == 0]
    frames = [frame for frame, after in pairwise([*home, FRAMES + 1]) if after > frame + 1]
    rows = {"truth": load_basis().pictures(world_latent(world, range(FRAMES), load_basis()))}
    for name in _SHOWN:
        rows[name] = pictures_of(kept_video(name, seed, FRAMES, network, profile))
    image = Image.new("RGB", (_NAMES + len(frames) * (WIDTH + 2), 20 + len(rows) * (HEIGHT + 2)), "#FFFFFF")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for column, frame in enumerate(frames):
        pen.text((_NAMES + column * (WIDTH + 2), 2), f"frame {frame}", fill="#1A1A1A", font=font)
    for row, (name, pictures) in enumerate(rows.items()):
        y = 20 + row * (HEIGHT + 2)
        pen.text((4, y + HEIGHT // 2), name, fill="#1A1A1A", font=font, anchor="lm")
        for column, frame in enumerate(frames):
            image.paste(_picture(pictures[frame]), (_NAMES + column * (WIDTH + 2), y))
    return image


def main() -> None:
    """Draw both strips."""
    parser = argparse.ArgumentParser(prog="python -m testbed.quality_pictures", description=__doc__, allow_abbrev=False)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(read_weights(MODEL_FILE))
    lines = [line for path in given.results for line in read_results(path) if line["policy"] == _CHOSEN_BY]
    found = [(recalled_where()(line), line["seed"]) for line in lines]
    chosen = sorted((recall, seed) for recall, seed in found if recall is not None)
    for name, (recall, seed) in (("typical", chosen[len(chosen) // 2]), ("worst", chosen[0])):
        strips(seed, network).save(given.folder / f"quality_{name}.png")
        print(f"{name}: seed {seed}, recall {recall:.2f}")


def _picture(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1).numpy() * 255).round().astype(np.uint8))


if __name__ == "__main__":
    main()
