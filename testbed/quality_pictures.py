"""Strips of evaluated videos, one row a policy under the truth, for docs/quality.md.

usage: python -m testbed.quality_pictures RESULTS.jsonl [MORE.jsonl] --folder docs

Of the seeds in the results it takes the one with the middle recall of `paper` for the typical strip, and the one with
the lowest for the worst. Every column is the end of a visit to the place that the film returns to: so the landmarks of
one row should stay the same. Those of the truth are the world's, which a model that begins from nothing cannot know.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from headforcing_core.heads.profile_file import load_profile

from .evaluate import FRAMES, Job, kept_video, pictures_of
from .evaluation_script import evaluation_script
from .head_profile import PROFILE_FILE
from .latents import load_basis, world_latent
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .prompts import Script, prompt_at
from .results_file import read_results
from .statistics import recall
from .world import HEIGHT, WIDTH, World

_SHOWN = ("full", "uniform_21", "uniform", "paper_frames", "paper")
_CHOSEN_BY, _NAMES = "paper", 100


def strips(seed: int, network: CausalWan) -> Image.Image:
    """The videos of a seed."""
    script, profile = evaluation_script(seed, FRAMES), load_profile(PROFILE_FILE)
    world, frames = World(seed, script), ends_of_visits(script)
    rows = {"truth": load_basis().pictures(world_latent(world, range(FRAMES), load_basis()))}
    for name in _SHOWN:
        rows[name] = pictures_of(kept_video(Job(name, seed, FRAMES, keep=True), network, profile))
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


def ends_of_visits(script: Script) -> list[int]:
    """The last frame of each visit to the place where the script is most often, home excepted."""
    places = [prompt_at(script, frame).place for frame in range(FRAMES)]
    ends = [frame for frame in range(FRAMES) if places[frame : frame + 1] != places[frame + 1 : frame + 2]]
    ((visited, _),) = Counter(places[frame] for frame in ends if places[frame] != places[0]).most_common(1)
    return [frame for frame in ends if places[frame] == visited]


def main() -> None:
    """Draw both strips."""
    parser = argparse.ArgumentParser(prog="python -m testbed.quality_pictures", description=__doc__, allow_abbrev=False)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(read_weights(MODEL_FILE))
    lines = [line for path in given.results for line in read_results(path) if line["policy"] == _CHOSEN_BY]
    found = [(recall()(line), line["seed"]) for line in lines]
    chosen = sorted((share, seed) for share, seed in found if share is not None)
    for name, (share, seed) in (("typical", chosen[len(chosen) // 2]), ("worst", chosen[0])):
        in_few_colours = strips(seed, network).quantize(256, kmeans=4, dither=Image.Dither.NONE)
        in_few_colours.save(given.folder / f"quality_{name}.png", optimize=True)
        print(f"{name}: seed {seed}, recall {share:.2f}")


def _picture(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture.clamp(0, 1).numpy() * 255).round().astype(np.uint8))


if __name__ == "__main__":
    main()
