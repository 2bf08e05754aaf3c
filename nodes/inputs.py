"""Inputs that several nodes have, each made in one place; what a node says of its own is the tooltip."""

from __future__ import annotations

from comfy_api.latest import io

from ..headforcing_core.families.self_forcing import SELF_FORCING
from ..headforcing_core.geometry import MOST_FPS, MOST_PIXELS, WAN21
from ..headforcing_core.run_store.record import MOST_SEED

DEFAULT_WIDTH, DEFAULT_HEIGHT = 832, 480  # what the models are trained at
LEAST_FPS = 1.0
_STEP = WAN21.pixel_step  # the least of all families


def width_input(tooltip: str, advanced: bool = False) -> io.Int.Input:
    """The width of a video in pixels."""
    return _pixels("width", DEFAULT_WIDTH, tooltip, advanced)


def height_input(tooltip: str, advanced: bool = False) -> io.Int.Input:
    """The height of a video in pixels."""
    return _pixels("height", DEFAULT_HEIGHT, tooltip, advanced)


def seed_input(tooltip: str, changes_by_itself: bool) -> io.Int.Input:
    """The seed of the noise; whether the page draws another one after each run."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MOST_SEED,
        control_after_generate=changes_by_itself,
        optional=True,
        tooltip=tooltip,
    )


def fps_input(tooltip: str, most: float = MOST_FPS, of_model: bool = False) -> io.Float.Input:
    """Pictures a second; of a model, 0 takes its own."""
    return io.Float.Input(
        "fps",
        default=0.0 if of_model else SELF_FORCING.fps,
        min=0.0 if of_model else LEAST_FPS,
        max=most,
        step=0.5,
        optional=True,
        advanced=of_model or None,  # type: ignore[arg-type]  # the host's own default
        tooltip=tooltip,
    )


def _pixels(name: str, default: int, tooltip: str, advanced: bool) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=default,
        min=_STEP,
        max=MOST_PIXELS,
        step=_STEP,
        optional=True,
        advanced=advanced or None,  # type: ignore[arg-type]  # the host's own default
        tooltip=tooltip,
    )
