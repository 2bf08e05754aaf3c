"""Timed prompts: the text an artist writes, and where its scenes begin (nodes.md, schedule text)."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

MOST_SOFT_CHUNKS = 64
_HEADER = re.compile(r"\s*\[([^\]]*)\](.*)")
_BRACKET = re.compile(r"\s*\[")
_FIRST_EXAMPLE = "[0s] a red fox in deep snow"
_EXAMPLE = "[12s] the fox finds a frozen river"
_TIME = r"(?:\d{1,4}:[0-5]\d(?:\.\d{1,6})?|\d{1,6}(?:\.\d{1,6})?s?)"
_TIMES = re.compile(rf"({_TIME})(?:\s*-\s*({_TIME}))?(?:\s+([A-Za-z]+)(?:\s+(\d{{1,6}}))?)?")


class ScheduleError(ValueError):
    """What is wrong with a schedule, and the line of it, counted from 1 (0: the whole text)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Scene:
    """One scene: when it starts and, if it says so, ends (seconds), its prompt, its own transition and for `soft` the
    chunks that it takes, and the line of its header counted from 1 (0: the text has no headers)."""

    start_second: float
    end_second: float | None
    prompt: str
    transition: str | None
    line: int = 0
    soft_chunks: int | None = None


def parse_schedule(text: str, transitions: Collection[str]) -> tuple[Scene, ...]:
    """Read a schedule, in which these words say how a scene takes over. ScheduleError with line number, the line and a
    right one for anything that cannot be read."""
    lines = text.splitlines()
    headers = [number for number, line in enumerate(lines, 1) if _BRACKET.match(line)]
    if not text.strip():
        raise ScheduleError(
            0,
            "The schedule is empty. There is nothing to show. Write a prompt, or scenes such as: "
            f"[0s] a red fox in deep snow, next line {_EXAMPLE}",
        )
    if not headers:
        return (Scene(0.0, None, " ".join(text.split()), None),)
    for number, line in enumerate(lines[: headers[0] - 1], 1):
        if line.strip():
            raise _error(number, line, "has text before the first scene", "[0s] " + line.strip())
    scenes = [
        _scene(lines, header, following, transitions)
        for header, following in zip(headers, [*headers[1:], len(lines) + 1], strict=True)
    ]
    _check_order(scenes, lines)
    return tuple(scenes)


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


def write_schedule(scenes: Sequence[Scene]) -> str:
    """The text that parse_schedule reads as these scenes, without their ends and the transition of the first."""
    lines = []
    for scene in scenes:
        how = "".join(f" {word}" for word in (scene.transition, scene.soft_chunks) if word and lines)
        lines.append(f"[{f'{scene.start_second:.3f}'.rstrip('0').rstrip('.')}s{how}] {scene.prompt}")
    return "\n".join(lines)


def _scene(lines: Sequence[str], header: int, following: int, transitions: Collection[str]) -> Scene:
    line = lines[header - 1]
    example = _EXAMPLE if any(map(_BRACKET.match, lines[: header - 1])) else _FIRST_EXAMPLE
    match = _HEADER.match(line)
    if match is None:
        raise _error(header, line, "opens a scene with [ but never closes it", example)
    times = _TIMES.fullmatch(match[1].strip())
    first = times[1] if times else ""
    # a bare number is a time only as the first half of a range, as in [0-12s]
    if (
        times is None
        or not (_is_time(first) or (times[2] and _is_time(times[2])))
        or (times[2] and not _is_time(times[2]))
    ):
        raise _error(
            header, line, f"begins with [{match[1]}], which is not a time; [ at its start opens a scene", example
        )
    transition, soft_chunks = _transition(times, header, line, transitions)
    prompt = " ".join(" ".join([match[2], *lines[header : following - 1]]).split())
    if not prompt:
        raise _error(header, line, "has no prompt", f"[{match[1].strip()}] a red fox in deep snow")
    end = _seconds(times[2]) if times[2] else None
    return Scene(_seconds(first), end, prompt, transition, header, soft_chunks)


def _transition(
    times: re.Match[str], header: int, line: str, transitions: Collection[str]
) -> tuple[str | None, int | None]:
    if times[3] is None:
        return None, None
    word, when = times[3].lower(), times[0][: times.start(3)].strip()
    if word not in transitions:
        what, right = f"names the transition {times[3]!r}; known are {', '.join(transitions)}", "cut"
    elif times[4] and word != "soft":
        what, right = f"gives {word} a number of chunks; only soft fades over chunks", word
    elif times[4] and not 1 <= int(times[4]) <= MOST_SOFT_CHUNKS:
        what, right = f"fades over {int(times[4])} chunks; soft takes 1 to {MOST_SOFT_CHUNKS}", "soft 4"
    else:
        return word, int(times[4]) if times[4] else None
    raise _error(header, line, what, f"[{when} {right}] a city at night, rain")


def _check_order(scenes: Sequence[Scene], lines: Sequence[str]) -> None:
    first = scenes[0]
    if first.start_second != 0:
        raise _error(
            first.line,
            lines[first.line - 1],
            f"starts the first scene at {first.start_second:g} s, not at 0",
            f"[0s] {first.prompt}",
        )
    for scene, following in zip(scenes, [*scenes[1:], None], strict=True):
        line = lines[scene.line - 1]
        if scene.end_second is not None and scene.end_second <= scene.start_second:
            raise _error(
                scene.line,
                line,
                f"ends at {scene.end_second:g} s, not after its start",
                f"[{scene.start_second:g}-{scene.start_second + 12:g}s] {scene.prompt}",
            )
        if following is None:
            return
        next_line = lines[following.line - 1]
        if following.start_second <= scene.start_second:
            raise _error(
                following.line,
                next_line,
                f"starts at {following.start_second:g} s, but the scene above it starts at {scene.start_second:g} s",
                f"[{scene.start_second + 12:g}s] {following.prompt}",
            )
        if scene.end_second is not None and scene.end_second != following.start_second:
            raise _error(
                following.line,
                next_line,
                f"starts at {following.start_second:g} s, but the scene above it ends at {scene.end_second:g} s",
                f"[{scene.end_second:g}s] {following.prompt}",
            )


def _is_time(text: str) -> bool:
    return text.endswith("s") or ":" in text


def _seconds(text: str) -> float:
    minutes, _, seconds = text.removesuffix("s").rpartition(":")
    return int(minutes or 0) * 60 + float(seconds)


def _error(number: int, line: str, what: str, right: str) -> ScheduleError:
    shown = line.strip() if len(line.strip()) <= 80 else line.strip()[:77] + "..."
    right = right if len(right) <= 80 else right[:77] + "..."
    return ScheduleError(number, f"Schedule line {number} {what}: {shown!r}. Write it like: {right}")
