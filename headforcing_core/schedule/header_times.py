"""What stands in the brackets of a scene, written anew as it was written: clock times stay clock times, ranges stay
ranges."""

import re

from .scenes import Scene
from .times import MINUTES, NUMBER, SECONDS, TIMES, is_bare, plain_signs

_PARTS = re.compile(
    rf"(?:{NUMBER}(?P<minutes>(?P<space>\s*)(?:{MINUTES})(?![a-z]))(?P<between>\s*))?"
    rf"(?:{NUMBER}(?P<seconds>\s*(?:{SECONDS}))?)?",
    re.IGNORECASE,
)
_MINUTE_MS = 60_000


def rewritten(inside: str, was: Scene, will: Scene) -> str:
    """What brackets that hold `was` hold for the times and the transition of `will`. An end that `was` does not have is
    not written."""
    plain = plain_signs(inside)
    if len(plain) != len(inside):
        inside = plain
    lead = len(plain) - len(plain.lstrip())
    found = TIMES.fullmatch(plain.strip())
    assert found is not None, inside

    def part(begin: int, end: int) -> str:
        return inside[lead + begin : lead + end]

    start, end = part(*found.span(1)), part(*found.span(2))
    between = part(found.end(1), found.start(2)) if end else ""
    times_end = found.end(2) if end else found.end(1)
    how = part(times_end, len(found[0]))
    if end and will.end_second is None:
        start = written_like(end, will.start_second) if is_bare(found[1]) else start
        end = between = ""
    if will.start_second != was.start_second:
        start = written_like(start, will.start_second)
    if end and will.end_second is not None and will.end_second != was.end_second:
        end = written_like(end, will.end_second)
    if (will.transition, will.soft_chunks) != (was.transition, was.soft_chunks):
        how = "".join(f" {word}" for word in (will.transition, will.soft_chunks) if word)
    return f"{inside[:lead]}{start}{between}{end}{how}{inside[lead + len(found[0]) :]}"


def written_like(time: str, second: float) -> str:
    """A second in the notation of a time: by the clock, in minutes, in seconds, or as a bare number."""
    plain, milliseconds = plain_signs(time), round(second * 1000)
    decimals = len(re.findall(r"\.(\d+)", plain)[-1]) if "." in plain else 0
    if ":" in plain:
        return _on_clock(plain, milliseconds, decimals, "," if "," in time else ".")
    parts = _PARTS.fullmatch(plain)
    assert parts is not None, time
    unit = parts["seconds"] or ""
    if parts["minutes"] is None:
        return _number(milliseconds, decimals) + unit
    minutes, rest = divmod(milliseconds, _MINUTE_MS)
    seconds = _number(rest, decimals) + (unit or "s")
    if not minutes:
        return seconds
    between = parts["between"] if parts["seconds"] else parts["space"]
    return f"{minutes}{parts['minutes']}" + (f"{between}{seconds}" if rest else "")


def _on_clock(time: str, milliseconds: int, decimals: int, point: str) -> str:
    first, *others = time.split(":")
    minutes, rest = divmod(milliseconds, _MINUTE_MS)
    longer = [*divmod(minutes, 60)] if len(others) > 1 else [minutes]
    whole, _, fraction = _number(rest, decimals).partition(".")
    leading = [f"{longer[0]:0{len(first)}}", *(f"{each:02}" for each in longer[1:])]
    return ":".join([*leading, f"{int(whole):02}" + (point + fraction if fraction else "")])


def _number(milliseconds: int, decimals: int) -> str:
    """Seconds, with as many decimals as are needed, and as were written."""
    whole, _, fraction = f"{milliseconds / 1000:.3f}".partition(".")
    fraction = fraction.rstrip("0").ljust(min(decimals, 3), "0")
    return f"{whole}.{fraction}" if fraction else whole
