"""What can be said about the world: a prompt of six words that matter, and a script of prompts over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from random import Random

from headforcing_core.families.self_forcing import SELF_FORCING

SHAPES = ("ball", "box", "triangle")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SPEEDS = ("slow", "fast")
SKIES = ("day", "dusk", "night", "fog")
PLACES = ("harbour", "meadow", "desert")
CAMERAS = ("pans left", "pans right", "holds still")
CHOICES = {"shape": SHAPES, "colour": COLOURS, "speed": SPEEDS, "sky": SKIES, "place": PLACES, "camera": CAMERAS}
_LONGEST_PAN, _TURN_BACK, _HOLD, _OTHER_CHANGE = 4, 0.65, 0.2, 0.3
_TRAVEL, _LONGEST_STAY = 0.6, 4  # share of scripts with other places, and chunks that a stay takes at most


@dataclass(frozen=True)
class Prompt:
    """One scene of the world. ValueError for a word that it does not know."""

    shape: str = "ball"
    colour: str = "red"
    speed: str = "slow"
    sky: str = "day"
    place: str = "harbour"
    camera: str = "holds still"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, known = getattr(self, field.name), CHOICES[field.name]
            if value not in known:
                raise ValueError(f"{field.name} is {value!r}. The world knows {', '.join(known)}. Choose one of them.")

    @property
    def text(self) -> str:
        """The words that the text encoder reads; as many for every prompt."""
        thing = f"a {self.speed} {self.colour} {self.shape}"
        return f"{thing} under a {self.sky} sky at the {self.place} , the camera {self.camera}"


@dataclass(frozen=True)
class Scene:
    """A prompt and the frame from which on it holds."""

    first_frame: int
    prompt: Prompt


Script = tuple[Scene, ...]
"""Scenes by rising first frame, the first at 0."""


def every_prompt() -> list[Prompt]:
    """All prompts that there are, in a fixed order."""
    return [Prompt(*words) for words in product(*CHOICES.values())]


def prompt_at(script: Script, frame: int) -> Prompt:
    """The prompt that holds at a frame."""
    return [scene for scene in script if scene.first_frame <= frame][-1].prompt


def script_of(prompts: Sequence[Prompt], chunk_frames: int) -> Script:
    """One prompt a chunk as a script, equal neighbours joined."""
    starts = [0, *(i for i in range(1, len(prompts)) if prompts[i] != prompts[i - 1])]
    return tuple(Scene(index * chunk_frames, prompts[index]) for index in starts)


def training_script(seed: int, chunk_frames: int, frames: int = SELF_FORCING.trained_frames) -> Script:
    """A random script whose camera turns back often, and which often returns to a place, so that what left the view
    comes back within the window; at times something else changes too."""
    rng = Random(f"script {seed}")
    prompt = Prompt(*(rng.choice(choices) for choices in CHOICES.values()))
    step = max(1, 3 // chunk_frames)  # chunks in three frames
    steps = -(-frames // (chunk_frames * step))
    prompts: list[Prompt] = []
    while len(prompts) < steps:
        prompts += [prompt] * rng.randint(1, _LONGEST_PAN)
        prompt = replace(prompt, camera=next_camera(rng, prompt.camera))
    if rng.random() < _TRAVEL:
        prompts = [replace(each, place=place) for each, place in zip(prompts, _places(rng, prompt.place), strict=False)]
    if rng.random() < _OTHER_CHANGE:
        start, name = rng.randrange(1, steps), rng.choice(("shape", "colour", "speed", "sky"))
        word = rng.choice(CHOICES[name])
        prompts[start:] = [replace(each, **{name: word}) for each in prompts[start:]]
    return script_of(prompts[:steps], chunk_frames * step)


def _places(rng: Random, home: str) -> Iterator[str]:
    """Home and elsewhere by turns, for ever."""
    while True:
        yield from [home] * rng.randint(1, _LONGEST_STAY)
        yield from [rng.choice([place for place in PLACES if place != home])] * rng.randint(1, _LONGEST_STAY)


def next_camera(rng: Random, camera: str) -> str:
    """Where a camera goes after this: often back."""
    if rng.random() < _HOLD and camera != "holds still":
        return "holds still"
    pans = {"pans left": "pans right", "pans right": "pans left"}
    if camera in pans and rng.random() < _TURN_BACK:
        return pans[camera]
    return rng.choice([each for each in pans if each != camera])
