"""Tables of a memory that looks: beside one that does not, by part, and in the grown world."""

from collections.abc import Mapping, Sequence
from itertools import product

from .policies import FACTORIAL, HEADS, LEAN, MEMORIES, POSITIONS, RECALLED
from .quality_tables import Column, differences, markdown, on_seeds_of, signed, table
from .statistics import REMEMBERED, Interval, Result, Value, Which, above_chance, interval, measured, recall

_PAPER, _RECALL, _FOLLOWS = "paper", "recall", "follows"


def _came_back(result: Result) -> float | None:
    """Recall of what no sink holds: where the prompt returns to a place, or where the camera turns by itself."""
    which = Which("pan", home=False) if result.get("film") == _FOLLOWS else REMEMBERED
    return recall(which)(result)


def _home(result: Result) -> float | None:
    return recall(Which("pan" if result.get("film") == _FOLLOWS else "place", home=True))(result)


KEPT = (
    Column("recall", _came_back),
    Column("home", _home),
    Column("clear", measured("landmarks_clear")),
    Column("steady", measured("landmarks_steady")),
    Column("motion", measured("thing_motion")),
    Column("camera", measured("camera_obeyed")),
    Column("drift a minute", measured("sky_drift"), 1),
)
OBEYED = (
    Column("sky obeyed after", measured("sky_delay"), 1),
    Column("thing obeyed after", measured("thing_delay"), 1),
)
COST = (
    Column("seconds", lambda result: result["seconds"], 0),
    Column("passes for it", lambda result: result.get("extra_passes"), 0),
)
KV = Column("KV in MB", lambda result: result["kv_bytes"], 1, 1e-6)
CHANCE = Column("above chance", above_chance())
ASKED = (
    Column("as last seen", measured("newest_wins")),
    Column("as before", measured("older_wins")),
    Column("in the newest view", measured("newest_view")),
    Column("in an older view", measured("older_view")),
)


def recall_tables(results: Sequence[Result]) -> dict[str, str]:
    """The tables by name, as Markdown, of results of both worlds."""
    old = [each for each in results if "film" not in each]
    recalled = on_seeds_of(old, RECALLED) if any(each["policy"] == _RECALL for each in old) else []
    lean = on_seeds_of(old, LEAN) if any(each["policy"] == "tiny" for each in old) else []
    factorial = on_seeds_of(old, FACTORIAL)
    films = list(dict.fromkeys(each["film"] for each in results if "film" in each))
    by_film = {film: on_seeds_of([each for each in results if each.get("film") == film], RECALLED) for film in films}
    columns = (*KEPT, *OBEYED, *COST)
    return {
        "recalled": table(recalled, [*RECALLED], (CHANCE, *columns)),
        "recalled less paper": differences(recalled, [*RECALLED], _PAPER, (CHANCE, *KEPT, *OBEYED)),
        "lean": table(lean, [*LEAN], (CHANCE, *columns, KV)),
        "lean less recall": differences(lean, [*LEAN], _RECALL, (CHANCE, *KEPT, *OBEYED)),
        "factorial": table(factorial, [*FACTORIAL], columns),
        "factorial effects": effects(factorial, (*KEPT, *OBEYED)),
        "grown": _joined({film: table(lines, [*RECALLED], (*columns, *ASKED)) for film, lines in by_film.items()}),
        "grown less paper": _joined(
            {film: differences(lines, [*RECALLED], _PAPER, (*KEPT, *ASKED)) for film, lines in by_film.items()}
        ),
    }


def effects(results: Sequence[Result], columns: Sequence[Column]) -> str:
    """By how much one level of a factor differs from another, over all that the other factors can be, as Markdown."""
    rows = [["", *(column.title for column in columns)], ["---"] * (1 + len(columns))]
    pairs = [
        *(("memory", one, other) for one, other in (("bank", "none"), ("recall", "bank"), ("oracle", "recall"))),
        *(("heads", "sorted", other) for other in ("random", "all")),
        ("positions", *POSITIONS),
    ]
    for factor, one, other in pairs:
        found = [effect(results, factor, (one, other), column.value) for column in columns]
        if any(found):
            cells = (signed(each, column) for each, column in zip(found, columns, strict=True))
            rows.append([f"{factor}: {one} less {other}", *cells])
    return markdown(rows)


def effect(results: Sequence[Result], factor: str, levels: tuple[str, str], value: Value) -> Interval | None:
    """The mean over seeds of how much more one level has than another, each seed's the mean over the other factors."""
    factors: Mapping[str, Sequence[str]] = {"memory": [*MEMORIES], "heads": [*HEADS], "positions": POSITIONS}
    found = {(each["policy"], each["seed"]): value(each) for each in results}
    cells = list(product(*(choices if name != factor else ("",) for name, choices in factors.items())))
    by_seed: list[float | None] = []
    for seed in sorted({seed for _, seed in found}):
        names = [["_".join(word or level for word in cell) for level in levels] for cell in cells]
        pairs = [(found.get((one, seed)), found.get((other, seed))) for one, other in names]
        known = [one - other for one, other in pairs if one is not None and other is not None]
        by_seed.append(sum(known) / len(known) if known else None)
    return interval(by_seed)


def _joined(tables: Mapping[str, str]) -> str:
    """Tables of the same columns as one, each row under the name of its film."""
    rows: list[str] = []
    for film, text in tables.items():
        head, line, *body = text.splitlines()
        rows += [] if rows else [f"| film {head}", f"| --- {line}"]
        rows += [f"| `{film}` {row}" for row in body]
    return "\n".join(rows)
