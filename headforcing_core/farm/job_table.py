"""Jobs: a workflow, and a table with a row for each job, in CSV or JSON. All that can be wrong with them is found here,
before anything starts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from ..files.api_workflow import inputs_of
from ..files.plain_names import LONGEST_NAME, check_plain_name
from ..files.safe_files import read_file
from ..files.strict_json import Json, parse_json
from .workflow_file import MOST_BYTES, Place, Workflow, class_of, find_place, is_link

SAMPLER = "HeadForcingSampler"
OWN_INPUTS = {"run_name": "the name of the job", "on_existing_run": "resume"}
_NAME = "name"
_ROUNDED = 2**53  # from here on a fraction has not every whole number
Row = Mapping[str, Json]


@dataclass(frozen=True)
class Job:
    """One film: the workflow with the row's values in it, and the runs that its samplers keep."""

    name: str
    workflow: Workflow
    runs: tuple[str, ...]


def read_jobs(workflow: Workflow, table: Path) -> list[Job]:
    """The jobs of a table, in its order. ValueError, one sentence, for anything wrong; OSError as the system gives
    it."""
    rows = _rows(table)
    if not rows:
        raise ValueError(f"The table {table} has no rows, so there is nothing to make. Write a row for each job.")
    if not any(class_of(node) == SAMPLER for node in workflow.values()):
        raise ValueError(
            "The workflow has no Head-Forced Sampler, so nothing of it would be kept, and a lost job would begin anew. "
            "Export a workflow that has one."
        )
    columns = {column: None for row in rows for column in row if column != _NAME}
    places = {column: _free_place(workflow, column) for column in columns}
    if twice := [column for column, place in places.items() if list(places.values()).count(place) > 1]:
        raise ValueError(f"The columns {' and '.join(map(repr, twice))} name one input. Leave one of them out.")
    jobs = [_job(workflow, places, row, number) for number, row in enumerate(rows, 1)]
    seen: dict[str, Job] = {}
    for job in jobs:
        for run in job.runs:
            if (other := seen.setdefault(run.casefold(), job)) is not job:
                raise ValueError(
                    f"Two jobs, {other.name!r} and {job.name!r}, would keep a run in one folder, {run!r}. Give each a "
                    "name of its own; large and small letters are one to some disks."
                )
    return jobs


def strings_of(jobs: Sequence[Job]) -> list[str]:
    """The texts that the inputs of all jobs hold, each once."""
    nodes = (node for job in jobs for node in job.workflow.values())
    values = (value for node in nodes for value in inputs_of(node).values())
    return list({value: None for value in values if isinstance(value, str)})


def classes_of(jobs: Sequence[Job]) -> list[str]:
    """The types of the nodes of all jobs, each once."""
    return list({class_of(node): None for job in jobs for node in job.workflow.values()})


def _rows(table: Path) -> list[Row]:
    data = read_file(table.resolve(), MOST_BYTES)
    try:
        if table.suffix.lower() == ".json":
            return _checked(parse_json(data))
        return list(_from_csv(data.decode("utf-8-sig")))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"The table {table} cannot be read: {error}.") from error


def _checked(read: Json) -> list[Row]:
    if not isinstance(read, list) or not all(isinstance(row, dict) for row in read):
        raise ValueError("a list with an object for each job is needed")
    return [row for row in read if isinstance(row, dict)]


def _from_csv(text: str) -> Iterator[Row]:
    """Rows with those cells that are not empty."""
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True) if any(line)]
    columns = [column.strip() for column in lines[0]] if lines else []
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise ValueError(f"it has two columns {twice[0]!r}")
    for number, line in enumerate(lines[1:], 1):
        if any(line[len(columns) :]):
            raise ValueError(f"row {number} has {len(line)} cells, and there are {len(columns)} columns")
        yield {column: cell for column, cell in zip(columns, line, strict=False) if cell}


def _free_place(workflow: Workflow, column: str) -> Place:
    place = find_place(workflow, column)
    if is_link(inputs_of(workflow[place.node])[place.name]):
        raise ValueError(
            f"The column {column!r} names an input that comes from another node, and a value would cut that link. Name "
            "the input of that other node."
        )
    if class_of(workflow[place.node]) == SAMPLER and place.name in OWN_INPUTS:
        raise ValueError(
            f"The column {column!r} is set by the farm itself, to {OWN_INPUTS[place.name]}: a lost job can go on only "
            "so. Leave that column out."
        )
    return place


def _job(workflow: Workflow, places: Mapping[str, Place], row: Row, number: int) -> Job:
    name = row.get(_NAME)
    if not isinstance(name, str):
        raise ValueError(f"Row {number} of the table has no name. Write a column {_NAME!r} with a text in every row.")
    check_plain_name(f"{_NAME} in row {number} of the table", name)
    made, runs = deepcopy(workflow), []
    for column, place in places.items():
        if column in row:
            _inputs(made, place.node)[place.name] = _typed(
                f"{column} of the job {name!r}", _inputs(made, place.node)[place.name], row[column]
            )
    for key, node in made.items():
        inputs = _inputs(made, key)
        if class_of(node) == SAMPLER:
            runs.append(name if not runs else f"{name}_{len(runs) + 1}")
            inputs |= {"run_name": runs[-1], "on_existing_run": "resume"}
        if "filename_prefix" in inputs:
            inputs["filename_prefix"] = _prefix(key, inputs["filename_prefix"], name)
    if len(runs[-1]) > LONGEST_NAME:
        raise ValueError(
            f"The name {name!r} is too long for a workflow of {len(runs)} samplers. Give it a shorter one."
        )
    return Job(name, made, tuple(runs))


def _inputs(workflow: Workflow, key: str) -> dict[str, Json]:
    inputs = workflow[key].setdefault("inputs", {})
    assert isinstance(inputs, dict)
    return inputs


def _prefix(key: str, held: Json, name: str) -> Json:
    """Files are numbered by what a folder holds, so that two servers could take one number."""
    if isinstance(held, str):
        return f"{held}_{name}"
    raise ValueError(
        f"filename_prefix of node {key} is no text but comes from another node, so the files of two jobs could get one "
        "name. Write a text there; the name of the job is added to it."
    )


def _typed(where: str, held: Json, given: Json) -> Json:
    """A value of the kind that the workflow holds there."""
    if isinstance(held, bool):
        words: dict[Json, bool] = {"true": True, "false": False}
        found = words.get(given.lower()) if isinstance(given, str) else given
        if isinstance(found, bool):
            return found
        raise _wrong(where, given, "true or false")
    if isinstance(held, int | float):
        return _number(where, given)
    if held is None or isinstance(held, str):
        if isinstance(given, str):
            return given
        raise _wrong(where, given, "a text")
    raise ValueError(f"{where} cannot be set from a table: the workflow holds no text, number or yes-or-no there.")


def _number(where: str, given: Json) -> int | float:
    """Whole numbers stay whole; an input that takes fractions is also saved as 20 where it is 20.0."""
    found: Json = given
    if isinstance(given, str):
        for kind in (int, float):
            try:
                found = kind(given)
                break
            except ValueError:
                continue
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise _wrong(where, given, "a number")
    if isinstance(found, float) and abs(found) >= _ROUNDED:
        raise ValueError(
            f"{where} is {given}, of which a spreadsheet has kept the first digits alone. Make that column text there, "
            "and write all digits."
        )
    return found


def _wrong(where: str, given: Json, what: str) -> ValueError:
    return ValueError(f"{where} is {str(given)[:80]!r}; the workflow has {what} there. Write {what}.")
