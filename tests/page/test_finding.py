"""What an artist does on the page, with classic nodes and with Vue nodes: find, open, ask for help, run, stop."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator

from tests.conftest import REPOSITORY
from tests.page.draw_workflows import TITLES
from tests.page.page import ComfyPage
from tests.server.graphs import sampling

WORKFLOWS = sorted(path.stem for path in (REPOSITORY / "workflows").glob("*.json"))
# from the dialog: the simplest, the largest, and two unlike them; every one opens in test_shipped_workflows.py
OPENED = ("first_minute", "compare_policies", "two_scenes", "several_cards")
HELP = REPOSITORY / "web" / "docs"
LAYOUT = Path(__file__).with_name("layout.js")
NODES = sorted(path.stem for path in HELP.glob("*.md"))
PACK = "comfyui-head-forcing"
SAMPLER = "HeadForcingSampler"
# the page asks there about nodes that it shows in its search, and complains about files that a small host lacks
OWN_LOOK_UP = "https://api.comfy.org/"
ABSENT = ("Error loading fuse options", "Error loading core workflow templates", "/en.md")
LONG, SHORT = 599.8, 1.0  # seconds of video: the long one is not over before a hand reaches the button
LONGEST_RUN = 120.0


@dataclass(frozen=True)
class Opened:
    """A page with an empty graph."""

    page: ComfyPage

    def preview(self) -> Locator | None:
        """The picture on the sampler, where it is an element of the page: classic nodes draw it on the canvas."""
        return self.page.tab.locator('[data-node-id="sampler"] img') if self.page.renderer == "vue" else None


@pytest.fixture
def opened(rendered: ComfyPage) -> Iterator[Opened]:
    """The page with an empty graph. Nothing may fail, or reach beyond this machine."""
    page = rendered
    page.console_errors.clear()
    page.blocked.clear()
    page.tab.evaluate("() => { app.graph.clear(); app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [0, 0]; }")
    yield Opened(page)
    assert [line for line in page.console_errors if not any(known in line for known in ABSENT)] == []
    assert [line for line in page.blocked if OWN_LOOK_UP not in line] == []


@pytest.mark.parametrize(
    ("words", "title", "node_type"),
    [
        ("self forcing", "Load AR Model", "HeadForcingLoadARModel"),
        ("self forcing", "Head-Forced Sampler", SAMPLER),
        ("infinite", "Head-Forced Sampler", SAMPLER),
    ],
)
def test_a_search_in_the_artists_words_adds_the_node(opened: Opened, words: str, title: str, node_type: str) -> None:
    tab = opened.page.tab
    opened.page.settle()
    opened.page.open_search()
    tab.keyboard.type(words)
    tab.get_by_role("dialog").get_by_text(title).first.click()
    tab.wait_for_function("() => app.graph.nodes.length === 1")
    assert tab.evaluate("() => app.graph.nodes[0].type") == node_type
    tab.keyboard.press("Escape")


def test_every_workflow_is_among_the_templates_with_its_thumbnail(opened: Opened) -> None:
    open_templates(opened.page)
    for name in WORKFLOWS:
        shown_card = card(opened.page, name)
        shown_card.scroll_into_view_if_needed()  # the page draws a picture when its card comes into view
        picture = shown_card.locator("img")
        picture.wait_for()
        shown = picture.evaluate(
            "async (image) => { await image.decode(); return [image.naturalWidth, image.naturalHeight]; }"
        )
        with Image.open(REPOSITORY / "workflows" / f"{name}.jpg") as thumbnail:
            assert shown == list(thumbnail.size), name
    opened.page.tab.keyboard.press("Escape")
    opened.page.tab.get_by_role("dialog").wait_for(state="hidden")


@pytest.mark.parametrize(
    "name", [name if name in OPENED else pytest.param(name, marks=pytest.mark.full_product) for name in WORKFLOWS]
)
def test_a_template_opens_as_it_was_saved(opened: Opened, name: str) -> None:
    saved = json.loads((REPOSITORY / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    open_templates(opened.page)
    card(opened.page, name).click()
    opened.page.tab.get_by_role("dialog").wait_for(state="hidden")
    opened.page.tab.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(saved["nodes"]))
    opened.page.settle()
    now = opened.page.tab.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    assert opened.page.missing_node_types(now) == []
    for (shown_type, shown), (saved_type, kept) in zip(values(now), values(saved), strict=True):
        # a stock node may have widgets that this host has and the oldest supported one has not
        own = shown if shown_type.startswith("HeadForcing") else shown[: len(kept)]
        assert (shown_type, own) == (saved_type, kept)
    assert layout_problems(opened.page) == []


@pytest.mark.parametrize("node_type", NODES)
def test_a_node_opens_its_help_with_text_and_pictures(opened: Opened, node_type: str) -> None:
    source = (HELP / f"{node_type}.md").read_text(encoding="utf-8")
    tab = opened.page.tab
    tab.evaluate(
        """(type) => {
          const node = LiteGraph.createNode(type);
          app.graph.add(node);
          node.pos = [300, 300];
          app.canvas.selectNode(node);
        }""",
        node_type,
    )
    tab.get_by_test_id("info-button").click()
    help_page = tab.locator(".node-help-content")
    first = re.search(r"^# .*\n+([A-Z][^.]*)", source)
    assert first is not None
    help_page.get_by_text(first[1].replace("`", "")).first.wait_for()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", source)
    assert pictures and help_page.locator("img").count() == len(pictures)
    for picture, file in zip(help_page.locator("img").all(), pictures, strict=True):
        width = picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")
        with Image.open(HELP / file) as image:
            assert width == image.width
    tab.get_by_role("button", name="Toggle properties panel").first.click()


def test_a_run_shows_where_it_is_can_be_stopped_and_runs_again(opened: Opened) -> None:
    page, preview = opened.page, opened.preview()
    page.load_api_workflow(sampling(seconds=LONG, seed=11 if preview else 12))
    page.tab.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    assert page.queue(), page.node_errors()
    page.tab.get_by_text(re.compile(r"chunk \d+ of 800")).first.wait_for(timeout=LONGEST_RUN * 1000)
    if preview is None:
        pictures = "() => app.graph.getNodeById('sampler').imgs?.length"
        page.tab.wait_for_function(pictures, timeout=10_000)
    else:
        preview.first.wait_for()
    page.interrupt()
    assert page.wait_for_end(LONGEST_RUN).outcome == "interrupted"

    page.set_widget(SAMPLER, "seconds", SHORT)
    assert page.queue(), page.node_errors()
    run = page.wait_for_end(LONGEST_RUN)
    assert (run.outcome, run.error()) == ("success", "")
    assert json.loads(run.outputs()["report"]["text"][0])["settings"]["seconds"] == SHORT


def layout_problems(page: ComfyPage) -> list[str]:
    """What is wrong with the open graph as it is drawn: nodes on nodes or out of their groups, links under nodes."""
    return page.tab.evaluate(LAYOUT.read_text(encoding="ascii"), list(TITLES.values()))


def open_templates(page: ComfyPage) -> None:
    """Open the host's dialog of templates at those of this pack."""
    page.tab.evaluate("() => { app.extensionManager.command.execute('Comfy.BrowseTemplates'); }")
    page.tab.get_by_role("dialog").get_by_text(PACK).first.click()


def card(page: ComfyPage, name: str) -> Locator:
    """One template in the dialog."""
    return page.tab.get_by_test_id(f"template-workflow-{name}")


def values(workflow: dict) -> list[tuple[str, list]]:
    """The type and the widgets' values of every node, in the order of their ids."""
    nodes = sorted(workflow["nodes"], key=lambda node: int(node["id"]))
    return [(node["type"], node.get("widgets_values") or []) for node in nodes]
