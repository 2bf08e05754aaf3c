"""The films of the grown world that are evaluated, and what of them is given as the truth.

`plain` is the old world's film in the grown world's words. In `changing` the visited place is another at its second
visit; until the third everything is given, for how a place changed is in no prompt. In `ends` the visited place is seen
from one end to the other on the first visit, then from the end where the first began, from between and again. `follows`
is one prompt: the camera follows the thing. In `once` a place is seen for one chunk, then the film is elsewhere for an
hour or a part of it, which is given, and returns.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from random import Random

import torch
from torch import Tensor

from ..evaluation_script import evaluation_script
from ..prompts import CHOICES, Prompt, prompt_at
from ..world import EVERY_LANDMARK
from .drawing import VERSIONS, ground_latent, landscape, sky_latent, things
from .films import CHUNK_FRAMES, STEP_PIXELS, cameras, following, frames_of
from .scripts import PANS, Visits
from .words import FOLLOWS, PLACES, GrownPrompt

FRAMES = 240
AWAY_CHUNKS = 400
_CHANGED, _SLOTS = 0.5, 256


@dataclass(frozen=True)
class EvaluationFilm:
    """The prompts of all chunks, and how many of the first chunks are given."""

    prompts: Sequence[GrownPrompt]
    given: int = 0


def plain(seed: int) -> EvaluationFilm:
    """The old world's film in words for every visit."""
    rng = Random(f"grown evaluation {seed}")
    script, visits = evaluation_script(seed, FRAMES), Visits(rng)
    old = [prompt_at(script, frame) for frame in range(0, FRAMES, CHUNK_FRAMES)]
    places = dict(zip(dict.fromkeys(prompt.place for prompt in old), rng.sample(PLACES, 3), strict=False))
    prompts: list[GrownPrompt] = []
    for place, stay in groupby(old, lambda prompt: prompt.place):
        words = visits.words(GrownPrompt(), places[place])
        prompts += [_said(prompt, words) for prompt in stay]
    return EvaluationFilm(prompts)


def changing(seed: int) -> EvaluationFilm:
    """A place that is another at its second visit."""
    prompts = [*plain(seed).prompts]
    stays = _stays(prompts, _visited(prompts))
    for stay in stays[1:]:
        for chunk in stay:
            prompts[chunk] = replace(prompts[chunk], version=1)
    return EvaluationFilm(prompts, stays[2].start)


def ends(seed: int) -> EvaluationFilm:
    """A place that is seen from both ends."""
    prompts = [*plain(seed).prompts]
    first, *later = _stays(prompts, _visited(prompts))
    one, other = Random(f"ends {seed}").sample(("west", "east"), 2)
    begun = prompts[first.start]
    pan = replace(begun, view=one, camera=PANS[one == "west"])
    views = (one, "between", other, "between")
    for stay, view in zip(later, views, strict=True):
        for chunk in stay:
            prompts[chunk] = replace(prompts[chunk], view=view)
    prompts[first.start : first.stop] = [replace(begun, view=one), pan, pan, replace(begun, view=other)]
    return EvaluationFilm(prompts[: FRAMES // CHUNK_FRAMES])


def follows(seed: int) -> EvaluationFilm:
    """One prompt whose camera turns by itself."""
    prompt = replace(plain(seed).prompts[0], camera=FOLLOWS)
    return EvaluationFilm([prompt] * (FRAMES // CHUNK_FRAMES))


def once(seed: int, away: int = AWAY_CHUNKS) -> EvaluationFilm:
    """A place that was seen for one chunk, so many chunks ago."""
    rng = Random(f"once {seed}")
    visits, places = Visits(rng), rng.sample(PLACES, 3)
    first = _said(Prompt(**{name: rng.choice(words) for name, words in CHOICES.items()}), GrownPrompt())
    home, visited, third = places
    prompts = [visits.words(first, home)] * 2 + [visits.words(first, visited)]
    while len(prompts) < 3 + away:
        for place in (third, home):
            still, half = visits.words(first, place), rng.randint(1, 4)
            cameras = rng.sample(PANS, 2)
            prompts += [replace(still, camera=camera) for camera in cameras for _ in range(half)] + [still]
    prompts = prompts[: 3 + away]
    prompts += [*[visits.words(first, visited)] * 3, *[visits.words(first, home)] * 3]
    return EvaluationFilm([*prompts, *[visits.words(first, visited)] * 3], 3 + away)


FILMS: Mapping[str, Callable[[int], EvaluationFilm]] = {
    "plain": plain,
    "changing": changing,
    "ends": ends,
    "follows": follows,
    "once": once,
}


def truth(film: EvaluationFilm, seed: int, chunks: int) -> Tensor:
    """The first chunks of a film as a world of that seed shows them, (1, 16, frames, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    frames = frames_of([film.prompts[:chunks]])
    start = 2 * torch.rand(1, 2, generator=generator)
    changed = torch.rand((1, len(PLACES), _SLOTS), generator=generator) < _CHANGED
    marks = torch.randint(len(EVERY_LANDMARK), (1, len(PLACES), VERSIONS, _SLOTS), generator=generator)
    across, down = things(start, frames.way)
    camera = torch.where(frames.follows[:, None], following(across), frames.camera)
    seen = landscape(frames, camera, changed.long(), marks)
    shown = seen.marks.gather(1, seen.slots.flatten(1)).view_as(seen.slots)
    sky = sky_latent(frames, across, down)
    return torch.cat([sky, ground_latent(frames, seen, shown)], dim=3)


def camera_pixels(film: EvaluationFilm) -> list[int]:
    """Left edge of the view in every frame."""
    return [STEP_PIXELS * at for at in cameras(film.prompts)]


def _said(prompt: Prompt, words: GrownPrompt) -> GrownPrompt:
    said = {name: getattr(prompt, name) for name in ("shape", "colour", "speed", "sky")}
    return replace(words, **said, camera=prompt.camera)


def _visited(prompts: Sequence[GrownPrompt]) -> str:
    """The place that a film visits five times."""
    starts = [after.place for before, after in pairwise(prompts) if before.place != after.place]
    counts = Counter(place for place in starts if place != prompts[0].place)
    return counts.most_common(1)[0][0]


def _stays(prompts: Sequence[GrownPrompt], place: str) -> list[range]:
    """The chunks of every stay at a place."""
    chunks = [chunk for chunk, prompt in enumerate(prompts) if prompt.place == place]
    starts = [chunk for chunk in chunks if chunk == 0 or prompts[chunk - 1].place != place]
    return [range(start, next(c for c in range(start, len(prompts) + 1) if c not in chunks)) for start in starts]
