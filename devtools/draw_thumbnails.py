"""Draw the thumbnails of the shipped workflows: sheets of pictures of the small world (testbed/README.md), in the order
of a film, by which the page's template browser tells them apart.

Run it, with names of workflows for those alone: python dev.py run -- python -m devtools.draw_thumbnails [NAME ...]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from PIL import Image

from testbed.prompts import COLOURS, PLACES, SHAPES, SKIES, Prompt, Scene
from testbed.world import World

from .paths import REPOSITORY

_WORKFLOWS = REPOSITORY / "workflows"
_SIZE, _GAP, _DARK = 480, 6, (20, 22, 28)
_SCENE_FRAMES = 9  # of the latent; three chunks


@dataclass(frozen=True)
class Sheet:
    """Pictures of one film: its scenes, how many stand in a row and how many rows there are. `dim` of them, from the
    first (or the last, if negative), are pale: they were there before, or are not there yet. `beside` is a second
    film whose right halves stand in the pictures."""

    scenes: tuple[Prompt, ...]
    across: int = 2
    down: int = 4
    dim: int = 0
    beside: tuple[Prompt, ...] = ()

    def film(self, scenes: tuple[Prompt, ...], seed: int) -> list[Image.Image]:
        """As many pictures as the sheet has, evenly over the scenes."""
        world = World(seed, tuple(Scene(_SCENE_FRAMES * number, each) for number, each in enumerate(scenes)))
        count = self.across * self.down
        last = 4 * _SCENE_FRAMES * len(scenes) - 4
        drawn = [world.picture(round(number * last / count) + 8) for number in range(count)]
        return [Image.fromarray((picture * 255).astype(np.uint8)) for picture in drawn]

    def draw(self, seed: int) -> Image.Image:
        """The sheet."""
        pictures = self.film(self.scenes, seed)
        if self.beside:
            for picture, other in zip(pictures, self.film(self.beside, seed), strict=True):
                half = picture.width // 2
                picture.paste(other.crop((half, 0, *other.size)), (half, 0))
        sheet = Image.new("RGB", (_SIZE, _SIZE), _DARK)
        width, height = _SIZE // self.across, _SIZE // self.down
        cell = min(width, 2 * height) - _GAP
        pale = range(self.dim) if self.dim >= 0 else range(len(pictures) + self.dim, len(pictures))
        for number, picture in enumerate(pictures):
            large = picture.resize((cell, cell // 2), Image.Resampling.BICUBIC)
            if number in pale:
                large = Image.blend(large, Image.new("RGB", large.size, _DARK), 0.65)
            left, top = width * (number % self.across), height * (number // self.across)
            sheet.paste(large, (left + (width - cell) // 2, top + (height - cell // 2) // 2))
        return sheet


def _scene(words: str) -> Prompt:
    """A prompt of the words of the world, in any order."""
    cameras = {"left": "pans left", "right": "pans right", "still": "holds still"}
    names = {"sky": SKIES, "place": PLACES, "colour": COLOURS, "shape": SHAPES}
    given = {name: word for word in words.split() for name, known in names.items() if word in known}
    return Prompt(**given, camera=next((cameras[word] for word in words.split() if word in cameras), "holds still"))


def _scenes(text: str) -> tuple[Prompt, ...]:
    return tuple(_scene(words) for words in text.split(","))


_SHEETS = {
    "first_minute": Sheet(_scenes("day harbour right, dusk meadow, day harbour left")),
    "kept_film": Sheet(_scenes("night desert white box right, night meadow white box right"), 3, 6, dim=-7),
    "story": Sheet(
        _scenes(
            "day meadow red right, dusk desert yellow box, night harbour white triangle, fog meadow blue,"
            "day desert purple box, dusk harbour green triangle, night meadow yellow, day harbour red"
        )
    ),
    "start_image": Sheet(_scenes("dusk meadow yellow right"), 1, 2),
    "continue_video": Sheet(_scenes("day desert green triangle right, dusk desert green triangle right"), dim=4),
    "compare_policies": Sheet(_scenes("day meadow purple box right, day meadow purple box left"), 3, 3),
    "live_prompting": Sheet(_scenes("fog harbour white, fog harbour red box, night harbour yellow triangle"), 2, 3),
    "low_vram": Sheet(_scenes("dusk meadow red right, day meadow red right"), 4, 8),
    "tiny": Sheet(_scenes("day harbour yellow right, dusk harbour yellow right"), 6, 12),
    "few_steps": Sheet(_scenes("night harbour red right, dusk harbour red right"), 2, 2),
    "shots": Sheet(_scenes("dusk desert blue still, dusk desert blue right, dusk meadow blue left"), 1, 3),
    "picture_to_world": Sheet(_scenes("day meadow blue triangle left, day meadow blue triangle right"), 1, 4),
    "restyle_video": Sheet(_scenes("day harbour red right"), 1, 3, beside=_scenes("night desert yellow box right")),
    "vae_on_second_card": Sheet(_scenes("fog desert purple right"), 2, 3, beside=_scenes("day desert purple right")),
    "several_cards": Sheet(_scenes("night meadow green right"), 1, 2, beside=_scenes("dusk meadow green right")),
}


def sheet_of(name: str) -> Sheet:
    """The sheet of a workflow; of one without a row here the scenes are drawn by lot, by its name."""
    if name in _SHEETS:
        return _SHEETS[name]
    lot = np.random.default_rng(crc32(name.encode()))
    words = [[lot.choice(known) for known in (SKIES, PLACES, COLOURS, SHAPES)] for _ in range(2)]
    return Sheet(_scenes(",".join(" ".join([*scene, "right"]) for scene in words)), 2, 5)


def main(names: list[str]) -> None:
    """Draw the thumbnails of these workflows, or all of them."""
    for name in names or sorted(path.stem for path in _WORKFLOWS.glob("*.json")):
        picture = sheet_of(name).draw(crc32(name.encode()))
        picture.save(_WORKFLOWS / f"{name}.jpg", quality=70, optimize=True, progressive=True)
        print(f"drew {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
