"""Draw loss.csv of a training.

usage: python -m testbed.loss_curve build/testbed/chunk3/loss.csv docs/images/loss.png
"""

import argparse
import csv
import math
from pathlib import Path

from PIL import Image, ImageDraw

_SIZE, _MARGIN = (720, 360), (56, 20, 16, 40)  # left, top, right, bottom
_COLOURS = ((20, 20, 20), (200, 60, 50), (230, 150, 40), (60, 140, 80), (50, 90, 200))
_NAMES = ("all", "noise 1", "0.9375", "0.8333", "0.625")
_INK, _FAINT, _PAPER = (60, 60, 60), (225, 225, 225), (255, 255, 255)


def draw(rows: list[list[float]], target: Path) -> None:
    """Rows of step, loss and losses by noise level as lines over a logarithmic axis."""
    width, height = _SIZE
    left, top, right, bottom = _MARGIN
    losses = [value for row in rows for value in row[1:6] if value > 0]
    low, high = math.log(min(losses)), math.log(max(losses))
    last = max(row[0] for row in rows)
    image = Image.new("RGB", _SIZE, _PAPER)
    pen = ImageDraw.Draw(image)

    def place(step: float, loss: float) -> tuple[float, float]:
        share = (math.log(loss) - low) / max(1e-9, high - low)
        return left + step / last * (width - left - right), height - bottom - share * (height - top - bottom)

    for mark in (2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        if low <= math.log(mark) <= high:
            pen.line([place(0, mark), place(last, mark)], fill=_FAINT)
            pen.text((8, place(0, mark)[1] - 6), f"{mark:g}", fill=_INK)
    for column in range(5, 0, -1):
        points = [place(row[0], row[column]) for row in rows if row[column] > 0]
        pen.line(points, fill=_COLOURS[column - 1], width=2)
        pen.text((left + 110 * (column - 1), height - 16), _NAMES[column - 1], fill=_COLOURS[column - 1])
    pen.text((width - right - 110, height - 32), f"{last:.0f} steps", fill=_INK)
    image.save(target)


def main() -> None:
    """Read the one file and draw it."""
    parser = argparse.ArgumentParser(prog="python -m testbed.loss_curve", description=__doc__, allow_abbrev=False)
    parser.add_argument("rows", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    with given.rows.open() as file:
        draw([[float(value) for value in row] for row in csv.reader(file)], given.target)


if __name__ == "__main__":
    main()
