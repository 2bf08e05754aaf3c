"""What the shipped workflows say, as files."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from devtools.server.tiny_workflow import Workflow, load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("api/*.json"))
MODEL_INPUTS = {"HeadForcingLoadARModel": "model_name", "CLIPLoader": "clip_name", "VAELoader": "vae_name"}
TITLE_HEIGHT = 30  # a node's place is that of its body; the title stands above it


def api_form(name: str) -> Workflow:
    """A workflow as it is queued."""
    return load(FOLDER / "api" / f"{name}.json")


def page_nodes(name: str) -> list[dict]:
    """The nodes of a workflow as the page saves it."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="ascii"))["nodes"]


def test_every_node_stands_in_a_workflow() -> None:
    contract = json.loads((ROOT / "tests" / "host" / "contract.json").read_text(encoding="ascii"))
    assert contract.keys() <= {node["class_type"] for name in NAMES for node in api_form(name).values()}


@pytest.mark.parametrize("name", NAMES)
def test_its_models_are_files_that_the_readme_tells_where_to_get(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="ascii")
    named = re.findall(r"`([^`]+)`", readme.partition("\n## Models\n")[2].partition("\n## ")[0])
    for node in api_form(name).values():
        if node["class_type"] in MODEL_INPUTS:
            assert node["inputs"][MODEL_INPUTS[node["class_type"]]] in named


@pytest.mark.parametrize("name", NAMES)
def test_its_note_has_a_title_and_five_short_lines_and_stands_in_the_page_form(name: str) -> None:
    note = (FOLDER / "notes" / f"{name}.md").read_text(encoding="ascii")
    title, *lines = note.splitlines()
    assert title.startswith("## ") and len(lines) == 5
    assert all(line.startswith("- ") and len(line) <= 130 for line in lines)
    assert sum("**Change first:**" in line for line in lines) == 1
    assert [node["widgets_values"] for node in page_nodes(name) if node["type"] == "MarkdownNote"] == [[note]]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_form_has_the_nodes_and_titles_of_the_api_form(name: str) -> None:
    queued = api_form(name)
    shown = {str(node["id"]): node for node in page_nodes(name) if node["type"] != "MarkdownNote"}
    assert {node_id: node["type"] for node_id, node in shown.items()} == {
        node_id: node["class_type"] for node_id, node in queued.items()
    }
    for node_id, node in shown.items():  # the page leaves out a title that is the type's own
        assert node.get("title", queued[node_id]["_meta"]["title"]) == queued[node_id]["_meta"]["title"]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_stay_as_they_are_from_run_to_run(name: str) -> None:
    seeded = [node for node in page_nodes(name) if node["type"] == "HeadForcingSampler"]
    assert seeded and all("fixed" in node["widgets_values"] for node in seeded)


@pytest.mark.parametrize("name", NAMES)
def test_no_node_lies_on_another(name: str) -> None:
    for one, other in combinations(page_nodes(name), 2):
        (left, top), (width, height) = one["pos"], one["size"]
        (other_left, other_top), (other_width, other_height) = other["pos"], other["size"]
        beside = left + width <= other_left or other_left + other_width <= left
        above = top + height <= other_top - TITLE_HEIGHT or other_top + other_height <= top - TITLE_HEIGHT
        assert beside or above, (one["id"], other["id"])


@pytest.mark.parametrize("name", NAMES)
def test_its_prompts_are_long(name: str) -> None:
    for node in api_form(name).values():
        if node["class_type"] == "HeadForcingPromptSchedule":
            scenes = str(node["inputs"]["text"]).splitlines()
            assert all(len(scene.split()) >= 12 for scene in scenes)
