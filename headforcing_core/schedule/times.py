"""Times as people write them, between brackets or before a prompt."""

import re
import unicodedata
from typing import NamedTuple

_DASHES = re.compile("[\u2010-\u2015\u2212\u301c~]")
_DECIMAL_COMMA = re.compile(r"(?<=:\d\d),(?=\d{1,3}(?!\d))")  # elsewhere it may stand between two times
NUMBER = r"\d{1,6}(?:\.\d{1,6})?"
SECONDS = "s(?:ec(?:ond)?s?)?|\u79d2"
MINUTES = "m(?:in(?:ute)?s?)?|\u5206\u949f?"
CLOCK = r"(?:\d{1,2}:[0-5]\d|\d{1,4}):[0-5]\d(?:\.\d{1,6})?"
WITH_UNIT = (
    rf"(?:\d{{1,4}}\s*(?:{MINUTES})(?![a-z])(?:\s*{NUMBER}\s*(?:{SECONDS})(?![a-z]))?"
    rf"|{NUMBER}\s*(?:{SECONDS})(?![a-z]))"
)
TIME = rf"(?:{CLOCK}|{WITH_UNIT}|{NUMBER})"
TO = r"(?:\s*(?:-+>?|\u2192)\s*|\s+to\s+)"
TIMES = re.compile(rf"({TIME})(?:{TO}({TIME}))?(?:\s+([a-z]+)(?:\s+(\d{{1,6}}))?)?", re.IGNORECASE)
_PARTS = re.compile(rf"(?:({NUMBER})\s*(?:{MINUTES})(?![a-z]))?\s*(?:({NUMBER})\s*(?:{SECONDS})?)?", re.IGNORECASE)
_BARE = re.compile(NUMBER)
_IN_MINUTES = re.compile("m|\u5206", re.IGNORECASE)  # as in 1-2m, of which the 1 is no second


class Times(NamedTuple):
    """What stands in the brackets of a scene: its start and end in seconds, the transition as it is written and its
    number, and the times as they are written."""

    start_second: float
    end_second: float | None
    transition: str | None
    chunks: int | None
    when: str


def plain_signs(text: str) -> str:
    """A text with ASCII digits, dashes and signs, as those of a full-width keyboard mean them."""
    return plain_marks(unicodedata.normalize("NFKC", text))


def plain_marks(text: str) -> str:
    """A text of the same length with one kind of dash, and with points in times."""
    return _DECIMAL_COMMA.sub(".", _DASHES.sub("-", text))


def read_times(text: str) -> Times | None:
    """What the brackets of a scene hold, or None for what is not a time. A bare number is one only as the first half of
    a range, as in [0-12s]."""
    found = TIMES.fullmatch(plain_signs(text).strip())
    if found is None or is_bare(found[2] or found[1]) or (is_bare(found[1]) and _IN_MINUTES.search(found[2])):
        return None
    end = None if found[2] is None else seconds_of(found[2])
    when = found[0][: found.start(3)].strip() if found[3] else found[0]
    return Times(seconds_of(found[1]), end, found[3], int(found[4]) if found[4] else None, when)


def is_bare(time: str) -> bool:
    """Whether a time is a number alone, which may count seconds or frames."""
    return _BARE.fullmatch(time) is not None


def seconds_of(time: str) -> float:
    """The seconds of what TIME matches; a bare number counts them."""
    if ":" in time:
        hours, minutes, seconds = ["0", *time.split(":")][-3:]
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    parts = _PARTS.fullmatch(time)
    assert parts is not None
    return float(parts[1] or 0) * 60 + float(parts[2] or 0)
