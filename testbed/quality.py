"""Tables and the figure of docs/quality.md, from the results that `evaluate` appends.

usage: python -m testbed.quality RESULTS.jsonl [MORE.jsonl.gz] [--docs docs]

Prints the tables. With --docs it writes them into quality.md of that folder, each between the comments with its name,
and draws quality_recall.png there.
"""

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .policies import COMPARED, MASKED
from .quality_recall import recall_tables
from .quality_tables import Column, differences, on_seeds_of, table
from .results_file import read_results
from .statistics import (
    ABSENCES,
    REMEMBERED,
    Result,
    Which,
    above_chance,
    asked,
    by_chance,
    check_comparable,
    held,
    mean_of,
    measured,
    recall,
)

_GONE = [*ABSENCES][1:]
_PANS, _HOME = Which("pan"), Which("place", home=True)
ABOVE_CHANCE = Column("above chance", above_chance())
BY_ABSENCE = tuple(Column(f"recall {absence}", recall(absence=absence)) for absence in _GONE)
MEMORY = (
    Column("frames read", lambda result: result["frames_read"], 1),
    *BY_ABSENCE,
    Column("10 to 84", recall()),
    Column("by chance", by_chance()),
    ABOVE_CHANCE,
)
HELD = (
    Column("still held", held()),
    Column("recall of held", recall(replace(REMEMBERED, held=True))),
    Column("recall of others", recall(replace(REMEMBERED, held=False))),
    Column("home", recall(_HOME)),
    Column("home by chance", by_chance(_HOME)),
    Column("clear before", asked),
)
PANS = (
    *(Column(f"recall {absence}", recall(_PANS, absence)) for absence in ABSENCES),
    Column("10 to 84", recall(_PANS)),
    Column("by chance", by_chance(_PANS)),
    Column("above chance", above_chance(_PANS)),
)
PICTURE = (
    Column("landmarks clear", measured("landmarks_clear")),
    Column("steady", measured("landmarks_steady")),
    Column("camera", measured("camera_obeyed")),
    Column("shape", measured("thing_shape")),
    Column("colour", measured("thing_colour")),
    Column("new shape", measured("new_shape")),
    Column("new colour", measured("new_colour")),
    Column("motion", measured("thing_motion")),
)
CHANGE = (
    Column("sky off", measured("sky_error"), 1),
    Column("drift a minute", measured("sky_drift"), 1),
    Column("sky obeyed after", measured("sky_delay"), 1),
    Column("thing obeyed after", measured("thing_delay"), 1),
    Column("flicker at joins", measured("join_flicker"), 1),
    Column("of the sky", measured("sky_flicker"), 1),
)
COMPARED_BY = (
    ABOVE_CHANCE,
    *BY_ABSENCE,
    Column("pan 10", recall(_PANS, "10")),
    Column("steady", measured("landmarks_steady")),
    Column("new shape", measured("new_shape")),
    Column("motion", measured("thing_motion")),
    *CHANGE[:2],
    *CHANGE[3:5],
)
COST = (
    Column("seconds", lambda result: result["seconds"], 0),
    Column("KV in MB", lambda result: result["kv_bytes"], 1, 1e-6),
)
_DRAWN = ("full", "uniform_21", "uniform", "paper", "paper_frames", "uniform_chunks", "low_vram")
_COLOURS = ("#999999", "#56B4E9", "#0072B2", "#D55E00", "#E69F00", "#CC79A7", "#009E73")
_VARIANTS = ("enhanced", "low_vram", "max", *(name for name in COMPARED if name.startswith("paper_")))


def draw_recall(results: Sequence[Result], colours: Mapping[str, str]) -> Image.Image:
    """Recall of a place that the prompt returns to against absence, a colour a policy, with intervals."""
    scale, width, height, left, top, bottom = 2, 900, 480, 70, 40, 60
    image = Image.new("RGB", (scale * width, scale * height), "#FFFFFF")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(scale * 14)
    right, step = width - 190, (width - 190 - left) / len(_GONE)

    def at(x: float, share: float) -> tuple[float, float]:
        return scale * x, scale * (height - bottom - share * (height - bottom - top))

    for tenth in range(0, 11, 2):
        pen.line([at(left, tenth / 10), at(right, tenth / 10)], fill="#DDDDDD", width=scale)
        pen.text(at(left - 10, tenth / 10), f"{tenth / 10:.1f}", fill="#1A1A1A", font=font, anchor="rm")
    pen.text(at(10, 1.05), "recall", fill="#1A1A1A", font=font, anchor="lb")
    for place, absence in enumerate(_GONE):
        pen.text(at(left + (place + 0.5) * step, -0.05), absence, fill="#1A1A1A", font=font, anchor="mm")
        for number, (policy, colour) in enumerate(colours.items()):
            found = mean_of(results, policy, recall(absence=absence))
            if found:
                x = left + (place + (number + 1) / (len(colours) + 1)) * step
                pen.line([at(x, found.low), at(x, found.high)], fill=colour, width=3 * scale)
                (across, down), size = at(x, found.mean), 5 * scale
                pen.ellipse((across - size, down - size, across + size, down + size), fill=colour)
    for number, (policy, colour) in enumerate(colours.items()):
        y = scale * (top + 10 + 22 * number)
        pen.ellipse((scale * (right + 20), y - 5 * scale, scale * (right + 30), y + 5 * scale), fill=colour)
        pen.text((scale * (right + 40), y), policy, fill="#1A1A1A", font=font, anchor="lm")
    middle = (left + right) / 2
    pen.text(at(middle, -0.12), "frames at other places", fill="#1A1A1A", font=font, anchor="mm")
    return image.reduce(scale)


def tables(results: Sequence[Result]) -> dict[str, str]:
    """All tables that have a row, by name, as Markdown. Policies and masked policies may be measured on seeds of their
    own."""
    old = [each for each in results if "film" not in each]
    compared, masked = (on_seeds_of(old, policies) for policies in (COMPARED, ("uniform_21", *MASKED)))
    found = {
        "memory": table(compared, [*COMPARED], MEMORY),
        "pans": table(compared, [*COMPARED], PANS),
        "held": table(compared, [*COMPARED], HELD),
        "picture": table(compared, [*COMPARED], PICTURE),
        "change": table(compared, [*COMPARED], (*CHANGE, *COST)),
        "less uniform": differences(compared, [*COMPARED], "uniform", COMPARED_BY),
        "less paper": differences(compared, _VARIANTS, "paper", COMPARED_BY),
        "masked": table(masked, ["uniform_21", *MASKED], COMPARED_BY[1:]),
        "less uniform_21": differences(masked, [*MASKED], "uniform_21", COMPARED_BY),
        **recall_tables(results),
    }
    return {name: text for name, text in found.items() if text.count("\n") > 1}


def fill_in(page: str, found: Mapping[str, str]) -> str:
    """A page with each table between the two comments that bear its name. ValueError when a name has no such place."""
    for name, text in found.items():
        begin, end = f"<!-- {name} -->\n", "<!-- / -->"
        parts = re.split(f"{begin}.*?{end}", page, flags=re.S)
        if len(parts) != 2:
            raise ValueError(
                f"The page has {len(parts) - 1} places for the table {name}. A table goes between two comments. "
                f"Put {begin.strip()} and {end} where it belongs, once."
            )
        page = f"{begin}\n{text}\n\n{end}".join(parts)
    return page


def main() -> None:
    """Print the tables, or write them and draw the figure."""
    parser = argparse.ArgumentParser(prog="python -m testbed.quality", description=__doc__, allow_abbrev=False)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--docs", type=Path)
    given = parser.parse_args()
    results = [line for path in given.results for line in read_results(path)]
    for film in {line.get("film") for line in results}:
        check_comparable([line for line in results if line.get("film") == film])
    print(f"Videos by policy: {dict(Counter(line['policy'] for line in results))}\n")
    found = tables(results)
    print("\n\n".join(f"{name}\n\n{text}" for name, text in found.items()))
    if given.docs:
        page = given.docs / "quality.md"
        page.write_text(fill_in(page.read_text(encoding="utf-8"), found), encoding="utf-8")
        old = [line for line in results if "film" not in line]
        figure = draw_recall(on_seeds_of(old, COMPARED), dict(zip(_DRAWN, _COLOURS, strict=True)))
        figure.save(given.docs / "quality_recall.png")


if __name__ == "__main__":
    main()
