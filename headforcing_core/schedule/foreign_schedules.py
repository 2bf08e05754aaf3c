"""Schedules in the syntax of other tools: recognised, and refused with the same scenes written as they are here."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..families.self_forcing import SELF_FORCING
from .scenes import ScheduleError, shown_line, shown_prompt, written_second
from .times import CLOCK, TIME, TO, WITH_UNIT, is_bare, plain_signs, seconds_of
from .written_text import Line

_QUOTES = str.maketrans("\u201c\u201d\u201e\u2018\u2019", '"""\'\'')
_ARROW = re.compile(rf"\s*({CLOCK})\s*-->\s*{CLOCK}.*")  # of SRT and WebVTT
_KEY = re.compile(  # 0: "...", 24: "..."
    r"""(?:^|[,{(\[])\s?["']?(\d{1,7})["']? ?: ?(?:[(\[]?"([^"]*)|[(\[]?'([^']*)|`([^`]*)|[(\[]([^)\]]*))"""
)
_JSON = re.compile(r"""\{? ?["'][\w .-]{1,40}["'] ?: ?["'{\[\d]""")
_BEFORE = r"(?:(?:[-*+>\u2022]|\d{1,3}[.)])\s+)?[*_`]{0,3}(?:(?:at|from|time|second|t)\b\s*[:=]?\s*)?[(<{@]?\s*"
_DRESS = r"[*_`]{0,3}"  # of Markdown
_DIVIDES = r"(?:[:=|)>@\u2192]|-+>?)"
_LINE = re.compile(
    rf"{_BEFORE}({TIME})(?:{TO}{TIME})?(\s*[)>}}]?{_DRESS}\s*(?:,|{_DIVIDES})?{_DRESS}\s*)(\S.*)", re.IGNORECASE
)
_KNOWN_TIME = rf"(?:{CLOCK}|{WITH_UNIT})"
_TIMED = re.compile(
    rf"{_BEFORE}{_KNOWN_TIME}(?:{TO}{_KNOWN_TIME})?\s*[)>}}]?{_DRESS}\s*{_DIVIDES}{_DRESS}\s", re.IGNORECASE
)
_RANGE_TIME = re.compile(rf"{TIME}{TO}{TIME}", re.IGNORECASE)
_PIPE = re.compile(r"(?:^|\s)\|(?:\s|$)")
_LEAST_WORDS = 2  # of each part between pipes, if they are prompts and not tags


class _Cue(NamedTuple):
    line: int
    time: str
    prompt: str


class _Found(NamedTuple):
    """A schedule of another tool: what it does, and its scenes; without times they follow each other."""

    what: str
    cues: Sequence[_Cue]


def check_foreign(lines: Sequence[Line]) -> None:
    """ScheduleError for lines, none of which begins a scene, that are a schedule in the syntax of another tool."""
    written = [Line(line.number, _plain(line.text)) for line in lines if line.text.strip()]
    for recognise in _RECOGNISERS:
        found = recognise(written)
        if found is not None:
            number = found.cues[0].line
            text = next(line.text for line in lines if line.number == number)
            raise ScheduleError(
                number,
                f"Schedule line {number} {found.what}: {shown_line(text)!r}. Here a scene is a line that begins with "
                f"its time in brackets. Write it like: {_right(found.cues)}. If all of it is one prompt, begin it with "
                "[0s].",
            )


def is_timed(line: str) -> bool:
    """Whether a line begins with a time as other tools write it, such as `5s: ` or `00:05 - `."""
    return _TIMED.match(_plain(line)) is not None


def _plain(text: str) -> str:
    return " ".join(plain_signs(text).translate(_QUOTES).split())


def _right(cues: Sequence[_Cue]) -> str:
    frames = all(is_bare(cue.time) for cue in cues)
    seconds = [seconds_of(cue.time) / (SELF_FORCING.fps if frames else 1) for cue in cues]
    lines = [
        f"[{written_second(0 if cue is cues[0] else second)}s] {shown_prompt(cue.prompt, 40) or '...'}"
        for cue, second in zip(cues[:2], seconds, strict=False)
    ]
    counted = f" ({cues[1].time} frames at {SELF_FORCING.fps:g} fps)" if frames and len(cues) > 1 else ""
    return ", next line ".join(lines) + counted


def _subtitles(lines: Sequence[Line]) -> _Found | None:
    places = [(place, found) for place, line in enumerate(lines) if (found := _ARROW.fullmatch(line.text))]
    if not places:
        return None
    cues = [
        _Cue(lines[place].number, found[1], lines[place + 1].text if place + 1 < len(lines) else "")
        for place, found in places
    ]
    return _Found("is one of subtitles", cues)


def _key_frames(lines: Sequence[Line]) -> _Found | None:
    cues = [
        _Cue(line.number, key[1], "".join(key.groups("")[1:])) for line in lines for key in _KEY.finditer(line.text)
    ]
    begun = [line for line in lines if _KEY.match(line.text.lstrip("{ "))]  # a prompt for all of them may stand above
    if begun and (begun[0] in lines[:1] or len(begun) > 1 or int(cues[0].time) == 0):
        return _Found("counts frames, as batch prompt schedules do", cues)
    if _JSON.match(" ".join(line.text for line in lines[:2])):
        return _Found("is JSON", [_Cue(lines[0].number, "0s", "a red fox in deep snow")])
    return None


def _timed_lines(lines: Sequence[Line]) -> _Found | None:
    found = [(line.number, match) for line in lines if (match := _LINE.match(line.text)) and _is_apart(match)]
    if not found:
        return None
    cues = [_Cue(number, _time(match), match[3]) for number, match in found]
    seconds = [seconds_of(cue.time) for cue in cues]
    rises = all(before < after for before, after in zip(seconds, seconds[1:], strict=False))
    is_marked, begins, is_first = bool(found[0][1][2].strip(" ,")), seconds[0] == 0, found[0][0] == lines[0].number
    if not rises or is_marked + begins + (len(cues) > 1) < (2 if is_first else 3):
        return None
    if all(is_bare(cue.time) for cue in cues):
        return _Found("counts frames, as prompt travel does", cues) if begins else None
    return _Found("has its time without brackets", cues)


def _is_apart(line: re.Match[str]) -> bool:
    """Whether what follows the time is a prompt: not `16:9`, `4k`, `3 foxes`."""
    if is_bare(line[1]) and not _RANGE_TIME.search(line[0][: line.start(2)]):
        return line[2].strip() in ("@", ":", "=") and (line[2].endswith((" ", "@")) or line[3][0] in "\"'(")
    return bool(line[2]) and not line[3][0].isdigit()


def _time(line: re.Match[str]) -> str:
    """The start of a timed line; that of a range, as 0-5s or 0-5, counts seconds."""
    ranged = _RANGE_TIME.search(line[0][: line.start(2)])
    return f"{line[1]}s" if ranged and is_bare(line[1]) else line[1]


def _pipes(lines: Sequence[Line]) -> _Found | None:
    text = "\n".join(line.text for line in lines)
    parts = [part.strip() for part in _PIPE.split(text)]
    while parts and not parts[-1]:
        parts.pop()
    if len(parts) < 3 or any(len(part.split()) < _LEAST_WORDS for part in parts):
        return None
    number = next(line.number for line in lines if "|" in line.text)
    return _Found(
        "divides prompts by |, which has no times", [_Cue(number, f"{5 * n}s", part) for n, part in enumerate(parts)]
    )


_RECOGNISERS: tuple[Callable[[Sequence[Line]], _Found | None], ...] = (_subtitles, _key_frames, _timed_lines, _pipes)
