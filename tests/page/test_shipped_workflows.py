"""Every shipped workflow opens in ComfyUI's own page as it is meant."""

import json
from collections.abc import Iterator

import pytest

from devtools.server.tiny_workflow import load
from headforcing_core.farm.process import Server
from tests.conftest import REPOSITORY
from tests.page.page import ComfyPage, open_page
from tests.page.test_finding import layout_problems

WORKFLOWS = REPOSITORY / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


@pytest.fixture(scope="module")
def page(comfyui: Server) -> Iterator[ComfyPage]:
    with open_page(comfyui.url) as opened:
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_and_sends_what_its_api_form_says(page: ComfyPage, name: str) -> None:
    page.console_errors.clear()
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="ascii"))
    page.load_workflow(workflow, name)
    assert page.missing_node_types(workflow) == []
    queued, sent = load(WORKFLOWS / "api" / f"{name}.json"), page.api_prompt()
    assert sent.keys() == queued.keys()
    for node_id, node in queued.items():
        assert sent[node_id]["class_type"] == node["class_type"]
        # a stock node may have inputs that this host has and the oldest supported one has not
        names = sent[node_id]["inputs"] if node["class_type"].startswith("HeadForcing") else node["inputs"]
        assert {given: sent[node_id]["inputs"][given] for given in names} == node["inputs"]
    page.settle()
    if name != "first_minute":  # other tests have run it, so that its film strip stands there
        assert layout_problems(page) == []
    assert page.console_errors == []
