"""Timed prompts: the text an artist writes (nodes.md, schedule text)."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..families.self_forcing import SELF_FORCING
from .foreign_schedules import check_foreign
from .prompt_habits import address_notes, line_notes, prompt_notes
from .scenes import Scene, ScheduleError, shown_line, shown_prompt, written_second
from .times import Times, is_bare, plain_signs, read_times
from .written_text import JOINERS, Line, read_lines

MOST_SOFT_CHUNKS = 64
_CLOSING = "\\]\uff3d\u3011\u3015"
_HEADER = re.compile(rf"\[([^\]]*)\](.*)|\[([^{_CLOSING}]*)[{_CLOSING}](.*)")
# a time in brackets that stands behind signs of Markdown or between those of another keyboard
_DRESSED = re.compile(
    r"(?:(?:[-*+>\u2022]|#{1,6}|\d{1,3}[.)])\s+){0,3}(?P<markup>[*_`]{0,3}|[\"\u201c])"
    rf"[\[\uff3b\u3010\u3014](?P<inside>[^{_CLOSING}]{{1,40}})[{_CLOSING}](?P<rest>.*)"
)
# between a time and its prompt
SEPARATOR = re.compile(f"(?:[ {JOINERS}:\uff1a]|(?:[-|\u2013\u2014]|[-=]>|\u2192) )*")
_COMMA = re.compile(r"(\d{1,6}),(\d{1,6})\s*s?")
_JSON_LIST = re.compile(r"\s*\[\s*(?:$|[\"{])")
_EDITING = re.compile(r"[^:]*:([^:]+):\s*[\d.]+")  # [from:to:when]
_EXAMPLES = ("a red fox in deep snow", "the fox finds a frozen river")
_MOST_OF_A_PROMPT = 40  # characters, where an error shows a right line
_SAME_TIME = 1e-6  # seconds, between one time and the same in another notation
_APART = 12.0  # seconds between the scenes of an example


class Header(NamedTuple):
    """How the line begins that begins a scene: what its brackets hold (None: they are never closed), and the rest."""

    inside: str | None
    rest: str


def parse_schedule(text: str, transitions: Collection[str], is_drawn: bool = False) -> tuple[Scene, ...]:
    """Read a schedule, in which these words say how a scene takes over. ScheduleError with line number, the line and a
    right one for anything that cannot be read. `is_drawn` says that the page will still draw the choices of the text,
    none of which may decide about times."""
    lines = read_lines(text)
    headers = [(place, header) for place, line in enumerate(lines) if (header := read_header(line.text)) is not None]
    whole = _prompt([line.text for line in lines])
    if not whole:
        raise ScheduleError(
            0,
            "The schedule is empty. There is nothing to show. Write a prompt, or scenes such as: "
            f"[0s] {_EXAMPLES[0]}, next line [12s] {_EXAMPLES[1]}",
        )
    if not headers or _JSON_LIST.match(lines[headers[0][0]].text):
        check_foreign(lines)
    if not headers:
        notes = (*address_notes(text), *_notes(lines, whole, "The prompt", is_drawn))
        return (Scene(0.0, None, whole, None, notes=notes),)
    scenes: list[Scene] = []
    ends = [*(place for place, _ in headers[1:]), len(lines)]
    for (place, header), end in zip(headers, ends, strict=True):
        scene = _scene(lines[place:end], header, scenes, transitions)
        notes = _notes(lines[place:end], scene.prompt, f"The scene at {scene.start_second:g} s", is_drawn, header)
        scenes.append(replace(scene, notes=notes))
    scenes[0] = replace(scenes[0], notes=(*address_notes(text), *scenes[0].notes))
    _check_before(lines[: headers[0][0]], scenes[0])
    _check_order(scenes, {line.number: line.text for line in lines})
    return tuple(scenes)


def read_prompt(text: str) -> str:
    """A prompt as it is read now, of one that was written down: without comments, invisible characters and whatever
    divides it from its time."""
    return _prompt([line.text for line in read_lines(text)])


def read_live_prompt(text: str) -> tuple[str, tuple[str, ...]]:
    """The one prompt of a text that takes over at once, and sentences on what of it does nothing. ScheduleError for a
    text that has times of its own."""
    lines = read_lines(text)
    send = "It takes over at the next chunk. Send one prompt without times, or put this into Prompt Schedule."
    for number, line in lines:
        header = read_header(line)
        if header and header.inside is not None and read_times(header.inside):
            raise ScheduleError(number, f"The live prompt has a time of its own: {shown_line(line)!r}. {send}")
    try:
        check_foreign(lines)
    except ScheduleError as error:
        shown = next(line.text for line in lines if line.number == error.line)
        raise ScheduleError(error.line, f"The live prompt is a schedule: {shown_line(shown)!r}. {send}") from None
    prompt = _prompt([line.text for line in lines])
    return prompt, (*address_notes(text), *_notes(lines, prompt, "The live prompt", False))


def read_header(line: str) -> Header | None:
    """How a line begins that begins a scene; None for any other."""
    line = line.strip()
    if line.startswith("["):
        found = _HEADER.fullmatch(line)
        if found is None:
            return Header(None, "")
        return Header(found[1], found[2]) if found[1] is not None else Header(found[3], found[4])
    found = _DRESSED.fullmatch(line)
    if found is None or read_times(found["inside"]) is None:
        return None
    rest, markup = found["rest"], found["markup"].replace("\u201c", "\u201d")
    if rest.startswith(markup):
        rest = rest.removeprefix(markup)
    elif rest.rstrip(",").endswith(markup):
        rest = rest.rstrip(",").removesuffix(markup)
    return Header(found["inside"], rest)


def _prompt(texts: Sequence[str]) -> str:
    return SEPARATOR.sub("", " ".join(" ".join(texts).split()) + " ", 1).strip()


def _notes(
    lines: Sequence[Line], prompt: str, where: str, is_drawn: bool, header: Header | None = None
) -> tuple[str, ...]:
    return (*prompt_notes(prompt, where, is_drawn), *line_notes(lines, where, header is not None))


def _scene(lines: Sequence[Line], header: Header, above: Sequence[Scene], transitions: Collection[str]) -> Scene:
    line, prompt = lines[0], _prompt([header.rest, *(line.text for line in lines[1:])])
    shown = shown_prompt(prompt, _MOST_OF_A_PROMPT) or _EXAMPLES[bool(above)]
    second = written_second(above[-1].start_second + _APART) if above else "0"
    if header.inside is None:
        time, _, rest = line.text.strip()[1:].partition(" ")
        right = f"[{time}] {rest}" if rest and read_times(time) else f"[{second}s] {shown}"
        raise _error(line, "opens a scene with [ but never closes it", right)
    times = read_times(header.inside)
    if times is None:
        what = f"begins with [{shown_line(header.inside)}], which is not a time; [ at its start opens a scene"
        raise _error(line, what, _time_for(plain_signs(header.inside).strip(), second, shown))
    transition = _transition(times, line, transitions, shown)
    if not prompt:
        raise _error(line, "has no prompt", f"[{header.inside.strip()}] {_EXAMPLES[0]}")
    return Scene(times.start_second, times.end_second, prompt, transition, line.number, times.chunks)


def _time_for(inside: str, second: str, prompt: str) -> str:
    """A right line in place of one whose brackets hold no time, of what stands in them."""
    if is_bare(inside):
        frames = written_second(float(inside) / SELF_FORCING.fps)
        counted = f"; or [{frames}s], if {inside} counts frames at {SELF_FORCING.fps:g} fps" if float(inside) else ""
        return f"[{inside}s] {prompt}{counted}"
    if comma := _COMMA.fullmatch(inside):
        ranged = f"; or [{comma[1]}-{comma[2]}s], from - to" if int(comma[1]) < int(comma[2]) else ""
        return f"[{comma[1]}.{comma[2]}s] {prompt}{ranged}"
    if editing := _EDITING.fullmatch(inside):
        return f"[{second}s] {shown_prompt(editing[1].strip(), 30)} {prompt}"
    return f"[{second}s] {prompt}"


def _transition(times: Times, line: Line, transitions: Collection[str], prompt: str) -> str | None:
    if times.transition is None:
        return None
    word = times.transition.lower()
    if word not in transitions:
        what, right = f"names the transition {times.transition!r}; known are {', '.join(transitions)}", "cut"
    elif times.chunks is not None and word != "soft":
        what, right = f"gives {word} a number of chunks; only soft fades over chunks", word
    elif times.chunks is not None and not 1 <= times.chunks <= MOST_SOFT_CHUNKS:
        what, right = f"fades over {times.chunks} chunks; soft takes 1 to {MOST_SOFT_CHUNKS}", "soft 4"
    else:
        return word
    raise _error(line, what, f"[{times.when} {right}] {prompt}")


def _check_before(lines: Sequence[Line], first: Scene) -> None:
    """Nothing stands before the first scene; what does is a scene, if there is room for one, or else a comment."""
    for line in lines:
        if not line.text.strip():
            continue
        if first.start_second > 0:
            raise _error(line, "has text before the first scene", f"[0s] {shown_prompt(line.text)}")
        comment = "// " + line.text.lstrip("# \t")
        raise _error(line, "has text before the first scene, which begins at 0", comment, "; or put it behind [0s]")


def _check_order(scenes: Sequence[Scene], lines: dict[int, str]) -> None:
    first = scenes[0]
    if first.start_second != 0:
        what = f"starts the first scene at {first.start_second:g} s, not at 0"
        raise _error(Line(first.line, lines[first.line]), what, f"[0s] {first.prompt}")
    for scene, following in zip(scenes, [*scenes[1:], None], strict=True):
        start, end = scene.start_second, scene.end_second
        if end is not None and end <= start:
            right = f"[{start:g}-{start + _APART:g}s] {scene.prompt}"
            raise _error(Line(scene.line, lines[scene.line]), f"ends at {end:g} s, not after its start", right)
        if following is None:
            return
        line, begins = Line(following.line, lines[following.line]), f"starts at {following.start_second:g} s"
        if following.start_second <= start:
            what = f"{begins}, but the scene above it starts at {start:g} s"
            raise _error(line, what, f"[{start + _APART:g}s] {following.prompt}")
        if end is not None and abs(end - following.start_second) > _SAME_TIME:
            what = f"{begins}, but the scene above it ends at {end:g} s"
            raise _error(line, what, f"[{end:g}s] {following.prompt}")


def _error(line: Line, what: str, right: str, otherwise: str = "") -> ScheduleError:
    return ScheduleError(
        line.number,
        f"Schedule line {line.number} {what}: {shown_line(line.text)!r}. Write it like: {shown_line(right)}{otherwise}",
    )
