"""Make the page's form of every workflow from its API form and its note, with the page itself.

Run it after a change of workflows/api, workflows/notes or a node's inputs; names of workflows do those alone:
python dev.py run -- python -m tests.page.draw_workflows [NAME ...]
"""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import cast

from PIL import Image, ImageChops, ImageOps

from devtools.server.base_directory import temporary_base_directory
from devtools.server.tiny_workflow import Workflow
from devtools.setup.installation import Installation
from headforcing_core.farm.client import Client
from tests.page.model_addresses import ADDRESSES
from tests.page.page import ComfyPage, Json, open_page

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
ARRANGE = Path(__file__).with_name("arrange.js")
MARGIN = 20
PICTURED, PICTURE, PICTURE_SIZE = "first_minute", WORKFLOWS.parent / "docs" / "first_minute.jpg", (1200, 480)
ZOOM, CORNER = 0.85, (90, 150)  # how a workflow opens: where its first node stands in the page, in pixels
# text drawn at any size, nothing above the canvas
SETTINGS = {"Comfy.Minimap.Visible": False, "LiteGraph.Canvas.MinFontSizeForLOD": 0}
TITLES = {
    "models": "Models",
    "prompts": "Prompts",
    "given": "What is given",
    "memory": "Memory",
    "make": "Make",
    "look": "Look",
}
"""The groups in the order in which they are read."""
# the nodes of every group, a comma between columns
GROUPS = {
    "first_minute": "models: 1 2 3 | prompts: 4 | memory: 5 7 | make: 8 | look: 9 10, 11 6",
    "kept_film": "models: 1 2 3 | prompts: 4 | memory: 7 | make: 8 | look: 9 10 12, 11 13",
    "story": "models: 1 2 3 | prompts: 4 | memory: 5 | make: 6 | look: 7 8 10, 9 11",
    "start_image": "models: 1 2 3 | prompts: 4 | given: 6, 7 9 | memory: 5 | make: 8 | look: 10 11, 12",
    "continue_video": "models: 1 2 3 | prompts: 4 | given: 7 8, 9 10, 11 12 | memory: 5 6 | make: 13"
    " | look: 14 16, 15 17",
    "compare_policies": "models: 1 2 3 | prompts: 4 | memory: 5 10 20 30 | make: 11 21 31"
    " | look: 12 13 22 23 32 33, 14 24 34 6",
    "live_prompting": "models: 1 2 3 | prompts: 4 | memory: 5 | make: 6 | look: 7 8, 9",
    "low_vram": "models: 1 2 3 | prompts: 4 | memory: 5 6 | make: 7 | look: 8 9, 10",
    "tiny": "models: 1 2 3 | prompts: 4 | memory: 5 6 | make: 7 | look: 8 9, 10",
    "few_steps": "models: 1 2 3 | prompts: 4 | memory: 5 | make: 6 | look: 7 8, 9",
    "shots": "models: 1 2 3 | prompts: 4 | memory: 5 | make: 6 | look: 7 8, 9",
    "picture_to_world": "models: 1 2 3 | prompts: 4 | given: 6, 7 | memory: 5 | make: 8 | look: 9 10, 11",
    "restyle_video": "models: 1 2 3 | prompts: 5 | given: 4 | memory: 6 | make: 7 | look: 8 9, 10",
    "vae_on_second_card": "models: 1 2 3, 4 | prompts: 5 | memory: 6 7 | make: 8 | look: 9 10",
    "several_cards": "models: 1 2 3 4 | prompts: 5 | memory: 6 7 | make: 8 | look: 9 10",
    "two_scenes": "models: 1 2 3 | prompts: 4 5 | memory: 6 7 | make: 8, 9 | look: 10 11, 12 13",
}
Heights = dict[str, tuple[float, float]]
"""The heights of nodes by their ids: that which is saved, and that which one of the two kinds of nodes may grow to."""
# as high as its widgets need, in whatever way it is drawn
HEIGHTS = """async ({ api, name }) => {
  const { app, LiteGraph } = window;
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  await app.loadApiJson(api, name);
  app.canvas.ds.scale = 0.3; // all are in view
  app.canvas.ds.offset = [200, 300];
  for (const [index, node] of app.graph.nodes.entries()) {
    node.pos = [650 * (index % 7), 700 * Math.floor(index / 7)];
  }
  const high = ({ id }) => document.querySelector(`[data-node-id="${id}"]`).offsetHeight - LiteGraph.NODE_TITLE_HEIGHT;
  const heights = {};
  for (let round = 0; round < 4; round += 1) {
    await wait(500); // Vue nodes come back at times with the height that they had before
    // another one each time, or nothing is drawn anew
    for (const node of app.graph.nodes) node.setSize([Math.max(node.computeSize()[0], 340), 40 + round]);
    app.canvas.setDirty(true, true);
    await wait(500);
    for (const node of app.graph.nodes) {
      const now = LiteGraph.vueNodesMode ? high(node) : node.size[1];
      heights[node.id] = Math.min(now, heights[node.id] ?? now);
    }
  }
  return Object.entries(heights);
}"""


def groups_in(text: str) -> list[Json]:
    """Groups as arrange.js takes them."""
    return [
        {"title": TITLES[title.strip()], "columns": [column.split() for column in ids.split(",")]}
        for title, ids in (group.split(":") for group in text.split("|"))
    ]


def api_form(name: str) -> dict[str, Json]:
    """The API form of a workflow."""
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))


def heights_of(page: ComfyPage, name: str, api: dict[str, Json]) -> dict[str, float]:
    """How high the nodes of a workflow have to be in this page, which begins anew: a Vue node is as high as that which
    had its id before."""
    page.tab.reload()
    page.wait_until_ready()
    return dict(page.tab.evaluate(HEIGHTS, {"api": api, "name": name}))


def heights_in(vue: dict[str, float], classic: dict[str, float]) -> Heights:
    """The heights of nodes that are as high as this in the page's two ways of drawing them."""
    return {node_id: (least, max(least, classic[node_id])) for node_id, least in vue.items()}


def draw(page: ComfyPage, name: str, heights: Heights) -> None:
    """Write the page's form of one workflow, and a picture of the whole page to look at."""
    note = (WORKFLOWS / "notes" / f"{name}.md").read_text(encoding="utf-8")
    workflow = arranged(page, api_form(name), groups_in(GROUPS[name]), heights, name, note)
    page.load_workflow(workflow, name)
    page.show_all()
    form = cast(dict[str, Json], page.tab.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))"))
    form = {**form, "nodes": as_arranged(form["nodes"], workflow["nodes"])}
    (WORKFLOWS / f"{name}.json").write_text(json.dumps(opened_at_its_beginning(form), indent=1) + "\n", "ascii")
    page.keep_screenshot(f"workflow_{name}")
    if name == PICTURED:
        with Image.open(io.BytesIO(page.tab.screenshot())) as shot:
            graph_in(shot.convert("RGB")).save(PICTURE, quality=60, optimize=True, progressive=True)


def arranged(
    page: ComfyPage, api: dict[str, Json], groups: list[Json], heights: Heights, name: str, note: str
) -> dict[str, Json]:
    """The page's form of an API form, with its nodes in groups; it stays open."""
    arguments = {"api": api, "name": name, "groups": groups, "note": note, "heights": heights, "models": ADDRESSES}
    return cast(dict[str, Json], page.tab.evaluate(ARRANGE.read_text(encoding="ascii"), arguments))


def as_arranged(opened: list[dict[str, Json]], given: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The nodes of an open workflow with the sizes that they were given: those that it has grown to are of this page
    alone, and its other kind of nodes would show holes."""
    sizes = {node["id"]: node["size"] for node in given}
    return [{**node, "size": sizes[node["id"]]} for node in opened]


def opened_at_its_beginning(form: dict[str, Json]) -> dict[str, Json]:
    """The page's form, opening with its left end in view: at the zoom of a whole graph classic nodes show no text."""
    places = [node["pos"] for node in form["nodes"]]
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    offset = [CORNER[0] / ZOOM - left, CORNER[1] / ZOOM - top]
    return {**form, "extra": {**form["extra"], "ds": {"scale": ZOOM, "offset": offset}}}


def graph_in(page: Image.Image) -> Image.Image:
    """The graph in a picture of the page, without what stands around it."""
    width, height = page.size
    canvas = page.crop((60, 90, width, height - 110))
    drawn = ImageChops.difference(canvas, Image.new("RGB", canvas.size, canvas.getpixel((5, 5))))
    left, top, right, bottom = drawn.point(lambda value: 255 if value > 24 else 0).getbbox() or (0, 0, *canvas.size)
    graph = canvas.crop((left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN))
    return ImageOps.pad(graph, PICTURE_SIZE, color=canvas.getpixel((5, 5)))


def main(names: list[str]) -> None:
    """Draw these workflows, or all of them."""
    names = names or list(GROUPS)
    installation = Installation.from_environment()
    with temporary_base_directory(installation.models) as folder:
        shutil.copy(installation.host / "input" / "example.png", folder / "input")  # as artists have it
        film = shutil.move(folder / "output" / "video" / "first_minute_00001_.mp4", folder / "input" / "film.mp4")
        with installation.server(folder) as server:
            Client(server.url).run(saving(film.name))
            with open_page(server.url, "vue", SETTINGS) as page:
                least = {name: heights_of(page, name, api_form(name)) for name in names}
            with open_page(server.url, "classic", SETTINGS) as page:
                for name in names:
                    draw(page, name, heights_in(least[name], heights_of(page, name, api_form(name))))
                    print(f"drew {name}")


def saving(film: str) -> Workflow:
    """What puts first_minute's video into the host's history: the page asks there for a video of the output folder."""
    video = {"video": ["load", 0], "filename_prefix": "video/first_minute", "format": "auto", "codec": "auto"}
    return {
        "load": {"class_type": "LoadVideo", "inputs": {"file": film}},
        "save": {"class_type": "SaveVideo", "inputs": video},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
