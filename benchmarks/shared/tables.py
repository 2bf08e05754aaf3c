"""What the benchmarks share at both ends: options and labels in, tables and JSON out."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.shared.labels_csv import read_labels
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.policy.head_types import Labels

Cell = str | int | float | None
Row = dict[str, Cell]


@dataclass(frozen=True)
class Target:
    """A figure and the range it has to lie in; None leaves a side open."""

    name: str
    figure: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure lies in the range."""
        above = self.least is None or self.figure >= self.least
        return above and (self.most is None or self.figure <= self.most)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="head labels as CSV; default: random, seeded")
    parser.add_argument("--layers", type=int, default=5, help="layers; of a labels file so many rows, spread evenly")
    parser.add_argument("--heads", type=int, default=4, help="heads a layer, unless a labels file says so")
    parser.add_argument("--threads", type=int, default=1, help="threads that PyTorch uses")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds that are timed")


def labels_from(path: Path | None, layers: int, heads: int) -> Labels:
    """Labels of a file, `layers` of its rows; without a file random ones at the paper's shares."""
    if path is None:
        return label_heads(LabelRule("random"), layers, heads, None)
    rows = read_labels(path)
    used = min(layers, len(rows))
    return tuple(rows[row * len(rows) // used] for row in range(used))


def counted(labels: Labels) -> str:
    """How many heads of each type there are, in words."""
    flat = [label for row in labels for label in row]
    return f"{flat.count('anchor')} anchor, {flat.count('local')} local, {flat.count('memory')} memory"


def show(title: str, rows: Sequence[Row]) -> None:
    """Write a table to the screen, columns as wide as they need be. It is a Markdown table too."""
    header = list(rows[0])
    cells = [header, *([_text(row[name]) for name in header] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    say("\n".join(["", title, "", *lines]))


def say(line: str) -> None:
    """One line to the screen, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tell(row: Row) -> None:
    """A row to the screen, as soon as it is known."""
    say("  " + ", ".join(f"{name} {value}" for name, value in row.items()))


def others(rows: Sequence[Row], name: str, right: Cell = "yes") -> int:
    """In how many rows something is not as it should be."""
    return sum(1 for row in rows if row[name] != right)


def yes(is_so: bool) -> str:
    """For a table."""
    return "yes" if is_so else "NO"


@dataclass
class Findings:
    """Tables, the machine's rates by name, and single figures, written to a file whenever something is added."""

    path: Path | None
    settings: dict[str, Cell]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()

    def add(self, name: str, title: str, rows: list[Row]) -> None:
        """Show a table and keep it."""
        self.tables[name] = rows
        show(title, rows)
        self.write()

    def judge(self, targets: Sequence[Target]) -> None:
        """Show targets, what was measured and whether they were met, and keep them."""
        self.targets = targets
        if targets:
            show("Targets", [_reached(target) for target in targets])
        self.write()

    def write(self) -> None:
        """Bring the file up to date; half a file is never there."""
        if self.path is None:
            return
        found = {
            "settings": self.settings,
            "tables": self.tables,
            "targets": [asdict(target) | {"met": target.met} for target in self.targets],
            "rates": self.rates,
            "figures": self.figures,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.part")
        beside.write_text(json.dumps(found, indent=1) + "\n", encoding="ascii")
        beside.replace(self.path)


def _reached(target: Target) -> Row:
    return {
        "target": target.name,
        "measured": target.figure,
        "asked": _range(target),
        "met": yes(target.met),
    }


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _range(target: Target) -> str:
    if target.least is None:
        return f"at most {target.most:g}"
    return f"at least {target.least:g}" if target.most is None else f"{target.least:g} to {target.most:g}"
