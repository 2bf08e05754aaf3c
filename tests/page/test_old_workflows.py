"""Workflows as they were shipped with every release still open in ComfyUI's own page, with all that was set in them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.server.tiny_workflow import load
from headforcing_core.farm.process import Server
from tests.conftest import REPOSITORY
from tests.page.page import ComfyPage, open_page

RECORDED = REPOSITORY / "tests" / "old_workflows"


def name_of(path: Path) -> str:
    """Version and name of a recorded file."""
    return f"{path.parents[1].name} {path.stem}"


@pytest.fixture(scope="module")
def page(comfyui: Server) -> Iterator[ComfyPage]:
    with open_page(comfyui.url) as opened:
        yield opened


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*/page/*.json")), ids=name_of)
def test_an_old_workflow_opens_with_every_value_in_its_place(page: ComfyPage, path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="ascii"))
    page.load_workflow(workflow, path.stem)
    assert page.missing_node_types(workflow) == []
    recorded, sent = load(path.parents[1] / "api" / path.name), page.api_prompt()
    assert sent.keys() == recorded.keys()
    for node_id, node in recorded.items():
        assert sent[node_id]["class_type"] == node["class_type"]
        assert {given: sent[node_id]["inputs"].get(given) for given in node["inputs"]} == node["inputs"]


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*/blueprints/*.json")), ids=name_of)
def test_an_old_blueprint_in_a_workflow_sends_what_it_shows(page: ComfyPage, path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="ascii"))
    page.load_workflow(workflow, path.stem)
    assert page.missing_node_types(workflow) == []
    (node,) = workflow["nodes"]
    shown = [given["name"] for given in node["inputs"] if "widget" in given]
    sent = [value for inner in page.api_prompt().values() for value in inner["inputs"].items()]
    for name, value in zip(shown, node["widgets_values"], strict=True):
        assert (name, value) in sent
