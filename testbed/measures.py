"""What an evaluated video kept of the world: a number for each measure, an entry for each landmark that came back.

The camera moves as the script says, so where a landmark has to stand is known. What has to stand there is what the
video itself showed on the visit before: the model is free to invent, and then has to stay with it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor

from headforcing_core.geometry import TIME_STRIDE

from .deciding import REACH
from .prompts import Script, prompt_at
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
from .world import SLOT, SPEED, WIDTH, Landmark, Slot, World, last_picture

SETTLED = 6  # frames until the thing counts
END_FRAMES = 60  # the last quarter of a minute
FRAMES_A_MINUTE = 240
MOST_CHUNKS = 8  # to wait for a prompt to be obeyed
_ARRIVAL = 3  # frames of a visit that count as what came back


@dataclass(frozen=True)
class Return:
    """A landmark that came back.

    `slot` is where it stands and `frame` the first in which it is whole again, after `absence` frames in which nothing
    of it was in view. `was` stood there on the visit before and `came` does now, None where none was clear. `held`:
    whether a frame that shows it whole could still be read when the chunk of its return began. `home`: whether it was
    in view in the first frame. `way`: how it came back, by a pan or because the prompt returned to its place.
    """

    slot: Slot
    frame: int
    absence: int
    was: Landmark | None
    came: Landmark | None
    held: bool
    home: bool
    way: Literal["pan", "place"]


@dataclass(frozen=True)
class Measured:
    """Measures by name, None where the video gives no occasion for one, and the returns."""

    values: Mapping[str, float | None]
    returns: Sequence[Return]


class Said(Protocol):
    """What a prompt says of a picture."""

    @property
    def shape(self) -> str: ...
    @property
    def colour(self) -> str: ...
    @property
    def speed(self) -> str: ...
    @property
    def sky(self) -> str: ...
    @property
    def place(self) -> str: ...


class Views(Protocol):
    """Where the camera is, by picture."""

    def camera(self, picture: int) -> int: ...
    def place(self, picture: int) -> str: ...
    def slots(self, picture: int) -> list[Slot]: ...
    def left_of(self, slot: Slot, picture: int) -> int: ...


def measure(pictures: Tensor, script: Script, chunk_frames: int, held: Sequence[Sequence[int]] = ()) -> Measured:
    """Compare a video, one picture a frame as `Basis.pictures` gives them, with its script. `held`: the frames that
    memory heads could read, for each chunk."""
    prompts = [prompt_at(script, frame) for frame in range(len(pictures))]
    return measure_views(pictures, prompts, World(0, script), chunk_frames, held)


def measure_views(
    pictures: Tensor,
    prompts: Sequence[Said],
    world: Views,
    chunk_frames: int,
    held: Sequence[Sequence[int]] = (),
) -> Measured:
    """Compare a video with what each frame's prompt says, and with itself where the camera has been before."""
    frames = len(pictures)
    things = [read_thing(picture) for picture in pictures]
    colours = sky_colours(pictures)
    skies = [nearest_sky(colour) for colour in colours]
    errors = sky_errors(pictures, [prompt.sky for prompt in prompts])
    camera = [world.camera(last_picture(frame)) for frame in range(frames)]
    shifts = [after - before for before, after in pairwise(camera)]
    stays = [one.place == other.place for one, other in pairwise(prompts)]
    seen = [(*pair, shift * stay) for pair, shift, stay in zip(pairwise(pictures), shifts, stays, strict=True)]
    changes = [255 * landscape_change(*each).item() for each in seen]
    jumps = [255 * (after - before).square().mean().sqrt().item() for before, after in pairwise(colours)]
    calm = [pair for pair in range(frames - 1) if prompts[pair] == prompts[pair + 1]]
    visits = _visits(pictures, world)
    new_sky, new_thing = _first_frames(prompts, "sky"), _first_frames(prompts, "shape")
    settled = range(SETTLED, min(new_thing, default=frames))
    end = range(max(0, frames - END_FRAMES), frames)
    values = {
        "landmarks_clear": _mean(found is not None for each in visits for frame, found in each.seen if frame in end),
        "landmarks_steady": _mean(_steady(visits)),
        "camera_obeyed": _mean(camera_shift(*pair) == shift for *pair, shift in compress(seen, stays)),
        "thing_shape": _mean(_has(things[frame], "shape", prompts[frame]) for frame in settled),
        "thing_colour": _mean(_has(things[frame], "colour", prompts[frame]) for frame in settled),
        "new_shape": _mean(_has(things[frame], "shape", prompts[frame]) for frame in end),
        "new_colour": _mean(_has(things[frame], "colour", prompts[frame]) for frame in end),
        "thing_motion": _mean(_moves_right(things, prompts, end)),
        "sky_error": errors[list(end)].mean().item(),
        "sky_drift": _drift(errors, new_sky, chunk_frames),
        "sky_delay": _delay(new_sky, chunk_frames, frames, lambda frame: skies[frame] == prompts[frame].sky),
        "thing_delay": _delay(
            new_thing,
            chunk_frames,
            frames,
            lambda frame: all(_has(things[frame], name, prompts[frame]) for name in ("shape", "colour")),
        ),
        "join_flicker": _at_joins(changes, calm, chunk_frames),
        "sky_flicker": _at_joins(jumps, calm, chunk_frames),
    }
    return Measured(values, list(_returns(visits, world, chunk_frames, held)))


@dataclass(frozen=True)
class _Visit:
    """One stretch in which something of a slot is in view: its first and last frame, and what was read in each frame
    that showed all of it."""

    slot: Slot
    first: int
    last: int
    seen: Sequence[tuple[int, Landmark | None]]


def _visits(pictures: Tensor, world: Views) -> list[_Visit]:
    """All visits, by slot and then in time order."""
    in_view = [world.slots(last_picture(frame)) for frame in range(len(pictures))]
    visits = []
    for slot in sorted(set().union(*in_view)):
        shown = [frame for frame in range(len(pictures)) if slot in in_view[frame]]
        starts = [0, *(place for place in range(1, len(shown)) if shown[place] > shown[place - 1] + 1), len(shown)]
        for begin, stop in pairwise(starts):
            whole = [(frame, world.left_of(slot, last_picture(frame))) for frame in shown[begin:stop]]
            whole = [(frame, at) for frame, at in whole if 0 <= at <= WIDTH - SLOT]
            seen = [(frame, read_landmark(pictures[frame], at)) for frame, at in whole]
            visits.append(_Visit(slot, shown[begin], shown[stop - 1], seen))
    return visits


def _returns(
    visits: Sequence[_Visit], world: Views, chunk_frames: int, held: Sequence[Sequence[int]]
) -> Iterator[Return]:
    whole = {
        each.slot: {frame for other in visits if other.slot == each.slot for frame, _ in other.seen} for each in visits
    }
    for before, after in pairwise(visits):
        if before.slot == after.slot and before.seen and after.seen:
            readable = held[after.first // chunk_frames] if held else ()
            yield Return(
                after.slot,
                after.seen[0][0],
                after.first - before.last - 1,
                _most_common(landmark for _, landmark in before.seen),
                _most_common(landmark for _, landmark in after.seen[:_ARRIVAL]),
                not whole[after.slot].isdisjoint(readable),
                after.slot in world.slots(0),
                "pan"
                if world.place(last_picture(after.first - 1)) == world.place(last_picture(after.first))
                else "place",
            )


def _steady(visits: Sequence[_Visit]) -> Iterator[bool]:
    """Whether what stands in a slot is the same in neighbouring frames."""
    for each in visits:
        for (_, one), (_, other) in pairwise(each.seen):
            yield one is not None and one == other


def _has(thing: Thing | None, name: str, prompt: Said) -> bool:
    return thing is not None and getattr(thing, name) == getattr(prompt, name)


def _moves_right(things: Sequence[Thing | None], prompts: Sequence[Said], end: range) -> Iterator[bool]:
    """Whether the thing is there and goes as far across as its prompt says, give or take a half, from frame to frame;
    not near the sides, where it turns back."""
    for frame in end[1:]:
        before, after, step = things[frame - 1], things[frame], TIME_STRIDE * SPEED[prompts[frame].speed]
        if before is None or after is None:
            yield False
        elif REACH + step <= before.x <= WIDTH - REACH - step:
            yield abs(abs(after.x - before.x) / step - 1) <= 0.5


def _drift(errors: Tensor, changes: Sequence[int], chunk_frames: int) -> float | None:
    """Change of the sky's error a minute, by least squares within each stretch of one sky; what comes right after a
    change is the prompt's delay and left out."""
    starts = [0, *(change + MOST_CHUNKS * chunk_frames for change in changes)]
    product, square = 0.0, 0.0
    for start, stop in zip(starts, [*changes, len(errors)], strict=True):
        stretch = errors[start:stop].double()
        if len(stretch) > 1:
            frames = torch.arange(len(stretch), dtype=torch.float64)
            frames -= frames.mean()
            product += float((stretch * frames).sum())
            square += float(frames.square().sum())
    return FRAMES_A_MINUTE * product / square if square else None


def _at_joins(changes: Sequence[float], calm: Sequence[int], chunk_frames: int) -> float | None:
    """How much more changes between the frames of two chunks than within a chunk, where the prompt stays."""
    joins = _mean(changes[pair] for pair in calm if (pair + 1) % chunk_frames == 0)
    within = _mean(changes[pair] for pair in calm if (pair + 1) % chunk_frames)
    return None if joins is None or within is None else joins - within


def _first_frames(prompts: Sequence[Said], name: str) -> list[int]:
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


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
