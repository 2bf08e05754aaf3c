"""A schedule of another tool, written as they are here."""

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from ..families.self_forcing import SELF_FORCING
from ..files.strict_json import Json, number, parse_json
from .foreign_schedules import UNTIMED_SECONDS, Cue, Foreign, find_foreign
from .located import newline_of
from .reading import parse_schedule, read_header, read_prompt
from .scenes import ScheduleError, written_second
from .times import TIMES, is_bare, plain_signs
from .written_text import JOINERS, Line, read_line, written_lines

_PROMPTS = ("prompt", "text", "caption", "description")
_LISTS = ("prompts", "scenes", "shots", "segments", "schedule", "timeline")
_SECONDS = ("time", "start", "start_time", "start_second", "second", "seconds", "t", "timestamp", "at", "from")
_FRAMES = ("frame", "start_frame")
_LENGTHS = ("duration", "duration_seconds", "length")
_MOST = 999_999.0


class _Shot(NamedTuple):
    """A prompt in JSON; its time and the seconds that it lasts, where they are told."""

    time: str | None
    seconds: float | None
    prompt: str


def converted(text: str, fps: float, transitions: Collection[str]) -> str:
    """The text of the same scenes, with frames at so many a second. ScheduleError for a text that is no schedule of
    another tool, and for one whose prompts cannot be told."""
    found = _foreign(text)
    if found is None:
        raise ScheduleError(0, "The text is no schedule of another tool that can be converted. Write it by hand.")
    scenes: list[tuple[str, str]] = []
    for cue, second in sorted(zip(found.cues, found.seconds(fps), strict=True), key=lambda pair: pair[1]):
        prompt = ", ".join(part for each in (found.head, cue.prompt, found.tail) if (part := each.strip(" ,")))
        if cue.prompt:
            scenes.append((written_second(second if scenes else 0), prompt))
    titles = [f"// {title.lstrip('#/* ')}" for title in found.titles]
    new = newline_of(text).join([*titles, *(f"[{second}s] {prompt}" for second, prompt in scenes)])
    wanted = [(float(second), read_prompt(prompt)) for second, prompt in scenes]
    if [(scene.start_second, scene.prompt) for scene in parse_schedule(new, transitions)] != wanted:
        raise ScheduleError(0, "The prompts of this text would be read as something else. Convert it by hand.")
    return new


def is_convertible(text: str, transitions: Collection[str]) -> bool:
    """Whether a text is a schedule of another tool that can be converted."""
    try:
        converted(text, SELF_FORCING.fps, transitions)
    except ScheduleError:
        return False
    return True


def _foreign(text: str) -> Foreign | None:
    written = written_lines(text)
    lines = [Line(line.number, line.text if read_line(line.text) else "") for line in written]
    is_ours = any(read_header(line.text.lstrip(JOINERS + " \t")) for line in lines)
    found = None if is_ours else find_foreign(lines)
    if found is not None and found.what != "is JSON":
        return found if found.is_whole else None
    try:
        value = parse_json("\n".join(text[line.begin : line.end] for line in written if read_line(line.text)).encode())
        shots = list(_shots(value)) if isinstance(value, list | dict) else []
        return Foreign("is JSON", _cues(shots)) if shots else None
    except (ValueError, RecursionError):
        return None


def _shots(value: Json) -> Iterator[_Shot]:
    """The prompts of a JSON value. ValueError for a time that cannot be read."""
    if isinstance(value, str):
        yield _Shot(None, None, value)
    elif isinstance(value, list):
        for each in value:
            yield from _shots(each)
    elif isinstance(value, dict):
        prompt = next((found for name in _PROMPTS if isinstance(found := value.get(name), str)), None)
        if prompt is not None:
            length = next((found for name in _LENGTHS if (found := value.get(name)) is not None), None)
            yield _Shot(_time(value), None if length is None else number("", length, 0, _MOST), prompt)
            return
        for name in (*_PROMPTS, *_LISTS):
            if isinstance(found := value.get(name), list):
                yield from _shots(found)
                return


def _time(value: dict[str, Json]) -> str | None:
    for names, unit in ((_SECONDS, "s"), (_FRAMES, "")):
        for name in names:
            told = value.get(name)
            if isinstance(told, str):
                times = TIMES.fullmatch(plain_signs(told).strip())
                if times is None:
                    raise ValueError(name)
                return f"{times[1]}{unit}" if is_bare(times[1]) else times[1]
            if told is not None:
                return f"{written_second(number(name, told, 0, _MOST))}{unit}"
    return None


def _cues(shots: Sequence[_Shot]) -> list[Cue]:
    """When each of them begins. ValueError where that is told of some alone, or in frames of some alone."""
    times = [shot.time for shot in shots]
    if not any(times):
        lengths = [shot.seconds for shot in shots[:-1]]
        known = [UNTIMED_SECONDS if length is None else length for length in lengths]
        if any(lengths) and None in lengths:
            raise ValueError("duration")
        times = [f"{written_second(at)}s" for at in accumulate([0, *known])]
    cues = [Cue(1, time or "0s", " ".join(shot.prompt.split())) for time, shot in zip(times, shots, strict=True)]
    if None in times[1:] or len({is_bare(cue.time) for cue in cues}) > 1:
        raise ValueError("time")
    return cues
