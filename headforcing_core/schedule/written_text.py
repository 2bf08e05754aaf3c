"""The lines of a text as an artist wrote it: without comments and without what nobody can see."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""At which `str.splitlines` divides lines; the page's text_line.js counts them likewise."""

# soft hyphen, zero-width space, marks of direction, byte order mark, control characters, halves of characters; the
# joiners of emoji and of Arabic and Indian scripts (200c, 200d) mean something, and so do line breaks
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)
JOINERS = "\u200c\u200d"
"""Invisible characters of which only those at the beginning of a line mean nothing."""
_COMMENT = re.compile(r"//|/\*")
_LINE_COMMENT = re.compile("//")
_COMMENT_END = re.compile("[\n\r\u2028\u2029]")  # as in ComfyUI's own prompt box
_ESCAPED = re.compile(r"\\([{}|])")
_FENCE_OR_RULE = re.compile(r"\s*(?:(?:```|~~~)\w*|([-*_=])(?:\s*\1){2,})\s*")  # of Markdown, a whole line
_LINE_BREAK = "\x1a"  # one inside of a comment, while lines are counted


class Line(NamedTuple):
    """A line, with the number that it has in the text as it was written, from 1."""

    number: int
    text: str


class WrittenLine(NamedTuple):
    """A line as it stands in a text: what of it is read, escapes included, and at which place of the text each sign of
    that stands; the whole line, comments included, goes from `begin` to `end`, where its line break is."""

    number: int
    text: str
    places: Sequence[int]
    begin: int
    end: int


def read_lines(text: str) -> list[Line]:
    """The lines of a text. Comments (`//` to the end of the line, `/* */`) are left out as in the host's own prompt
    box, so are invisible characters and lines that only divide; `\\{` is a brace."""
    return [Line(line.number, read_line(line.text)) for line in written_lines(text)]


def read_line(written: str) -> str:
    """What a line means, of what is read of it: with plain braces, and nothing for one that only divides."""
    plain = _ESCAPED.sub(r"\1", written).lstrip(JOINERS + " \t")
    return "" if _FENCE_OR_RULE.fullmatch(plain) else plain


def written_lines(text: str) -> list[WrittenLine]:
    """The lines of a text, and where they stand in it."""
    marked, places = _marked(text)
    lines: list[WrittenLine] = []
    above = at = begin = 0  # `above` counts line breaks inside of comments
    for number, whole in enumerate(marked.splitlines(keepends=True), 1):
        line = whole.rstrip(LINE_BREAKS)
        first, read = number + above, places[at : at + len(line)]
        if _LINE_BREAK in line:
            before = len(line) - len(line.lstrip(_LINE_BREAK + " \t"))
            first += line[:before].count(_LINE_BREAK)
            above += line.count(_LINE_BREAK)
            read = [place for place, sign in zip(read, line, strict=True) if sign != _LINE_BREAK]
        end = places[at + len(line)] if len(whole) > len(line) else len(text)
        lines.append(WrittenLine(first, line.replace(_LINE_BREAK, ""), read, begin, end))
        at += len(whole)
        begin = places[at - 1] + 1
    return lines


def without_comments(text: str) -> str:
    """A text without comments and invisible characters."""
    return _marked(text)[0].replace(_LINE_BREAK, "")


def _marked(text: str) -> tuple[str, list[int]]:
    """A text without comments and invisible characters, with a mark for every line break inside of a comment, and the
    place in the text of each of its signs."""
    invisible = {found.start() for found in _INVISIBLE.finditer(text)}
    seen = [place for place in range(len(text)) if place not in invisible]
    text = _INVISIBLE.sub("", text)
    parts, places, done = list[str](), list[int](), 0
    for begin, end in (*_comments(text), (len(text), len(text))):
        breaks = len(f"{text[begin:end]}.".splitlines()) - 1
        parts += text[done:begin], _LINE_BREAK * breaks
        places += [*seen[done:begin], *seen[begin : begin + 1] * breaks]
        done = end
    return "".join(parts), places


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """Where comments begin and end."""
    place, opening = 0, _COMMENT
    while found := opening.search(text, place):
        begin = found.start()
        if found[0] == "//":
            line_end = _COMMENT_END.search(text, begin)
            place = line_end.start() if line_end else len(text)
        elif (closing := text.find("*/", begin + 2)) >= 0:
            place = closing + 2
        else:  # it is none, and neither is another one behind it
            place, opening = begin + 1, _LINE_COMMENT
            continue
        yield begin, place
