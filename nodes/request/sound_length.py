"""A video that is to be as long as its sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...headforcing_core.geometry import MOST_SECONDS, pixel_frames_of

if TYPE_CHECKING:
    from ..video.sound import Sound
    from .beginning import Beginning


def check_seconds(seconds: float, has_audio: bool) -> None:
    """ValueError for a length that only a sound can give, where there is none."""
    if seconds == 0 and not has_audio:
        raise ValueError(
            f"seconds is {float(seconds)}. A video needs seconds above 0, unless audio is connected: then 0 is as long "
            "as that. Connect audio, or set seconds, for example to 20."
        )


def settled_seconds(seconds: float, sound: Sound | None, beginning: Beginning, fps: float) -> float:
    """The seconds that are asked for; those of the sound that a latent which goes on does not cover, where that is 0.
    ValueError where nothing is left of it, or it is longer than a video can be."""
    if seconds or sound is None:
        return seconds
    if sound.seconds > MOST_SECONDS:
        raise ValueError(
            f"audio lasts {sound.seconds:.1f} s, and seconds is 0, which is as long as that. A video lasts up to "
            f"{MOST_SECONDS:g} s. Connect a shorter audio, or set seconds."
        )
    if beginning.previous is None:
        return sound.seconds
    shown = pixel_frames_of(beginning.frames) / fps
    if round((sound.seconds - shown) * fps) < 1:
        raise ValueError(
            f"audio lasts {sound.seconds:.2f} s, and previous shows {shown:.2f} s of video, so nothing is left to be "
            "made as long as audio. Connect a longer audio, or set seconds to what is to be made."
        )
    return sound.seconds - shown
