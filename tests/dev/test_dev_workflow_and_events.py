"""The tiny form of a workflow, and what arrives on the websocket."""

import json
import struct
from copy import deepcopy

import pytest

from devtools.server.tiny_workflow import Workflow, only_node, tiny
from headforcing_core.farm.events import Event, Preview, parse

SHIPPED: Workflow = {
    "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": "umt5_xxl.safetensors", "type": "wan"}},
    "2": {"class_type": "HeadForcingPromptSchedule", "inputs": {"clip": ["1", 0], "text": "[0s] a fox"}},
    "3": {"class_type": "HeadForcingSampler", "inputs": {"schedule": ["2", 0], "width": 832, "height": 480, "seed": 1}},
    "4": {"class_type": "EmptyImage", "inputs": {"width": 832, "height": 480}},
}


def test_the_tiny_form_changes_the_text_encoder_and_the_size_of_our_nodes_only() -> None:
    workflow = deepcopy(SHIPPED)
    small = tiny(workflow)
    assert workflow == SHIPPED
    assert small["1"] == {"class_type": "HeadForcingTestLoadUMT5", "inputs": {"clip_name": "tiny_umt5.safetensors"}}
    assert small["3"]["inputs"] == {"schedule": ["2", 0], "width": 64, "height": 64, "seed": 1}
    assert small["2"] == SHIPPED["2"]
    assert small["4"] == SHIPPED["4"]


def test_the_only_node_of_a_type_is_found_and_others_are_refused() -> None:
    assert only_node(SHIPPED, "HeadForcingSampler") == "3"
    with pytest.raises(ValueError, match="0 nodes of type SaveVideo"):
        only_node(SHIPPED, "SaveVideo")


def test_a_nodes_text_is_an_event() -> None:
    frame = struct.pack(">II", 3, 2) + b"12" + b"chunk 7 of 40"
    assert parse(frame) == Event("progress_text", {"node_id": "12", "text": "chunk 7 of 40"})


def test_previews_come_with_and_without_metadata() -> None:
    place = {"node_id": "loop.0.0.3", "display_node_id": "3"}  # of a copy, and of the node that the page shows
    metadata = json.dumps({**place, "image_type": "image/jpeg"}).encode()
    frame = struct.pack(">II", 4, len(metadata)) + metadata + b"\xff\xd8jpeg"
    assert parse(frame) == Preview("3", b"\xff\xd8jpeg")
    assert parse(struct.pack(">II", 1, 1) + b"\xff\xd8jpeg") == Preview("", b"\xff\xd8jpeg")
    assert parse(struct.pack(">II", 99, 1)) is None


def test_a_text_frame_is_an_event() -> None:
    event = parse('{"type": "executing", "data": {"node": null, "prompt_id": "p"}}')
    assert isinstance(event, Event)
    assert (event.kind, event.text("prompt_id"), event.text("node")) == ("executing", "p", "")
    assert parse('{"type": "status"}') == Event("status", {})
