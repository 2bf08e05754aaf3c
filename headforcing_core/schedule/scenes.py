"""The scenes of a schedule: where they begin in a video, and how they are written (nodes.md, schedule text)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten

_MOST_SHOWN = 80
_BRACES = re.compile(r"[{}]")


class ScheduleError(ValueError):
    """What is wrong with a schedule, and the line of it, counted from 1 (0: the whole text)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Scene:
    """One scene: when it starts and, if it says so, ends (seconds), its prompt, its own transition and for `soft` the
    chunks that it takes, the line of its header counted from 1 (0: the text has no headers), and sentences on what of
    its text does nothing here."""

    start_second: float
    end_second: float | None
    prompt: str
    transition: str | None
    line: int = 0
    soft_chunks: int | None = None
    notes: tuple[str, ...] = ()


def place_scenes(
    scenes: Sequence[Scene], chunks: int, start_second: Callable[[int], float], nearest: Sequence[int]
) -> tuple[tuple[tuple[int, Scene], ...], tuple[str, ...]]:
    """Put scenes on chunks. `nearest` gives every scene's nearest chunk, `start_second` the second of a chunk's start.

    Returns the scenes that fall into the video, each with its first chunk, and a line on each scene that was moved or
    lies after its end. ScheduleError when two scenes fall on one chunk.
    """
    placed: list[tuple[int, Scene]] = []
    notes: list[str] = []
    for scene, chunk in zip(scenes, nearest, strict=True):
        if chunk >= chunks:
            notes.append(f"The scene at {scene.start_second:g} s begins after the end of the video and is not shown.")
            continue
        before, other = placed[-1] if placed else (-1, scene)
        if before == chunk:
            raise ScheduleError(
                scene.line,
                f"Schedule line {scene.line}: the scenes at {other.start_second:g} s and {scene.start_second:g} s "
                f"both begin on chunk {chunk} ({start_second(chunk):.2f} s). A prompt can change only where a chunk "
                f"begins. Put them at least {start_second(2) - start_second(1):.2f} s apart.",
            )
        start = start_second(chunk)
        if abs(start - scene.start_second) >= 0.005:
            notes.append(f"The scene at {scene.start_second:g} s begins at {start:.2f} s (chunk {chunk}).")
        placed.append((chunk, scene))
    return tuple(placed), tuple(notes)


def write_schedule(scenes: Sequence[Scene], goes_on: bool = False) -> str:
    """The text that parse_schedule reads as these scenes, without their ends and the transition of the first, unless
    that `goes_on` from something. Braces are escaped, so that the page's own text box draws nothing."""
    lines = []
    for scene in scenes:
        how = "".join(f" {word}" for word in (scene.transition, scene.soft_chunks) if word and (lines or goes_on))
        prompt = _BRACES.sub(r"\\\g<0>", scene.prompt)
        lines.append(f"[{written_second(scene.start_second)}s{how}] {prompt}")
    return "\n".join(lines)


def written_second(second: float) -> str:
    """A second as a schedule has it, to the millisecond."""
    return f"{second:.3f}".rstrip("0").rstrip(".")


def shown_line(text: str) -> str:
    """A line as errors and notes show it."""
    text = text.strip()
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def shown_prompt(prompt: str, most: int = _MOST_SHOWN) -> str:
    """A prompt as part of a right line that an error shows: its first words."""
    return shorten(prompt, most, placeholder=" ...") or prompt[:most]
