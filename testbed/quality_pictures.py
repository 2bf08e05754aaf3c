"""Strips of evaluated videos, one row a policy under the truth, for docs/quality.md.

usage: python -m testbed.quality_pictures RESULTS.jsonl docs

Of the seeds in the results it takes the one with the middle recall of `paper` for the typical strip, and the one with
the lowest for the worst. Every row shows the same frames; the truth's landmarks are those of the world, which a model
that begins from nothing cannot know: compare a row with itself.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from headforcing_core.profile import load_profile

from .evaluate import FRAMES, POLICIES, labels_for, make_video, pictures_of, read_results
from .evaluation_script import evaluation_script
from .head_profile import PROFILE_FILE
from .latents import load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .statistics import recalled
from .world import HEIGHT, WIDTH, World

_SHOWN = ("full", "uniform_21", "uniform", "paper", "enhanced")
_CHOSEN_BY, _COLUMNS, _NAMES = "paper", 9, 100


def strips(seed: int, network: CausalWan) -> Image.Image:
    """The videos of a seed."""
    frames = [round(each) for each in np.linspace(0, FRAMES - 1, _COLUMNS)]
    script, profile = evaluation_script(seed, FRAMES), load_profile(PROFILE_FILE)
    rows = {"truth": load_basis().pictures(world_latent(World(seed, script), range(FRAMES), load_basis()))}
    for name in _SHOWN:
        compared = POLICIES[name]
        rows[name] = pictures_of(make_video(network, compared, labels_for(compared.rule, profile), seed, FRAMES))
    image = Image.new("RGB", (_NAMES + _COLUMNS * (WIDTH + 2), 20 + len(rows) * (HEIGHT + 2)), "#FFFFFF")
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
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(read_weights(MODEL_FILE))
    chosen = [
        each for each in read_results(given.results) if each["policy"] == _CHOSEN_BY and recalled(each) is not None
    ]
    chosen.sort(key=lambda each: (recalled(each), each["seed"]))
    for name, line in (("typical", chosen[len(chosen) // 2]), ("worst", chosen[0])):
        strips(line["seed"], network).save(given.folder / f"quality_{name}.png")
        print(f"{name}: seed {line['seed']}, recall {recalled(line):.2f}")


def _picture(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1).numpy() * 255).round().astype(np.uint8))


if __name__ == "__main__":
    main()
