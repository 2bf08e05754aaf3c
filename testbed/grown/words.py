"""What a prompt of the grown world can say, and its words as vectors.

usage: python -m testbed.grown.words     writes testbed/models/grown_words.safetensors

A place is in no prompt by its name, only by something that is there and by what it stands on, and both are drawn anew
for every visit. A word is a vector of its own, drawn once; what a prompt says is the row of its words.
"""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..prompts import CAMERAS as _CAMERAS
from ..prompts import COLOURS, SHAPES, SKIES, SPEEDS

WORDS_FILE = Path(__file__).parents[1] / "models" / "grown_words.safetensors"
TEXT_DIM = 64
_CPU = torch.device("cpu")
PLACES = ("harbour", "meadow", "desert", "snowfield", "orchard", "town")
THINGS = {
    "harbour": ("boats", "gulls", "nets"),
    "meadow": ("cows", "daisies", "sheep"),
    "desert": ("camels", "cacti", "dunes"),
    "snowfield": ("sledges", "huskies", "skis"),
    "orchard": ("apples", "ladders", "baskets"),
    "town": ("carts", "lamps", "benches"),
}
GROUNDS = {
    "harbour": ("pier", "quay", "jetty"),
    "meadow": ("grass", "pasture", "clover"),
    "desert": ("sand", "gravel", "scree"),
    "snowfield": ("snow", "ice", "frost"),
    "orchard": ("soil", "furrows", "hedge"),
    "town": ("paving", "kerb", "square"),
}
HERE, FOLLOWS = "here", "follows it"
VIEWS = {"west": 0, "between": 3, "east": 6}
"""Where the camera stands at a place, in frames of a pan; `here` is where it was left."""
CAMERAS = (*_CAMERAS, FOLLOWS)


@dataclass(frozen=True)
class GrownPrompt:
    """One scene. The text says neither the place nor its `version`, which counts how often it changed."""

    shape: str = "ball"
    colour: str = "red"
    speed: str = "slow"
    sky: str = "day"
    place: str = "harbour"
    things: str = "boats"
    ground: str = "pier"
    view: str = HERE
    camera: str = "holds still"
    version: int = 0

    def __post_init__(self) -> None:
        known = {
            **{"shape": SHAPES, "colour": COLOURS, "speed": SPEEDS, "sky": SKIES, "place": PLACES},
            **{"things": THINGS.get(self.place, ()), "ground": GROUNDS.get(self.place, ())},
            **{"view": (HERE, *VIEWS), "camera": CAMERAS, "version": (0, 1)},
        }
        for field in fields(self):
            value, choices = getattr(self, field.name), known[field.name]
            if value not in choices:
                told = ", ".join(map(str, choices))
                raise ValueError(f"{field.name} is {value!r}. Here the world knows {told}. Choose one of them.")

    @property
    def text(self) -> str:
        """What is said; as many words for every prompt."""
        thing = f"a {self.speed} {self.colour} {self.shape} under a {self.sky} sky"
        return f"{thing} , {self.things} by the {self.ground} , from {self.view} , the camera {self.camera}"


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word, in a fixed order."""
    said = f"a under sky , by the from camera {HERE} {' '.join(VIEWS)} {' '.join(CAMERAS)}".split()
    places = [word for place in PLACES for word in (*THINGS[place], *GROUNDS[place])]
    return tuple(dict.fromkeys([*said, *SPEEDS, *COLOURS, *SHAPES, *SKIES, *places]))


@cache
def word_numbers(prompt: GrownPrompt) -> tuple[int, ...]:
    """The prompt's words as numbers of the vocabulary."""
    return tuple(vocabulary().index(word) for word in prompt.text.split())


@cache
def load_words(device: torch.device = _CPU) -> Tensor:
    """The vectors of all words, (words, TEXT_DIM), on a device."""
    return load_file(WORDS_FILE)["words"].float().to(device)


def encode(prompt: GrownPrompt) -> Tensor:
    """What the network reads of a prompt, (words, TEXT_DIM)."""
    return load_words()[list(word_numbers(prompt))]


def main() -> None:
    """Draw the vectors."""
    words = torch.randn(len(vocabulary()), TEXT_DIM, generator=torch.Generator().manual_seed(0))
    save_file({"words": words.half()}, WORDS_FILE)


if __name__ == "__main__":
    main()
