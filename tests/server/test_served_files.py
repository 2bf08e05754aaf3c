"""What the host hands to its page of the pack's files: texts, help pages with their pictures, workflows, blueprints."""

import json
import re
import urllib.parse
import urllib.request

import pytest

from headforcing_core.farm.process import Server
from tests.conftest import REPOSITORY

FOLDER = "comfyui-head-forcing"
PAGES = sorted((REPOSITORY / "web" / "docs").glob("*.md"))


def get(server: Server, path: str) -> bytes:
    """The body of an answer; raises HTTPError when there is none."""
    with urllib.request.urlopen(server.url + urllib.parse.quote(path), timeout=30) as answer:
        return answer.read()


def test_the_texts_of_every_node_are_served_for_translation(comfyui: Server) -> None:
    english = json.loads(get(comfyui, "/i18n"))["en"]
    assert english["nodeDefs"]["HeadForcingSampler"]["inputs"]["seconds"]["tooltip"].startswith("Length of the video")
    assert english["nodeCategories"]["Head Forcing"] == "Head Forcing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_help_page_is_served_with_its_pictures(comfyui: Server, page) -> None:
    text = get(comfyui, f"/extensions/{FOLDER}/docs/{page.name}").decode("ascii")
    assert text == page.read_text(encoding="ascii")
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert get(comfyui, f"/extensions/{FOLDER}/docs/{picture}")[1:4] == b"PNG"


def test_every_workflow_is_offered_with_its_thumbnail(comfyui: Server) -> None:
    shipped = {path.stem for path in (REPOSITORY / "workflows").glob("*.json")}
    assert set(json.loads(get(comfyui, "/workflow_templates"))[FOLDER]) == shipped
    for name in shipped:
        assert json.loads(get(comfyui, f"/api/workflow_templates/{FOLDER}/{name}.json"))["nodes"]
        assert get(comfyui, f"/api/workflow_templates/{FOLDER}/{name}.jpg")[:2] == b"\xff\xd8"


def test_the_blueprint_is_offered(comfyui: Server) -> None:
    offered = json.loads(get(comfyui, "/global_subgraphs")).items()
    (one,) = [entry for entry, about in offered if about["info"]["node_pack"] == f"custom_nodes.{FOLDER}"]
    assert json.loads(json.loads(get(comfyui, f"/global_subgraphs/{one}"))["data"])["definitions"]["subgraphs"]
