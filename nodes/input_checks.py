"""Checks that the host runs when a workflow is queued, before anything is loaded."""

from __future__ import annotations

from ..headforcing_core.files.plain_names import check_plain_name, scene_name
from ..headforcing_core.geometry import WAN21, latent_size, pixel_frames_for
from .request.sound_length import check_seconds


def size_error(width: object, height: object) -> bool | str:
    """What is wrong with a size under every family, or True. A linked value comes as None, a word as itself; those are
    the host's affair."""
    given = [WAN21.pixel_step if not isinstance(value, int) else value for value in (width, height)]
    try:
        latent_size(given[0], given[1])
    except ValueError as error:
        return str(error)
    return True


def seconds_error(seconds: object, has_audio: bool) -> bool | str:
    """What is wrong with a length, or True. A linked value comes as None."""
    if not isinstance(seconds, float):
        return True
    try:
        check_seconds(seconds, has_audio)
        return not seconds or bool(pixel_frames_for(seconds, fps=1))
    except ValueError as error:
        return str(error)


def name_error(what: str, name: object) -> bool | str:
    """What is wrong with the name of a file or folder, or True. Nothing and a linked value are not names yet."""
    try:
        return not isinstance(name, str) or not name or bool(check_plain_name(what, name))
    except ValueError as error:
        return str(error)


def run_name_error(name: object) -> bool | str:
    """As name_error, for the name of a run, which may leave a place for the number of a scene."""
    return name_error("run_name", scene_name(name) if isinstance(name, str) else name)
