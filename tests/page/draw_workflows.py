"""Make the page's form and the thumbnail of every workflow from its API form, with the page itself.

Run it after a change of workflows/api or of a node's inputs: python dev.py run -- python -m tests.page.draw_workflows
"""

import io
import json
from pathlib import Path
from typing import cast

from PIL import Image, ImageChops, ImageOps

from devtools.base_directory import temporary_base_directory
from devtools.installation import Installation
from devtools.server import Server
from tests.page.page import ComfyPage, Json, open_page

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
COLUMN_GAP, ROW_GAP = 70, 110  # nodes of the newer kind are drawn taller
MARGIN = 20
THUMBNAIL = (1200, 480)
# classic nodes, their text drawn at any size, nothing above the canvas
SETTINGS = {"Comfy.VueNodes.Enabled": False, "Comfy.Minimap.Visible": False, "LiteGraph.Canvas.MinFontSizeForLOD": 0}
# reads left to right: a node stands one column right of the last node it reads, stacked in the order of the ids
ARRANGE = """async ({api, name, columnGap, rowGap}) => {
  const app = window.app;
  await app.loadApiJson(api, name);
  const nodes = Object.fromEntries(app.graph.nodes.map((node) => [String(node.id), node]));
  const depth = {};
  const column = (id) => depth[id] ??= 1 + Math.max(-1, ...Object.values(api[id].inputs)
    .filter((value) => Array.isArray(value)).map((value) => column(value[0])));
  const columns = [];
  for (const id of Object.keys(api)) (columns[column(id)] ??= []).push(nodes[id]);
  let x = 40;
  for (const stacked of columns) {
    let y = 80;
    for (const node of stacked) {
      const size = node.computeSize();
      const after = node.widgets?.find((widget) => widget.name === 'control_after_generate');
      if (after) after.value = 'fixed';
      const wide = node.widgets?.some((widget) => widget.name === 'text') ? 460 : 320;
      const high = node.type === 'HeadForcingPromptSchedule' ? 360 : /^(Preview|SaveVideo)/.test(node.type) ? 320 : 0;
      node.setSize([Math.max(size[0], wide), Math.max(size[1], high)]);
      node.pos = [x, y];
      y += node.size[1] + rowGap;
    }
    x += Math.max(...stacked.map((node) => node.size[0])) + columnGap;
  }
  app.graph.setDirtyCanvas(true, true);
  return JSON.parse(JSON.stringify(app.graph.serialize()));
}"""


def draw(page: ComfyPage, api_file: Path) -> None:
    """Write the page's form and the thumbnail of one workflow next to workflows/api."""
    api = json.loads(api_file.read_text(encoding="utf-8"))
    arguments = {"api": api, "name": api_file.stem, "columnGap": COLUMN_GAP, "rowGap": ROW_GAP}
    workflow = cast(dict[str, Json], page.tab.evaluate(ARRANGE, arguments))
    target = WORKFLOWS / api_file.name
    page.load_workflow(workflow, api_file.stem)
    page.tab.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.settle()
    fitted = page.tab.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")
    target.write_text(json.dumps(fitted, indent=1) + "\n", encoding="ascii")
    picture = io.BytesIO()
    picture.write(page.tab.screenshot())
    shot = Image.open(picture).convert("RGB")
    width, height = shot.size
    canvas = shot.crop((60, 90, width, height - 110))
    drawn = ImageChops.difference(canvas, Image.new("RGB", canvas.size, canvas.getpixel((5, 5))))
    left, top, right, bottom = drawn.point(lambda value: 255 if value > 24 else 0).getbbox() or (0, 0, *canvas.size)
    graph = canvas.crop((left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN))
    ImageOps.pad(graph, THUMBNAIL, color=canvas.getpixel((5, 5))).save(target.with_suffix(".jpg"), quality=85)


def main() -> None:
    """Draw every workflow of workflows/api."""
    installation = Installation.from_environment()
    api_files = sorted((WORKFLOWS / "api").glob("*.json"))
    with temporary_base_directory(installation.models) as folder:
        for api_file in api_files:
            add_text_encoders(folder / "models" / "text_encoders", api_file)
        with Server(installation, folder) as server, open_page(server.url, SETTINGS) as page:
            for api_file in api_files:
                draw(page, api_file)
                print(f"drew {api_file.stem}")


def add_text_encoders(folder: Path, api_file: Path) -> None:
    """Put empty files in place of the text encoders, the only models without a tiny form of the same name."""
    for node in json.loads(api_file.read_text(encoding="utf-8")).values():
        if node["class_type"] == "CLIPLoader":
            (folder / node["inputs"]["clip_name"]).touch()


if __name__ == "__main__":
    main()
