"""JSON that anyone may have written, read within bounds: how many values, how deep, which numbers, which names."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

MOST_VALUES = 4_000_000
_LONGEST_NUMBER = 40
_LONGEST_SHOWN = 60

Setting: TypeAlias = "str | int | float | bool | None | Sequence[float] | Mapping[str, int]"
"""The value of a setting of a run, as it is told and written down."""
Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


def parse_json(data: bytes) -> Json:
    """The value of a JSON text. ValueError, in a few words for the caller's sentence, for text that is not JSON, holds
    more than MOST_VALUES values, is nested too deeply, has a name twice, or a number that is not finite."""
    check_values(data)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_named,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_not_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_values(data: bytes) -> None:
    """ValueError when a JSON text may hold more than MOST_VALUES values, so that nothing large is built of it."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES} values")


class UnknownName(ValueError):
    """A JSON object has a name that is not known, as one of a newer version may."""


def expected(where: str, value: Json, what: str) -> ValueError:
    """The error for a value of the wrong kind."""
    return ValueError(f"{where} is {_shown(value)}, not {what}")


@dataclass(frozen=True)
class Fields:
    """The named values of one JSON object. Every reader raises ValueError, naming the place, for another type or
    range."""

    where: str
    values: dict[str, Json]

    @classmethod
    def of(cls, value: Json, where: str, names: Collection[str], also: Collection[str] = ()) -> "Fields":
        """An object that has exactly these names, and those of `also` or not; UnknownName for one that has more."""
        if not isinstance(value, dict):
            raise expected(where, value, "an object")
        if lacking := [name for name in names if name not in value]:
            raise ValueError(f"{where} lacks {_shown(lacking[0])}")
        if unknown := [name for name in value if name not in names and name not in also]:
            raise UnknownName(f"{where} has the unknown name {_shown(unknown[0])}")
        return cls(where, value)

    def text(self, name: str, pattern: re.Pattern[str] | None = None, what: str = "text") -> str:
        """A text; one that matches the whole pattern."""
        value = self.values[name]
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            raise expected(f"{self.where}.{name}", value, what)
        return value

    def choice(self, name: str, known: Sequence[str]) -> str:
        """One of the known words."""
        value = self.text(name)
        if value not in known:
            raise expected(f"{self.where}.{name}", value, f"one of {', '.join(known)}")
        return value

    def integer(self, name: str, least: int, most: int) -> int:
        """A whole number between the two, both included."""
        return integer(f"{self.where}.{name}", self.values[name], least, most)

    def number(self, name: str, least: float, most: float) -> float:
        """A number between the two, both included."""
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise expected(f"{self.where}.{name}", value, f"a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self.values[name]
        if not isinstance(value, bool):
            raise expected(f"{self.where}.{name}", value, "true or false")
        return value

    def items(self, name: str) -> list[tuple[str, Json]]:
        """The places and values of a list."""
        return items(f"{self.where}.{name}", self.values[name])


def integer(where: str, value: Json, least: int, most: int) -> int:
    """A whole number between the two, both included. ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise expected(where, value, f"a whole number from {least} to {most}")
    return value


def items(where: str, value: Json) -> list[tuple[str, Json]]:
    """The places and values of a list. ValueError for anything else."""
    if not isinstance(value, list):
        raise expected(where, value, "a list")
    return [(f"{where}[{index}]", each) for index, each in enumerate(value)]


def _named(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {_shown(twice)} occurs twice")
    return values


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits)


def _not_finite(digits: str) -> NoReturn:
    raise ValueError(f"the number {digits[:_LONGEST_NUMBER]} is not finite")


def _shown(value: Json) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = repr(value[: _LONGEST_SHOWN + 1]) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
