"""The lines of a text as an artist wrote it: without comments and without what nobody can see."""

import re
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
_COMMENT_END = re.compile("[\n\r\u2028\u2029]")  # as in ComfyUI's own prompt box
_ESCAPED = re.compile(r"\\([{}|])")
_FENCE_OR_RULE = re.compile(r"\s*(?:(?:```|~~~)\w*|([-*_=])(?:\s*\1){2,})\s*")  # of Markdown, a whole line
_LINE_BREAK = "\x1a"  # one inside of a comment, while lines are counted


class Line(NamedTuple):
    """A line, with the number that it has in the text as it was written, from 1."""

    number: int
    text: str


def read_lines(text: str) -> list[Line]:
    """The lines of a text. Comments (`//` to the end of the line, `/* */`) are left out as in the host's own prompt
    box, so are invisible characters and lines that only divide; `\\{` is a brace."""
    lines: list[Line] = []
    above = 0  # line breaks inside of comments
    for number, line in enumerate(without_comments(text, _LINE_BREAK).splitlines(), 1):
        before = len(line) - len(line.lstrip(_LINE_BREAK + " \t"))
        first = number + above + line[:before].count(_LINE_BREAK)
        above += line.count(_LINE_BREAK)
        plain = _ESCAPED.sub(r"\1", line.replace(_LINE_BREAK, "")).lstrip(JOINERS + " \t")
        lines.append(Line(first, "" if _FENCE_OR_RULE.fullmatch(plain) else plain))
    return lines


def without_comments(text: str, line_break: str = "") -> str:
    """A text without comments and invisible characters, with `line_break` for every line break inside of a comment."""
    text = _INVISIBLE.sub("", text)
    parts, done, place = list[str](), 0, 0
    while found := _COMMENT.search(text, place):
        begin, place = found.start(), found.start() + 1
        if found[0] == "/*":
            end = text.find("*/", begin + 2) + 2
        else:
            line_end = _COMMENT_END.search(text, begin)
            end = line_end.start() if line_end else len(text)
        if end > begin:  # a block that is never closed is none
            parts += text[done:begin], line_break * (len(f"{text[begin:end]}.".splitlines()) - 1)
            done = place = end
    return "".join(parts) + text[done:]
