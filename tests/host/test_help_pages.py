"""The help page of every node: what it must name, and what the page of the host can show of it."""

import re

import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.host.conftest import Pack

HELP = REPOSITORY / "web" / "docs"
NODES = sorted(path.stem for path in HELP.glob("*.md"))
MOST_BYTES = 60_000  # of a picture
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def section(text: str, heading: str) -> str:
    """What stands under a heading, to the next of its rank."""
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, heading
    return found[1]


@pytest.fixture(params=NODES)
def page(request: pytest.FixtureRequest, pack: Pack) -> tuple[type, str]:
    """A node and its page."""
    return pack.nodes[request.param], (HELP / f"{request.param}.md").read_text(encoding="ascii")


def test_every_node_has_a_page(pack: Pack) -> None:
    assert [node_id for node_id in sorted(pack.nodes) if not node_id.startswith("HeadForcingTest")] == NODES


def test_a_page_has_the_name_of_its_node(page: tuple) -> None:
    node, text = page
    assert text.startswith(f"# {node.GET_SCHEMA().display_name}\n")


def test_a_page_names_every_input_with_a_typical_value_and_every_output(page: tuple) -> None:
    node, text = page
    given = section(text, "Inputs")
    all_advanced = "All but `preset` are advanced" in given
    lines = [line for line in given.splitlines() if line.startswith("- `")]
    for each in node.GET_SCHEMA().inputs:
        (line,) = [line for line in lines if f"`{each.id}`" in line.split(" - ")[0]]
        assert "*Typical: " in line, each.id
        said = line.split(" - ")[0].endswith(", advanced") or (all_advanced and each.id != "preset")
        assert said == bool(each.as_dict().get("advanced")), each.id
    for each in node.GET_SCHEMA().outputs:
        assert f"- `{each.display_name}`" in section(text, "Outputs"), each.display_name


def test_a_page_names_every_option(page: tuple) -> None:
    node, text = page
    for each in node.GET_SCHEMA().inputs:
        options = [] if each.id in ("model_name", "profile_name", "lora") else each.as_dict().get("options") or []
        assert [option for option in options if not re.search(rf"\b{option}\b", text)] == [], each.id


def test_a_page_shows_its_node_and_every_picture_of_it_is_there_and_small(page: tuple) -> None:
    node, text = page
    pictures = PICTURE.findall(text)
    assert f"{node.GET_SCHEMA().node_id}_node.png" in [name for _, name in pictures]
    for described, name in pictures:
        assert len(described) > 20, name
        assert (HELP / name).stat().st_size < MOST_BYTES, name
        with Image.open(HELP / name) as picture:
            assert picture.format == "PNG", name


def test_a_page_links_nothing_that_opens_a_second_comfyui(page: tuple) -> None:
    _, text = page
    links = re.findall(r"(?<!!)\[[^\]\n]*\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []


def test_no_picture_lies_there_unused() -> None:
    used = {name for path in HELP.glob("*.md") for _, name in PICTURE.findall(path.read_text(encoding="ascii"))}
    assert {path.name for path in HELP.glob("*.png")} == used
