"""A schedule of another tool, written as they are here."""

from collections.abc import Collection, Iterator

from ..families.self_forcing import SELF_FORCING
from ..files.strict_json import Json, parse_json
from .foreign_schedules import UNTIMED_SECONDS, Cue, Foreign, find_foreign
from .located import newline_of
from .reading import parse_schedule, read_header, read_prompt
from .scenes import ScheduleError, written_second
from .written_text import JOINERS, Line, read_line, written_lines

_PROMPTS = ("prompt", "text", "caption", "description")
_LISTS = ("prompts", "scenes", "shots", "segments", "schedule", "timeline")
_SECONDS = ("time", "start", "start_time", "start_second", "second", "seconds", "t")
_FRAMES = ("frame", "start_frame")


def converted(text: str, fps: float, transitions: Collection[str]) -> str:
    """The text of the same scenes, with frames at so many a second. ScheduleError for a text that is no schedule of
    another tool, and for one whose prompts cannot be told."""
    found = _foreign(text)
    if found is None:
        raise ScheduleError(0, "The text is no schedule of another tool that can be converted. Write it by hand.")
    scenes: dict[str, str] = {}
    for cue, second in sorted(zip(found.cues, found.seconds(fps), strict=True), key=lambda pair: pair[1]):
        prompt = ", ".join(part for each in (found.head, cue.prompt, found.tail) if (part := each.strip(" ,")))
        if cue.prompt:
            scenes[written_second(second if scenes else 0)] = prompt
    titles = [f"// {title.lstrip('#/* ')}" for title in found.titles]
    new = newline_of(text).join([*titles, *(f"[{second}s] {prompt}" for second, prompt in scenes.items())])
    wanted = [(float(second), read_prompt(prompt)) for second, prompt in scenes.items()]
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
    lines = [Line(line.number, line.text if read_line(line.text) else "") for line in written_lines(text)]
    if any(read_header(line.text.lstrip(JOINERS + " \t")) for line in lines):
        return None
    found = find_foreign(lines)
    if found is None or found.what != "is JSON":
        return found
    try:
        values = list(_of_json(parse_json(text.strip().lstrip("\ufeff").encode())))
    except ValueError:
        return None
    if not values:
        return None
    if any(time is None for time, _ in values):
        values = [(f"{UNTIMED_SECONDS * number}s", prompt) for number, (_, prompt) in enumerate(values)]
    return found._replace(cues=[Cue(1, time or "0s", " ".join(prompt.split())) for time, prompt in values])


def _of_json(value: Json) -> Iterator[tuple[str | None, str]]:
    """The times, if there are any, and the prompts of a JSON value."""
    if isinstance(value, str):
        yield None, value
    elif isinstance(value, list):
        for each in value:
            yield from _of_json(each)
    elif isinstance(value, dict):
        prompt = next((found for name in _PROMPTS if isinstance(found := value.get(name), str)), None)
        if prompt is not None:
            yield _time(value), prompt
            return
        for name in (*_PROMPTS, *_LISTS):
            if isinstance(found := value.get(name), list):
                yield from _of_json(found)
                return


def _time(value: dict[str, Json]) -> str | None:
    for names, unit in ((_SECONDS, "s"), (_FRAMES, "")):
        for name in names:
            found = value.get(name)
            if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 1e6:
                return f"{written_second(found)}{unit}"
    return None
