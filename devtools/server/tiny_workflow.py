"""Workflows in ComfyUI's API form, and the tiny form that a shipped one takes on small models."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import NotRequired, TypedDict, cast

TINY_WIDTH, TINY_HEIGHT = 64, 64
TINY_TEXT_ENCODER = "tiny_umt5.safetensors"
_SMALL_VAES = {"wan2.2_vae.safetensors": "lighttaew2_2.safetensors"}  # of those whose class has one size


class Node(TypedDict):
    """One node: its type, and its inputs by name (a value, or a link `[node id, output index]`)."""

    class_type: str
    inputs: dict[str, object]
    _meta: NotRequired[dict[str, str]]


Workflow = dict[str, Node]


def load(path: Path) -> Workflow:
    """Read a workflow in API form."""
    return cast(Workflow, json.loads(path.read_text(encoding="utf-8")))


def tiny(
    workflow: Workflow, text_encoder: str = TINY_TEXT_ENCODER, width: int = TINY_WIDTH, height: int = TINY_HEIGHT
) -> Workflow:
    """The workflow for small models, by default those of the tests: a text encoder that the stock loader does not take,
    the small VAE of Wan 2.2, and a small picture in every node of this pack and in those that scale pictures for it.
    Everything else is as shipped; the given workflow is not changed."""
    sizes = {"width": width, "height": height}
    return {node_id: _tiny_node(node, text_encoder, sizes) for node_id, node in workflow.items()}


def _tiny_node(node: Node, text_encoder: str, sizes: dict[str, int]) -> Node:
    if node["class_type"] == "CLIPLoader":
        return {"class_type": "HeadForcingTestLoadUMT5", "inputs": {"clip_name": text_encoder}}
    small = deepcopy(node)
    if small["class_type"] == "VAELoader":
        name = cast(str, small["inputs"]["vae_name"])
        small["inputs"]["vae_name"] = _SMALL_VAES.get(name, name)
    if small["class_type"].startswith(("HeadForcing", "ImageScale")):
        small["inputs"].update({name: size for name, size in sizes.items() if name in small["inputs"]})
    return small


def only_node(workflow: Workflow, class_type: str) -> str:
    """The id of the one node of this type; raises ValueError when there is none or more than one."""
    found = [node_id for node_id, node in workflow.items() if node["class_type"] == class_type]
    if len(found) != 1:
        raise ValueError(f"the workflow has {len(found)} nodes of type {class_type}, one is needed; check the file")
    return found[0]
