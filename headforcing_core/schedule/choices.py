"""Choices in braces, `{red|blue}`, which the page's own text box draws when a workflow is queued."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from .scenes import shown_line
from .written_text import LINE_BREAKS, without_comments

_NEAR = 100  # characters
_OPENING = "[\uff3b\u3010\u3014"
_INSIDE_HEADER = re.compile(rf"\s*[{re.escape(_OPENING)}][^\]\uff3d\u3011\u3015]*")
_BEGINS_A_LINE = re.compile(rf"[{LINE_BREAKS}][^\S{LINE_BREAKS}]*[{re.escape(_OPENING)}]")
_BEGINS_AN_OPTION = re.compile(rf"(?:^|[{{|])\s*[{re.escape(_OPENING)}]")


class _Choice(NamedTuple):
    """A choice and all choices in it: where its line begins, where it does, and where it ends, braces included."""

    line: int
    begin: int
    end: int


def choice_of_times(text: str) -> str | None:
    """The first choice of a text that decides where scenes begin, or how they take over; None if all of them are inside
    of prompts."""
    text = without_comments(text)
    for choice in _choices(text):
        before, inside = text[choice.line : choice.begin], text[choice.begin + 1 : choice.end]
        if _INSIDE_HEADER.fullmatch(before) or _BEGINS_A_LINE.search(inside):
            return shown_line(text[choice.begin : choice.end])
        after = text[choice.end : choice.end + _NEAR].lstrip()[:1]
        if not before.strip() and (_BEGINS_AN_OPTION.search(inside) or (after and after in _OPENING)):
            return shown_line(text[choice.begin : choice.end])
    return None


def choice_notes(text: str) -> tuple[str, ...]:
    """A sentence on the choices of a text that the page will draw, if there are any."""
    text = without_comments(text)
    found = [shown for choice in _choices(text) if "|" in (shown := text[choice.begin : choice.end])]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return (f"{shown_line(found[0])}{more} is drawn when you press Run.",) if found else ()


def _choices(text: str) -> Iterator[_Choice]:
    """The outermost choices, read as the page reads them: an escaped brace is none, and one that is never closed goes
    on to the end."""
    line = begin = depth = place = 0
    while place < len(text):
        sign = text[place]
        if sign == "\\":
            place += 1
        elif sign == "{":
            begin, depth = (begin, depth + 1) if depth else (place, 1)
        elif sign == "}" and depth:
            depth -= 1
            if not depth:
                yield _Choice(line, begin, place + 1)
        elif not depth and sign in LINE_BREAKS:
            line = place + 1
        place += 1
    if depth:
        yield _Choice(line, begin, len(text))
