"""Tables of means and of differences, as Markdown."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .statistics import Interval, Result, Value, difference, mean_of


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, its value, and decimals; `unit` multiplies."""

    title: str
    value: Value
    decimals: int = 2
    unit: float = 1.0


def table(results: Sequence[Result], policies: Sequence[str], columns: Sequence[Column]) -> str:
    """Means with intervals, a row a policy, as Markdown."""
    rows = [["policy", *(column.title for column in columns)], ["---"] * (1 + len(columns))]
    for policy in policies:
        found = [mean_of(results, policy, column.value) for column in columns]
        if any(found):
            cells = (_cell(each, column) for each, column in zip(found, columns, strict=True))
            rows.append([f"`{policy}`", *cells])
    return markdown(rows)


def differences(results: Sequence[Result], policies: Sequence[str], base: str, columns: Sequence[Column]) -> str:
    """By how much each policy differs from one of them on the same seeds, as Markdown; bold where the interval leaves
    out zero."""
    rows = [[f"less `{base}`", *(column.title for column in columns)], ["---"] * (1 + len(columns))]
    for policy in policies:
        found = [difference(results, policy, base, column.value) for column in columns]
        if policy != base and any(found):
            rows.append([f"`{policy}`", *(signed(each, column) for each, column in zip(found, columns, strict=True))])
    return markdown(rows)


def on_seeds_of(results: Sequence[Result], policies: Collection[str]) -> list[Result]:
    """Results, of any policy, on the seeds that these policies share; one that was never measured does not count."""
    seeds = {name: {each["seed"] for each in results if each["policy"] == name} for name in policies}
    shared = set.intersection(*(found for found in seeds.values() if found)) if any(seeds.values()) else set()
    return [each for each in results if each["seed"] in shared]


def _cell(found: Interval | None, column: Column) -> str:
    if found is None:
        return ""
    mean, low, high = (f"{each * column.unit:.{column.decimals}f}" for each in (found.mean, found.low, found.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def signed(found: Interval | None, column: Column) -> str:
    """A difference with its interval; bold where that leaves out zero."""
    if found is None:
        return ""
    mean, low, high = (f"{each * column.unit:+.{column.decimals}f}" for each in (found.mean, found.low, found.high))
    return f"**{mean}** ({low} to {high})" if found.low > 0 or found.high < 0 else f"{mean} ({low} to {high})"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
