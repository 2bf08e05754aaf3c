"""The script of an evaluated video: the camera leaves home and returns, for absences of every length."""

from dataclasses import replace
from random import Random

from .prompts import CHOICES, Prompt, Script, script_of

CHUNK_FRAMES = 3
_AT_FIRST, _AT_HOME = 2, 1  # chunks of rest before the first journey and after each
_JOURNEYS = ((3, 0), (3, 3), (7, 0), (4, 8), (14, 0))  # chunks of the pan away and back, and between them
_SKY_CHANGE, _THING_CHANGE = (0.25, 0.4), (0.5, 0.7)  # shares of the video within which they come


def evaluation_script(seed: int, frames: int) -> Script:
    """Five journeys in a drawn order, each to a drawn side, one change of the sky and one of the thing."""
    rng = Random(f"evaluation {seed}")
    first = Prompt(**{name: rng.choice(words) for name, words in CHOICES.items()})
    chunks = -(-frames // CHUNK_FRAMES)
    cameras = ["holds still"] * _AT_FIRST
    for pan, between in rng.sample(_JOURNEYS, len(_JOURNEYS)):
        away, back = rng.sample(("pans left", "pans right"), 2)
        cameras += [away] * pan + ["holds still"] * between + [back] * pan + ["holds still"] * _AT_HOME
    prompts = [replace(first, camera=camera) for camera in cameras[:chunks]]
    prompts += [replace(first, camera="holds still")] * (chunks - len(prompts))
    for names, (earliest, latest) in ((("sky",), _SKY_CHANGE), (("shape", "colour"), _THING_CHANGE)):
        start = rng.randint(round(earliest * chunks), round(latest * chunks))
        words = {name: rng.choice([word for word in CHOICES[name] if word != getattr(first, name)]) for name in names}
        prompts[start:] = [replace(prompt, **words) for prompt in prompts[start:]]
    return script_of(prompts, CHUNK_FRAMES)
