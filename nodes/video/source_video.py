"""A video as a run takes it: its pictures at the run's speed and size, one after the other, however long it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING

import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import Input
from torch import Tensor

from ...headforcing_core.geometry import TIME_STRIDE
from ..host.chunk_encoder import ChunkEncoder
from ..host.encoders import LOOK_BACK
from .film import Film, film_sha256, opened_source
from .image import fitted_image

if TYPE_CHECKING:
    from comfy.sd import VAE

GREY_FRAMES = LOOK_BACK + 1


class SourceVideo:
    """Pictures of an IMAGE, (pictures, height, width, channels), one a picture of the run, or of a VIDEO: at each of
    the run's times the newest picture that the video has shown until then. A video of another shape is cut around its
    middle. No more than one picture is held."""

    def __init__(self, source: Tensor | Input.Video, width: int, height: int, fps: float) -> None:
        self._source = source
        self._size = width, height
        self._fps = fps

    def expected_pictures(self) -> int:
        """About how many there are; all of an IMAGE. RuntimeError for a file that cannot be read."""
        with opened_source(self._source, self._fps) as film:
            return max(1, round(film.expected_pictures / film.fps * self._fps))

    def sha256(self) -> str:
        """SHA-256 of the whole of it, as it is before it is cut and timed. RuntimeError as of `expected_pictures`."""
        return film_sha256(self._source)

    def pictures(self, first: int = 0) -> Iterator[Tensor]:
        """From this one on, each (height, width, 3) in 0 to 1; the last alone if there are no more. A file is open
        until the last is taken or the iterator is gone; it raises as `expected_pictures` does."""
        taken, make, picture = 0, None, None
        with opened_source(self._source, self._fps) as film:
            for make, end in _shown(film):
                throw_exception_if_processing_interrupted()
                picture = None  # one that is never the newest is not made
                while taken / self._fps < end - film.slack:
                    if taken >= first:
                        picture = self._fitted(make()) if picture is None else picture
                        yield picture
                    taken += 1
            if make is not None and taken <= first:
                yield self._fitted(make())

    def _fitted(self, picture: Tensor) -> Tensor:
        return fitted_image(picture[None], *self._size)[0]


def _shown(film: Film) -> Iterator[tuple[Callable[[], Tensor], float]]:
    """What makes each picture, and the second at which it gives way to the next."""
    shown, since = None, 0.0
    for seconds, make in film.moments:
        if shown is not None:
            yield shown, seconds
        shown, since = make, seconds
    if shown is not None:
        yield shown, since + 1 / film.fps


def image_and_grey(vae: VAE, image: Tensor, width: int, height: int) -> Tensor:
    """The latent of a video that begins with an IMAGE and is grey from then on, (1, channels, GREY_FRAMES, height,
    width). It has come to rest by its last frame: all later ones are the same to the last bit, so that frame k of a
    video without end is min(k, GREY_FRAMES - 1) of these. ValueError for a VAE that cannot encode in pieces."""
    first = fitted_image(image[:1], width, height)[0]
    grey = torch.full_like(first, 0.5)
    pictures = chain([first], repeat(grey, (GREY_FRAMES - 1) * TIME_STRIDE))
    return ChunkEncoder(vae).frames(pictures, GREY_FRAMES)
