"""The blueprint in ComfyUI's own page: found, added and run, with classic nodes and with Vue nodes."""

import json

import pytest

from devtools.server.tiny_workflow import TINY_HEIGHT, TINY_WIDTH
from tests.conftest import REPOSITORY
from tests.page.draw_blueprint import INPUTS, NAME, OUTPUTS
from tests.page.page import ComfyPage, Json

SECONDS, CHUNKS = 1.5, 3
LONGEST_RUN = 120.0
ADDED = "() => window.app.graph.nodes.find((node) => node.isSubgraphNode())"
# stock nodes behind its outputs, and inside it the tiny text encoder and a small picture
MAKE_READY = """({ width, height }) => {
  const { graph } = window.app;
  const { LiteGraph } = window;
  const node = graph.nodes.find((each) => each.isSubgraphNode());
  for (const [slot, type, below] of [[0, 'SaveVideo', 0], [1, 'PreviewAny', 500]]) {
    const shown = LiteGraph.createNode(type);
    graph.add(shown);
    shown.pos = [node.pos[0] + node.size[0] + 80, node.pos[1] + below];
    node.connect(slot, shown, 0);
  }
  const inside = node.subgraph;
  const loader = inside.nodes.find((each) => each.type === 'CLIPLoader');
  const tiny = LiteGraph.createNode('HeadForcingTestLoadUMT5');
  inside.add(tiny);
  tiny.widgets[0].value = 'tiny_umt5.safetensors';
  tiny.connect(0, inside.nodes.find((each) => each.type === 'HeadForcingPromptSchedule'), 0);
  inside.remove(loader);
  for (const each of inside.nodes) {
    for (const widget of each.widgets ?? []) {
      if (widget.name === 'width') widget.value = width;
      if (widget.name === 'height') widget.value = height;
    }
  }
}"""

CONNECT_PICTURE = """() => {
  const { graph } = window.app;
  const picture = window.LiteGraph.createNode('LoadImage');
  graph.add(picture);
  picture.widgets[0].value = 'example.png';
  picture.connect(0, graph.nodes.find((each) => each.isSubgraphNode()), 0);
}"""


@pytest.fixture
def page(rendered: ComfyPage) -> ComfyPage:
    """The blueprint alone on the canvas."""
    add_from_search(rendered)
    return rendered


@pytest.fixture
def ready(page: ComfyPage) -> dict[str, Json]:
    """The blueprint on the tiny models, with what is set on it."""
    page.tab.evaluate(MAKE_READY, {"width": TINY_WIDTH, "height": TINY_HEIGHT})
    wanted: dict[str, Json] = {
        "text": f"[0s] a red fox in deep snow, drawn by {page.renderer} nodes",
        "seconds": SECONDS,
        "seed": 4711,
        "preset": "low_vram",
        "model_name": "self_forcing_dmd.safetensors",
    }
    for name, value in wanted.items():
        page.set_widget(NAME, name, value)
    return wanted


def add_from_search(page: ComfyPage) -> None:
    """Find the blueprint as an artist does, and put it onto an empty canvas."""
    page.tab.evaluate("() => window.app.graph.clear()")
    page.settle()
    page.open_search()
    page.tab.keyboard.type("one-minute")
    page.tab.get_by_text(NAME).first.click()
    page.tab.wait_for_function("() => window.app.graph.nodes.length === 1")
    page.settle()
    page.tab.mouse.click(400, 300)  # until then it hangs on the pointer
    page.tab.wait_for_function("() => !window.app.graph.nodes[0].flags.ghost")


def test_it_has_exactly_what_an_artist_changes(page: ComfyPage) -> None:
    node = page.tab.evaluate(
        f"() => {{ const node = ({ADDED})(); return [node.title, ...['inputs', 'outputs', 'widgets'].map("
        "(part) => node[part].map((each) => each.name))]; }"
    )
    names = [name for _, name in INPUTS]
    assert len(names) == 6
    assert node == [NAME, names, OUTPUTS, [name for name in names if name != "start_image"]]


def test_it_begins_with_the_values_of_first_minute(page: ComfyPage) -> None:
    shipped = json.loads((REPOSITORY / "workflows" / "api" / "first_minute.json").read_text(encoding="ascii"))
    values = {(node["class_type"], name): value for node in shipped.values() for name, value in node["inputs"].items()}
    shown = page.tab.evaluate(f"() => ({ADDED})().widgets.map((widget) => widget.value)")
    assert shown == [values[key] for key in INPUTS if key in values]


def test_what_is_changed_on_it_is_what_runs(page: ComfyPage, ready: dict[str, Json]) -> None:
    report = finished(page, "blueprint")
    assert len(report["chunks"]) == CHUNKS and report["settings"]["seed"] == ready["seed"]
    assert report["settings"]["policy"] == "low_vram"
    assert [segment["prompt"] for segment in report["segments"]] == [str(ready["text"]).removeprefix("[0s] ")]
    page.tab.locator("video:not(.hf-strip-video)").wait_for()


@pytest.mark.usefixtures("ready")
def test_a_picture_that_is_connected_begins_the_video(page: ComfyPage) -> None:
    page.tab.evaluate(CONNECT_PICTURE)
    assert len(finished(page, "blueprint_picture")["chunks"]) == CHUNKS - 1


def finished(page: ComfyPage, name: str) -> dict:
    """Run the graph to its end; the report that it shows."""
    assert page.queue(), page.node_errors()
    run = page.wait_for_end(LONGEST_RUN)
    page.show_all()
    page.keep_screenshot(name)
    assert (run.outcome, run.error()) == ("success", "")
    (report,) = [json.loads(shown["text"][0]) for shown in run.outputs().values() if "text" in shown]
    return report
