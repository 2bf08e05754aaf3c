"""The script of an evaluated video: a place that the film returns to, after absences of every length."""

from dataclasses import replace
from random import Random

from .prompts import CHOICES, PLACES, Prompt, Script, script_of

CHUNK_FRAMES, TRANSITION = 3, "recache"
_REST, _OPENING, _VISIT = 2, 6, 3  # chunks at home at first, of the pan away and back, of each visit
_ABSENCES = (3, 7, 14, 28)  # chunks between the visits
_SKY_CHANGE, _THING_CHANGE = (0.25, 0.4), (0.5, 0.7)  # shares of the video within which they come


def evaluation_script(seed: int, frames: int) -> Script:
    """It begins at home with a pan and back. Then it visits another place five times, after absences in a drawn order;
    between the visits it is at home or at a third place, where the camera pans away and back. The sky changes once, the
    thing once."""
    rng = Random(f"evaluation {seed}")
    first = replace(Prompt(**{name: rng.choice(words) for name, words in CHOICES.items()}), camera="holds still")
    elsewhere = [place for place in PLACES if place != first.place]
    visited, third = (replace(first, place=place) for place in rng.sample(elsewhere, 2))
    prompts = [first] * _REST + _out_and_back(rng, first, _OPENING) + [visited] * _VISIT
    for absence in rng.sample(_ABSENCES, len(_ABSENCES)):
        at_home = rng.randint(0, absence)
        stays = [_out_and_back(rng, first, at_home), _out_and_back(rng, third, absence - at_home)]
        prompts += [prompt for stay in rng.sample(stays, 2) for prompt in stay] + [visited] * _VISIT
    chunks = -(-frames // CHUNK_FRAMES)
    prompts = prompts[:chunks] + [first] * (chunks - len(prompts))
    for names, (earliest, latest) in ((("sky",), _SKY_CHANGE), (("shape", "colour"), _THING_CHANGE)):
        start = rng.randint(round(earliest * chunks), round(latest * chunks))
        words = {name: rng.choice([word for word in CHOICES[name] if word != getattr(first, name)]) for name in names}
        prompts[start:] = [replace(prompt, **words) for prompt in prompts[start:]]
    return script_of(prompts, CHUNK_FRAMES)


def _out_and_back(rng: Random, still: Prompt, chunks: int) -> list[Prompt]:
    """So many chunks at a place: the camera pans to a drawn side and back, and rests where it began."""
    away, back = (replace(still, camera=camera) for camera in rng.sample(("pans left", "pans right"), 2))
    return [away] * (chunks // 2) + [back] * (chunks // 2) + [still] * (chunks % 2)
