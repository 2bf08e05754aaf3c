"""What an evaluated video kept of the world: a number for each measure, an entry for each landmark that came back.

The camera moves as the script says, so where a landmark has to stand is known. What has to stand there is what the
video itself showed on the visit before: the model is free to invent, and then has to stay with it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from headforcing_core.geometry import TIME_STRIDE

from .deciding import REACH
from .prompts import Prompt, Script, prompt_at
from .reading import (
    Thing,
    camera_shift,
    landscape_change,
    nearest_sky,
    read_landmark,
    read_thing,
    sky_colours,
    sky_errors,
)
from .world import SLOT, SPEED, WIDTH, Landmark, World, last_picture

END_FRAMES = 60  # the last quarter of a minute
FRAMES_A_MINUTE = 240
MOST_CHUNKS = 8  # to wait for a prompt to be obeyed
_ARRIVAL = 3  # frames of a visit that count as what came back


@dataclass(frozen=True)
class Return:
    """A landmark that came back: for how many frames nothing of it was in view, whether its kind and its colour are
    those of the visit before, and the share of other places in the same video where that very landmark stands."""

    absence: int
    kind: bool
    colour: bool
    elsewhere: float

    @property
    def right(self) -> bool:
        """Kind and colour."""
        return self.kind and self.colour


@dataclass(frozen=True)
class Measured:
    """Measures by name, None where the video gives no occasion for one, and the returns."""

    values: Mapping[str, float | None]
    returns: Sequence[Return]


def measure(pictures: Tensor, script: Script, chunk_frames: int) -> Measured:
    """Compare a video, one picture a frame as `Basis.pictures` gives them, with its script."""
    frames = len(pictures)
    prompts = [prompt_at(script, frame) for frame in range(frames)]
    things = [read_thing(picture) for picture in pictures]
    skies = [nearest_sky(colour) for colour in sky_colours(pictures)]
    errors = sky_errors(pictures, [prompt.sky for prompt in prompts])
    visits = _visits(pictures, World(0, script))
    camera = [World(0, script).camera(last_picture(frame)) for frame in range(frames)]
    shifts = [after - before for before, after in pairwise(camera)]
    seen = [(*pair, shift) for pair, shift in zip(pairwise(pictures), shifts, strict=True)]
    changes = [255 * landscape_change(*each).item() for each in seen]
    joins = range(chunk_frames - 1, frames - 1, chunk_frames)  # the pairs of frames that lie in two chunks
    end = range(max(0, frames - END_FRAMES), frames)
    values = {
        "landmarks_clear": _mean(found is not None for each in visits for frame, found in each.seen if frame in end),
        "landmarks_steady": _mean(_steady(visits)),
        "thing_shape": _mean(_has(things[frame], "shape", prompts[frame]) for frame in end),
        "thing_colour": _mean(_has(things[frame], "colour", prompts[frame]) for frame in end),
        "thing_motion": _mean(_motion(things, prompts, end)),
        "camera_obeyed": _mean(camera_shift(before, after) == shift for before, after, shift in seen),
        "sky_error": errors[list(end)].mean().item(),
        "sky_drift": _slope(errors) * FRAMES_A_MINUTE,
        "sky_delay": _delay(
            _first_frames(prompts, "sky"), chunk_frames, frames, lambda frame: skies[frame] == prompts[frame].sky
        ),
        "thing_delay": _delay(
            _first_frames(prompts, "shape"),
            chunk_frames,
            frames,
            lambda frame: all(_has(things[frame], name, prompts[frame]) for name in ("shape", "colour")),
        ),
        "join_flicker": median(changes[pair] for pair in joins)
        - median(change for pair, change in enumerate(changes) if pair not in joins),
    }
    return Measured(values, list(_returns(visits)))


@dataclass(frozen=True)
class _Visit:
    """One stretch in which something of a slot is in view: its first and last frame, and what was read in each frame
    that showed all of it."""

    slot: int
    first: int
    last: int
    seen: Sequence[tuple[int, Landmark | None]]


def _visits(pictures: Tensor, world: World) -> list[_Visit]:
    """All visits, by slot and then in time order."""
    left = [world.camera(last_picture(frame)) for frame in range(len(pictures))]
    in_view = [world.slots(last_picture(frame)) for frame in range(len(pictures))]
    visits = []
    for slot in sorted(set().union(*in_view)):
        shown = [frame for frame in range(len(pictures)) if slot in in_view[frame]]
        starts = [0, *(place for place in range(1, len(shown)) if shown[place] > shown[place - 1] + 1), len(shown)]
        for begin, stop in pairwise(starts):
            whole = [(frame, slot * SLOT - left[frame]) for frame in shown[begin:stop]]
            whole = [(frame, at) for frame, at in whole if 0 <= at <= WIDTH - SLOT]
            seen = [(frame, read_landmark(pictures[frame], at)) for frame, at in whole]
            visits.append(_Visit(slot, shown[begin], shown[stop - 1], seen))
    return visits


def _returns(visits: Sequence[_Visit]) -> Iterator[Return]:
    usual = {each.slot: _most_common(seen for _, seen in each.seen) for each in visits}
    for before, after in pairwise(visits):
        was = _most_common(seen for _, seen in before.seen)
        if before.slot != after.slot or was is None or not after.seen:
            continue
        others = [seen for slot, seen in usual.items() if slot != before.slot]
        elsewhere = sum(seen == was for seen in others) / max(1, len(others))
        came = _most_common(seen for _, seen in after.seen[:_ARRIVAL])
        kind, colour = came or ("", "")
        yield Return(after.first - before.last - 1, kind == was[0], colour == was[1], elsewhere)


def _steady(visits: Sequence[_Visit]) -> Iterator[bool]:
    """Whether what stands in a slot is the same in neighbouring frames."""
    for each in visits:
        for (_, one), (_, other) in pairwise(each.seen):
            yield one is not None and one == other


def _has(thing: Thing | None, name: str, prompt: Prompt) -> bool:
    return thing is not None and getattr(thing, name) == getattr(prompt, name)


def _motion(things: Sequence[Thing | None], prompts: Sequence[Prompt], end: range) -> Iterator[float]:
    """How far the thing moved across between neighbouring frames, as a share of what its prompt says; not near the
    sides, where it turns back."""
    for frame in end[1:]:
        before, after, step = things[frame - 1], things[frame], TIME_STRIDE * SPEED[prompts[frame].speed]
        if before and after and REACH + step <= before.x <= WIDTH - REACH - step:
            yield abs(after.x - before.x) / step


def _first_frames(prompts: Sequence[Prompt], name: str) -> list[int]:
    """Where a word of the prompt changes."""
    words = [getattr(prompt, name) for prompt in prompts]
    return [frame for frame in range(1, len(words)) if words[frame] != words[frame - 1]]


def _delay(starts: Sequence[int], chunk_frames: int, frames: int, obeyed: Callable[[int], bool]) -> float | None:
    """Mean number of chunks from a change on until most frames of a chunk obey."""
    waits = []
    for start in starts:
        chunks = range(start, min(frames, start + MOST_CHUNKS * chunk_frames), chunk_frames)
        obedient = [sum(map(obeyed, range(first, first + chunk_frames))) > chunk_frames / 2 for first in chunks]
        waits.append(obedient.index(True) if True in obedient else MOST_CHUNKS)
    return _mean(waits)


def _most_common(seen: Iterable[Landmark | None]) -> Landmark | None:
    """The landmark that was read most often, of those that were clear."""
    counts = Counter(each for each in seen if each is not None)
    return counts.most_common(1)[0][0] if counts else None


def _slope(values: Tensor) -> float:
    """Change a frame, by least squares."""
    frames = torch.arange(len(values), dtype=torch.float32)
    frames -= frames.mean()
    return ((values * frames).sum() / frames.square().sum()).item()


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
