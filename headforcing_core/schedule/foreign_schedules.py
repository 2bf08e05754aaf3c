"""Schedules in the syntax of other tools: recognised, and refused with the same scenes written as they are here. What
is recognised is what its signs mean; what is read of it is what stands there."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..families.self_forcing import SELF_FORCING
from .scenes import ScheduleError, shown_line, shown_prompt, written_second
from .times import CLOCK, TIME, TO, WITH_UNIT, is_bare, plain_marks, seconds_of
from .written_text import Line

_QUOTES = str.maketrans("\u201c\u201d\u201e\u2018\u2019", '"""\'\'')
_ARROW = re.compile(rf"\s*({CLOCK})\s*-->\s*{CLOCK}.*")  # of SRT and WebVTT
_AT_KEY = r"""["']?\d{1,7}["']? ?:"""
_KEY = re.compile(  # 0: "...", 24: "..."
    r"""(?:^|[,{(\[])\s?["']?(\d{1,7})["']? ?: ?"""
    rf"""(?:[(\[]?"((?:[^"\n]|(?<=\\)"|\n(?!{_AT_KEY}))*)|[(\[]?'((?:[^'\n]|(?<=\w)'(?=\w))*)"""
    r"""|`([^`\n]*)|[(\[]([^)\]\n]*))""",
    re.MULTILINE,
)
_VALUE_ENDS = re.compile(rf"""["'`)\]]*\s?[,}}\]]*\s?(?:$|{_AT_KEY})""", re.MULTILINE)
_AFTER_KEYS = "\"'`)] \n,}"
_JSON = re.compile(r"""(?:\[ ?)?\{? ?["'][\w .-]{1,40}["'] ?: ?["'{\[\d]|\[ ?"[^"]*" ?(?:,|\]$)""")
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
UNTIMED_SECONDS = 5
"""From one scene to the next, where a schedule has no times."""
_LEAST_WORDS = 2  # of each part between pipes, if they are prompts and not tags


class Cue(NamedTuple):
    """A scene of another tool: its line, its time (a number alone counts frames, if all times of a schedule are such),
    and its prompt."""

    line: int
    time: str
    prompt: str


class Foreign(NamedTuple):
    """A schedule of another tool: what it does, its scenes, words that stand before and behind each of its prompts,
    lines above it that are none of it, and whether all of its words are in these."""

    what: str
    cues: Sequence[Cue]
    head: str = ""
    tail: str = ""
    titles: Sequence[str] = ()
    is_whole: bool = True

    def seconds(self, fps: float) -> list[float]:
        """The times of its scenes, the first of which begins at 0 whatever its time."""
        frames = all(is_bare(cue.time) for cue in self.cues)
        return [seconds_of(cue.time) / (fps if frames else 1) for cue in self.cues]


class _Signs(NamedTuple):
    """A line, or several: as its signs are meant, and as it is written, where each of them has its place."""

    number: int
    plain: str
    written: str
    places: Sequence[int]

    @classmethod
    def of(cls, number: int, text: str) -> "_Signs":
        text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
        signs = [(sign, place) for place, one in enumerate(text) for sign in unicodedata.normalize("NFKC", one)]
        plain = plain_marks("".join(sign for sign, _ in signs)).translate(_QUOTES)
        return cls(number, plain, text, [place for _, place in signs])

    def part(self, begin: int, end: int | None = None) -> str:
        """What is written where the plain signs from `begin` to `end` stand."""
        places = self.places[begin:end]
        return self.written[places[0] : places[-1] + 1] if places else ""


def check_foreign(lines: Sequence[Line]) -> None:
    """ScheduleError for lines, none of which begins a scene, that are a schedule in the syntax of another tool."""
    found = find_foreign(lines)
    if found is not None:
        number = found.cues[0].line
        text = next(line.text for line in lines if line.number == number)
        raise ScheduleError(
            number,
            f"Schedule line {number} {found.what}: {shown_line(text)!r}. Here a scene is a line that begins with "
            f"its time in brackets. Write it like: {_right(found)}. If all of it is one prompt, begin it with [0s].",
        )


def find_foreign(lines: Sequence[Line]) -> Foreign | None:
    """The schedule of another tool that lines are, none of which begins a scene."""
    written = [_Signs.of(*line) for line in lines if line.text.strip()]
    return next((found for recognise in _RECOGNISERS if (found := recognise(written)) is not None), None)


def is_timed(line: str) -> bool:
    """Whether a line begins with a time as other tools write it, such as `5s: ` or `00:05 - `."""
    return _TIMED.match(_Signs.of(0, line).plain) is not None


def _right(found: Foreign) -> str:
    cues, seconds = found.cues, [0.0, *found.seconds(SELF_FORCING.fps)[1:]]
    lines = [
        f"[{written_second(second)}s] {shown_prompt(cue.prompt, 40) or '...'}"
        for cue, second in zip(cues[:2], seconds, strict=False)
    ]
    frames = len(cues) > 1 and all(is_bare(cue.time) for cue in cues)
    return ", next line ".join(lines) + (f" ({cues[1].time} frames at {SELF_FORCING.fps:g} fps)" if frames else "")


def _subtitles(lines: Sequence[_Signs]) -> Foreign | None:
    found = [(place, arrow) for place, line in enumerate(lines) if (arrow := _ARROW.fullmatch(line.plain))]
    if not found:
        return None
    cues = []
    for (place, arrow), after in zip(found, [*(place for place, _ in found[1:]), None], strict=True):
        texts = [line.written for line in lines[place + 1 : after]]
        if after is not None and texts and texts[-1].isdecimal():  # the number of the next one
            texts.pop()
        cues.append(Cue(lines[place].number, arrow[1], " ".join(texts)))
    return Foreign("is one of subtitles", cues)


def _key_frames(lines: Sequence[_Signs]) -> Foreign | None:
    begun = [line for line in lines if _KEY.match(line.plain.lstrip("{ "))]  # a prompt for all of them may stand above
    if begun:
        whole = _Signs.of(0, "\n".join(line.written for line in lines))
        keys = list(_KEY.finditer(whole.plain))
        cues = [Cue(lines[whole.plain.count("\n", 0, key.start(1))].number, key[1], _value(whole, key)) for key in keys]
        if not all(_VALUE_ENDS.match(whole.plain, key.end()) for key in keys):  # as in `0: (best:1.2), a fox`
            return _timed_lines(lines) or Foreign("counts frames, as batch prompt schedules do", cues, is_whole=False)
        if begun[0] in lines[:1] or len(begun) > 1 or int(cues[0].time) == 0:
            head = whole.part(0, keys[0].start()).strip("{, \n")
            tail = whole.part(keys[-1].end()).lstrip(_AFTER_KEYS).rstrip("}, \n")
            return Foreign("counts frames, as batch prompt schedules do", cues, head, tail)
    if _JSON.match(" ".join(line.plain for line in lines[:2])):
        return Foreign("is JSON", [Cue(lines[0].number, "0s", "a red fox in deep snow")])
    return None


def _value(whole: _Signs, key: re.Match[str]) -> str:
    group = key.lastindex or 1
    return " ".join(whole.part(*key.span(group)).replace('\\"', '"').split())


def _timed_lines(lines: Sequence[_Signs]) -> Foreign | None:
    found = [(line, match) for line in lines if (match := _LINE.match(line.plain)) and _is_apart(match)]
    if not found:
        return None
    cues = [Cue(line.number, _time(match), line.part(match.start(3))) for line, match in found]
    seconds = [seconds_of(cue.time) for cue in cues]
    rises = all(before < after for before, after in zip(seconds, seconds[1:], strict=False))
    is_marked, begins, is_first = bool(found[0][1][2].strip(" ,")), seconds[0] == 0, found[0][0] == lines[0]
    if not rises or is_marked + begins + (len(cues) > 1) < (2 if is_first else 3):
        return None
    places = [lines.index(line) for line, _ in found]
    above, below = [[line.written for line in part] for part in (lines[: places[0]], lines[places[-1] + 1 :])]
    whole = [
        cue._replace(prompt=" ".join([cue.prompt, *(line.written for line in lines[place + 1 : after])]))
        for cue, place, after in zip(cues, places, [*places[1:], None], strict=True)
    ]
    if not all(is_bare(cue.time) for cue in cues):
        return Foreign("has its time without brackets", whole, titles=above)
    if not begins:
        return None
    told, head = "counts frames, as prompt travel does", " ".join(above)
    if whole[:-1] != cues[:-1]:  # prompts go on over lines
        return Foreign(told, whole, head)
    return Foreign(told, cues, head, " ".join(below))


def _is_apart(line: re.Match[str]) -> bool:
    """Whether what follows the time is a prompt: not `16:9`, `4k`, `3 foxes`."""
    if is_bare(line[1]) and not _RANGE_TIME.search(line[0][: line.start(2)]):
        return line[2].strip() in ("@", ":", "=") and (line[2].endswith((" ", "@")) or line[3][0] in "\"'(")
    return bool(line[2]) and not line[3][0].isdigit()


def _time(line: re.Match[str]) -> str:
    """The start of a timed line; that of a range, as 0-5s or 0-5, counts seconds."""
    ranged = _RANGE_TIME.search(line[0][: line.start(2)])
    return f"{line[1]}s" if ranged and is_bare(line[1]) else line[1]


def _pipes(lines: Sequence[_Signs]) -> Foreign | None:
    whole = _Signs.of(0, "\n".join(line.written for line in lines))
    bounds = [0, *(place for pipe in _PIPE.finditer(whole.plain) for place in pipe.span()), len(whole.plain)]
    parts = [" ".join(whole.part(*span).split()) for span in zip(bounds[::2], bounds[1::2], strict=True)]
    while parts and not parts[-1]:
        parts.pop()
    if len(parts) < 3 or any(len(part.split()) < _LEAST_WORDS for part in parts):
        return None
    number = next(line.number for line in lines if "|" in line.plain)
    cues = [Cue(number, f"{UNTIMED_SECONDS * n}s", part) for n, part in enumerate(parts)]
    return Foreign("divides prompts by |, which has no times", cues)


_RECOGNISERS: tuple[Callable[[Sequence[_Signs]], Foreign | None], ...] = (
    _subtitles,
    _key_frames,
    _timed_lines,
    _pipes,
)
