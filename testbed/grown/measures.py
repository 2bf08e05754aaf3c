"""What an evaluated film of the grown world kept of it: the old world's measures, and what only this world asks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from torch import Tensor

from ..measures import Measured, Return, measure_views
from ..reading import camera_shift, read_thing
from ..world import SLOT, WIDTH, Slot, frame_of
from .evaluation_films import EvaluationFilm, camera_pixels
from .films import CHUNK_FRAMES, STEP_PIXELS
from .words import FOLLOWS, GrownPrompt


@dataclass(frozen=True)
class FilmViews:
    """Where the camera is: the prompt and the left edge of the view, by frame."""

    prompts: Sequence[GrownPrompt]
    lefts: Sequence[int]

    def camera(self, picture: int) -> int:
        """Left edge of the view."""
        return self.lefts[frame_of(picture)]

    def place(self, picture: int) -> str:
        """Where a picture is."""
        return self.prompts[frame_of(picture)].place

    def slots(self, picture: int) -> list[Slot]:
        """Slots of which something is in view."""
        place, left = self.place(picture), self.camera(picture)
        return [(place, number) for number in range(left // SLOT, (left + WIDTH - 1) // SLOT + 1)]

    def left_of(self, slot: Slot, picture: int) -> int:
        """Left edge of a slot in a picture of its place."""
        return slot[1] * SLOT - self.camera(picture)


def measure_film(pictures: Tensor, film: EvaluationFilm, held: Sequence[Sequence[int]] = ()) -> Measured:
    """Compare a film's video, one picture a frame, with its prompts and with itself. Of what was given nothing counts
    but as what was seen before. A camera that follows the thing is read from the video."""
    prompts = [prompt for prompt in film.prompts for _ in range(CHUNK_FRAMES)]
    is_following = prompts[0].camera == FOLLOWS
    lefts = read_camera(pictures) if is_following else camera_pixels(film)
    first = film.given * CHUNK_FRAMES
    whole = measure_views(pictures, prompts, FilmViews(prompts, lefts), CHUNK_FRAMES, held)
    made = FilmViews(prompts[first:], lefts[first:])
    values = dict(measure_views(pictures[first:], made.prompts, made, CHUNK_FRAMES).values)
    if is_following:
        values["camera_obeyed"] = _mean(_followed(pictures, lefts))
    returns = [each for each in whole.returns if each.frame >= first]
    changed = _changed(whole.returns, first)
    came = [(each.came, changed[each.slot]) for each in returns if each.slot in changed]
    values["newest_wins"] = _mean(here == change.came for here, change in came)
    values["older_wins"] = _mean(here == change.was for here, change in came)
    seen = [(_in_newest_view(each, prompts), each.was is not None and each.came == each.was) for each in returns]
    values["newest_view"] = _mean(right for newest, right in seen if newest is True)
    values["older_view"] = _mean(right for newest, right in seen if newest is False)
    return replace(whole, values=values, returns=returns)


def _changed(returns: Sequence[Return], first: int) -> dict[Slot, Return]:
    """The return of every landmark that was another one then, of the last such before a frame."""
    return {
        each.slot: each
        for each in returns
        if each.frame < first and None not in (each.was, each.came) and each.was != each.came
    }


def _in_newest_view(each: Return, prompts: Sequence[GrownPrompt]) -> bool | None:
    """Whether a landmark was in view when its place was left; None where the place was not left."""
    if each.way != "place":
        return None
    arrived = each.frame
    while prompts[arrived - 1].place == prompts[each.frame].place:
        arrived -= 1
    left = max(frame for frame in range(arrived) if prompts[frame].place == prompts[arrived].place)
    return each.absence <= arrived - left - 1 + CHUNK_FRAMES


def read_camera(pictures: Tensor) -> list[int]:
    """Left edges of the view, by how the camera moved from frame to frame."""
    shifts = (camera_shift(before, after) for before, after in pairwise(pictures))
    return [*accumulate(shifts, initial=0)]


def _followed(pictures: Tensor, lefts: Sequence[int]) -> Iterator[bool]:
    """Whether the camera goes through a chunk where the thing went before it, frame by frame."""
    for start in range(CHUNK_FRAMES, len(pictures), CHUNK_FRAMES):
        before, last = read_thing(pictures[start - 2]), read_thing(pictures[start - 1])
        if before is not None and last is not None:
            step = STEP_PIXELS if last.x >= before.x else -STEP_PIXELS
            chunk = range(start, min(start + CHUNK_FRAMES, len(pictures)))
            yield from (lefts[frame] - lefts[frame - 1] == step for frame in chunk)


def _mean(values: Iterator[bool]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
