"""What somebody would recall of a film of the grown world who knows where its camera is."""

from collections.abc import Callable, Sequence

import torch

from headforcing_core.rollout.loop import Chunk
from headforcing_core.rollout.recall import Choose

from ..latents import load_basis
from ..oracle import RECALLED_CHUNKS
from ..reading import camera_shift, read_thing
from ..world import WIDTH
from .evaluation_films import EvaluationFilm, camera_pixels
from .films import CHUNK_FRAMES, STEP_PIXELS
from .words import FOLLOWS, HERE

View = tuple[str, int]
"""Place, and left edge of the view in pixels."""


def oracle(film: EvaluationFilm) -> Callable[[Sequence[Chunk]], Choose]:
    """Chooses the newest two chunks of the present place; where a prompt names a view or the camera follows the thing,
    the newest that show the present view, and the newest that show what those do not."""
    by_view = any(prompt.view != HERE or prompt.camera == FOLLOWS for prompt in film.prompts)

    def chooser(made: Sequence[Chunk]) -> Choose:
        def choose(chunk: int, candidates: Sequence[int]) -> Sequence[int]:
            place = film.prompts[chunk].place
            same = [frame for frame in candidates if film.prompts[frame // CHUNK_FRAMES].place == place]
            if not by_view or film.prompts[chunk].camera != FOLLOWS and film.prompts[chunk].view == HERE:
                return same[-RECALLED_CHUNKS:]
            return _covering(same, _lefts(film, chunk, made), chunk * CHUNK_FRAMES)

        return choose

    return chooser


def _covering(candidates: Sequence[int], lefts: Sequence[int], start: int) -> list[int]:
    """The chunks that together show most of the view from a frame on, of equals the newest."""
    wanted = _columns(lefts, start)
    chosen: list[int] = []
    for _ in range(min(RECALLED_CHUNKS, len(candidates))):
        left = [frame for frame in candidates if frame not in chosen]
        best = max(left, key=lambda frame: (len(wanted & _columns(lefts, frame)), frame))
        chosen.append(best)
        wanted = wanted - _columns(lefts, best)
    return chosen


def _columns(lefts: Sequence[int], start: int) -> set[int]:
    return {column for left in lefts[start : start + CHUNK_FRAMES] for column in range(left, left + WIDTH)}


def _lefts(film: EvaluationFilm, chunk: int, made: Sequence[Chunk]) -> list[int]:
    """Where the camera was in every frame so far and will be in the chunk; read from the video if it follows."""
    if film.prompts[chunk].camera != FOLLOWS:
        return camera_pixels(film)
    pictures = load_basis().pictures(torch.cat([each.latent for each in made], dim=2)[0])
    lefts = [0]
    for before, after in zip(pictures[:-1], pictures[1:], strict=True):
        lefts.append(lefts[-1] + camera_shift(before, after))
    before, last = read_thing(pictures[-2]), read_thing(pictures[-1])
    step = -STEP_PIXELS if before is not None and last is not None and last.x < before.x else STEP_PIXELS
    return [*lefts, *(lefts[-1] + step * number for number in range(1, CHUNK_FRAMES + 1))]
