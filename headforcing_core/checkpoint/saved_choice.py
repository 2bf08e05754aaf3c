"""What was chosen in Load AR Model where a checkpoint comes from: the host's Save Model writes the workflow into the
file."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from ..files.api_workflow import inputs_of, upstream

LOADER = "HeadForcingLoadARModel"
_WORKFLOW = "prompt"


class SavedChoice(NamedTuple):
    """The inputs of a Load AR Model that decide about a family."""

    model_name: str
    family: str
    chunk_frames: int


def saved_choice(header: Mapping[str, str]) -> SavedChoice | None:
    """What was chosen in the one Load AR Model that a file was saved from, by the file's head; None when nothing, or
    more than one thing, was."""
    try:
        nodes = json.loads(header[_WORKFLOW])
    except (KeyError, ValueError, RecursionError):
        return None
    if not isinstance(nodes, dict):
        return None
    savers = [node_id for node_id, node in nodes.items() if "filename_prefix" in inputs_of(node)]
    loaders = [inputs_of(node) for saver in savers for node in upstream(nodes, saver, "model") if _is_loader(node)]
    if len(loaders) != 1:
        return None
    name, family, chunk = (loaders[0].get(each) for each in SavedChoice._fields)
    if not (isinstance(name, str) and isinstance(family, str | None) and isinstance(chunk, int | None)):
        return None  # linked to another node
    return SavedChoice(name, family or "auto", chunk or 0)


def _is_loader(node: Mapping[str, object]) -> bool:
    return node.get("class_type") == LOADER
