"""Make the page's form and the thumbnail of every workflow from its API form and its note, with the page itself.

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
from tests.page.page import ComfyPage, Json, open_page

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
ARRANGE = Path(__file__).with_name("arrange.js")
MARGIN = 20
THUMBNAIL = (1200, 480)
ZOOM, CORNER = 0.85, (90, 150)  # how a workflow opens: where its first node stands in the page, in pixels
# text drawn at any size, nothing above the canvas
SETTINGS = {"Comfy.Minimap.Visible": False, "LiteGraph.Canvas.MinFontSizeForLOD": 0}
# the nodes of every column, from left to right
COLUMNS = {
    "first_minute": "1 2 3 | 4 7 | 5 6 | 8 | 9 10 | 11",
    "kept_film": "1 2 3 | 4 7 | 8 | 9 10 | 12 13 11",
    "story": "1 2 3 | 4 5 | 6 | 7 8 | 10 11 9",
    "start_image": "1 2 3 | 6 7 9 | 4 5 | 8 | 10 11 | 12",
    "continue_video": "1 2 3 | 7 8 9 10 | 11 12 5 | 4 6 | 13 | 14 15 | 16 17",
    "compare_policies": "1 2 3 | 4 5 6 | 10 20 30 | 11 21 31 | 12 13 22 23 32 33 | 14 24 34",
    "live_prompting": "1 2 3 | 4 5 | 6 | 7 8 | 9",
    "low_vram": "1 2 3 | 4 6 | 5 | 7 | 8 9 | 10",
    "tiny": "1 2 3 | 4 6 | 5 | 7 | 8 9 | 10",
    "few_steps": "1 2 3 | 4 5 | 6 | 7 8 | 9",
    "shots": "1 2 3 | 4 5 | 6 | 7 8 | 9",
    "picture_to_world": "1 2 3 | 6 7 | 4 5 | 8 | 9 10 | 11",
    "restyle_video": "1 2 3 | 4 | 5 6 | 7 | 8 9 | 10",
    "vae_on_second_card": "1 2 3 | 4 5 | 6 7 | 8 | 9 10",
    "several_cards": "1 2 3 | 4 5 | 6 7 | 8 | 9 10",
    "two_scenes": "1 2 3 | 4 5 | 6 7 | 8 | 9 10 | 11 12 13",
}


def draw(page: ComfyPage, name: str) -> None:
    """Write the page's form and the thumbnail of one workflow, and a picture of the whole page to look at."""
    arguments = {
        "api": json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8")),
        "name": name,
        "columns": [column.split() for column in COLUMNS[name].split("|")],
        "note": (WORKFLOWS / "notes" / f"{name}.md").read_text(encoding="utf-8"),
    }
    workflow = cast(dict[str, Json], page.tab.evaluate(ARRANGE.read_text(encoding="ascii"), arguments))
    target = WORKFLOWS / f"{name}.json"
    page.load_workflow(workflow, name)
    page.tab.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.settle()
    form = cast(dict[str, Json], page.tab.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))"))
    target.write_text(json.dumps(opened_at_its_beginning(form), indent=1) + "\n", encoding="ascii")
    page.keep_screenshot(f"workflow_{name}")
    with Image.open(io.BytesIO(page.tab.screenshot())) as shot:
        thumbnail(shot.convert("RGB")).save(target.with_suffix(".jpg"), quality=60, optimize=True, progressive=True)


def opened_at_its_beginning(form: dict[str, Json]) -> dict[str, Json]:
    """The page's form, opening with its left end in view: at the zoom of a whole graph classic nodes show no text."""
    places = [node["pos"] for node in form["nodes"]]
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    offset = [CORNER[0] / ZOOM - left, CORNER[1] / ZOOM - top]
    return {**form, "extra": {**form["extra"], "ds": {"scale": ZOOM, "offset": offset}}}


def thumbnail(page: Image.Image) -> Image.Image:
    """The graph in a picture of the page, without what stands around it."""
    width, height = page.size
    canvas = page.crop((60, 90, width, height - 110))
    drawn = ImageChops.difference(canvas, Image.new("RGB", canvas.size, canvas.getpixel((5, 5))))
    left, top, right, bottom = drawn.point(lambda value: 255 if value > 24 else 0).getbbox() or (0, 0, *canvas.size)
    graph = canvas.crop((left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN))
    return ImageOps.pad(graph, THUMBNAIL, color=canvas.getpixel((5, 5)))


def main(names: list[str]) -> None:
    """Draw these workflows, or all of them."""
    installation = Installation.from_environment()
    with temporary_base_directory(installation.models) as folder:
        add_names(folder / "models")
        shutil.copy(installation.host / "input" / "example.png", folder / "input")  # as artists have it
        film = shutil.move(folder / "output" / "video" / "first_minute_00001_.mp4", folder / "input" / "film.mp4")
        with installation.server(folder) as server:
            Client(server.url).run(saving(film.name))
            with open_page(server.url, "classic", SETTINGS) as page:
                for name in names or COLUMNS:
                    draw(page, name)
                    print(f"drew {name}")


def saving(film: str) -> Workflow:
    """What puts first_minute's video into the host's history: the page asks there for a video of the output folder."""
    video = {"video": ["load", 0], "filename_prefix": "video/first_minute", "format": "auto", "codec": "auto"}
    return {
        "load": {"class_type": "LoadVideo", "inputs": {"file": film}},
        "save": {"class_type": "SaveVideo", "inputs": video},
    }


def add_names(models: Path) -> None:
    """Put empty files in place of the models without a tiny form of the same name: text encoders, and a VAE."""
    for api_file in (WORKFLOWS / "api").glob("*.json"):
        for node in json.loads(api_file.read_text(encoding="utf-8")).values():
            if node["class_type"] == "CLIPLoader":
                (models / "text_encoders" / node["inputs"]["clip_name"]).touch()
            elif node["class_type"] == "VAELoader":
                name = node["inputs"]["vae_name"]
                if not any((models / folder / name).exists() for folder in ("vae", "vae_approx")):
                    (models / "vae" / name).touch()


if __name__ == "__main__":
    main(sys.argv[1:])
