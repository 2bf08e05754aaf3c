"""Head labels as plain CSV, to look at, edit, or take from elsewhere: one row a layer, one word a head.

The words are local, anchor and memory. A profile made from such a file is `dataclasses.replace(profile, labels=...)`.
"""

import csv
from pathlib import Path

from headforcing_core.policy.head_types import HEAD_TYPES, Labels


def write_labels(labels: Labels, path: Path) -> None:
    """Write labels (layers, heads) to a CSV file."""
    with path.open("w", encoding="ascii", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(labels)


def read_labels(path: Path) -> Labels:
    """Read labels from a CSV file. ValueError, naming the row, for an unknown word or rows of different length."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [tuple(cell.strip() for cell in row) for row in csv.reader(file) if row]
    for number, row in enumerate(rows, 1):
        unknown = [cell for cell in row if cell not in HEAD_TYPES]
        if unknown or len(row) != len(rows[0]):
            found = f"the word {unknown[0]!r}" if unknown else f"{len(row)} heads, row 1 has {len(rows[0])}"
            raise ValueError(
                f"{path.name} row {number} has {found}. A row names every head of one layer. Use the words "
                f"{', '.join(HEAD_TYPES)}, separated by commas, as many in each row."
            )
    if not rows:
        raise ValueError(f"{path.name} has no rows. There are no labels in it. Write one row a layer.")
    return tuple(rows)
