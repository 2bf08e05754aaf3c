"""The workflow that all jobs are made of, in the form that ComfyUI runs, and the places in it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..files.api_workflow import inputs_of
from ..files.safe_files import read_file
from ..files.strict_json import Json, parse_json

MOST_BYTES = 64_000_000
Node = dict[str, Json]
Workflow = dict[str, Node]


class Place(NamedTuple):
    """An input of a node."""

    node: str
    name: str


def read_workflow(path: Path) -> Workflow:
    """A workflow in API form. ValueError when the file holds anything else; OSError as the system gives it."""
    try:
        read = parse_json(read_file(path.resolve(), MOST_BYTES))
    except ValueError as error:
        raise ValueError(f"The workflow {path} cannot be read: {error}. Export it anew from ComfyUI.") from error
    if isinstance(read, dict) and isinstance(read.get("nodes"), list):
        raise ValueError(
            f"The workflow {path} is in the form of the page, which ComfyUI cannot run by itself. Open it there and "
            "take Export (API) of the menu."
        )
    nodes = read if isinstance(read, dict) else {}
    workflow = {key: node for key, node in nodes.items() if isinstance(node, dict) and "class_type" in node}
    if not workflow or len(workflow) < len(nodes):
        raise ValueError(
            f"The workflow {path} is none in API form: every node there has a class_type and inputs. Take Export (API) "
            "of ComfyUI's menu."
        )
    return workflow


def class_of(node: Node) -> str:
    """The type of a node."""
    return str(node["class_type"])


def is_link(value: object) -> bool:
    """Whether an input comes from another node."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def find_place(workflow: Workflow, column: str) -> Place:
    """The input that a column of the table names, `node.input`: the node by its id, else by its title. ValueError, a
    sentence, when there is none, or more than one."""
    dots = [number for number, letter in enumerate(column) if letter == "."]
    found = [(nodes, column[dot + 1 :]) for dot in dots if (nodes := _named(workflow, column[:dot]))]
    if not found:
        raise ValueError(
            f"The column {column!r} names no node of the workflow. Write node.input, with the id or the title of one "
            f"of these nodes: {', '.join(_told(workflow, key) for key in workflow)}."
        )
    known = [(nodes, name) for nodes, name in found if any(name in inputs_of(workflow[key]) for key in nodes)]
    nodes, name = (known or found)[0]
    if len(nodes) > 1:
        raise ValueError(
            f"The column {column!r} could mean several nodes, since they share a title: "
            f"{', '.join(_told(workflow, key) for key in nodes)}. Write the id of the one that is meant."
        )
    if not known:
        raise ValueError(
            f"The column {column!r} names no input of node {_told(workflow, nodes[0])}. It has: "
            f"{', '.join(inputs_of(workflow[nodes[0]]))}."
        )
    return Place(nodes[0], name)


def _named(workflow: Workflow, name: str) -> list[str]:
    if name in workflow:
        return [name]
    return [key for key, node in workflow.items() if _title(node) == name]


def _title(node: Node) -> str:
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""


def _told(workflow: Workflow, key: str) -> str:
    return f"{key} ({_title(workflow[key]) or class_of(workflow[key])})"
