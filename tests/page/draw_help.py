"""Draw each node as the page shows it, with usual values and every input, for its help page.

Run it after a change of a node's inputs: python dev.py run -- python -m tests.page.draw_help
"""

import io
from pathlib import Path
from typing import cast

from PIL import Image
from playwright.sync_api import FloatRect, ViewportSize

from devtools.server.base_directory import temporary_base_directory
from devtools.setup.installation import Installation
from tests.page.page import ComfyPage, Json, open_page

HELP = Path(__file__).resolve().parents[2] / "web" / "docs"
SETTINGS = {
    "Comfy.Node.AlwaysShowAdvancedWidgets": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Canvas.SelectionToolbox": False,
}
VIEWPORT: ViewportSize = {"width": 1700, "height": 2400}
SCALE = 1.25
BORDER = 12  # pixels of canvas around a node: its sockets stand out
COLOURS = 48  # in a picture: small, and flat areas stay flat
WIDTHS = {"HeadForcingPromptSchedule": 460, "HeadForcingLoadARModel": 400}
TEXT_ENCODER, CHECKPOINT, PROFILE = "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "self_forcing_dmd", "self_forcing_dmd"
PROMPTS = """[0s] a red fox trots through deep snow, golden light
[20s] the red fox reaches a frozen river, golden light
[0:40 soft] the red fox lies down under a fir tree, evening"""
GRAPH = {
    "1": {"class_type": "HeadForcingLoadARModel", "inputs": {"model_name": f"{CHECKPOINT}.pt", "family": "auto"}},
    "2": {"class_type": "CLIPLoader", "inputs": {"clip_name": TEXT_ENCODER, "type": "wan"}},
    "3": {"class_type": "VAELoader", "inputs": {"vae_name": "wan_2.1_vae.safetensors"}},
    "4": {"class_type": "HeadForcingPromptSchedule", "inputs": {"clip": ["2", 0], "text": PROMPTS}},
    "5": {
        "class_type": "HeadForcingProfileHeads",
        "inputs": {"model": ["1", 0], "schedule": ["4", 0], "save_as": PROFILE},
    },
    "6": {"class_type": "HeadForcingLoadProfile", "inputs": {"profile_name": f"{PROFILE}.safetensors"}},
    "7": {"class_type": "HeadForcingCachePolicy", "inputs": {"preset": "recall"}},
    "8": {
        "class_type": "HeadForcingSampler",
        "inputs": {
            "model": ["1", 0],
            "schedule": ["4", 0],
            "seconds": 60.0,
            "seed": 7,
            "profile": ["5", 0],
            "policy": ["7", 0],
            "vae": ["3", 0],
            "run_name": "my-film",
            "cards": ["10", 0],
        },
    },
    "9": {"class_type": "HeadForcingDriftReport", "inputs": {"video": ["8", 1]}},
    "10": {"class_type": "HeadForcingCards", "inputs": {"cards": 2}},
}
# leaves one node in view, at the top left; its links stay, so that its sockets show which are used
SHOW = """async ({id, width, scale}) => {
  const app = window.app;
  const node = app.graph.nodes.find((each) => String(each.id) === id);
  for (const each of app.graph.nodes) each.pos = [each === node ? 0 : 9000, each === node ? 0 : 9000];
  node.setSize([width, node.computeSize()[1]]);
  app.canvas.deselectAll();
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [320, 120];
  app.canvas.setDirty(true, true);
}"""


def draw(page: ComfyPage, node_id: str, class_type: str) -> Path:
    """Write the picture of one node beside its help page."""
    page.tab.evaluate(SHOW, {"id": node_id, "width": WIDTHS.get(class_type, 340), "scale": SCALE})
    page.tab.mouse.move(VIEWPORT["width"] - 60, VIEWPORT["height"] - 60)  # over nothing
    page.settle()
    box = page.tab.locator(f'[data-node-id="{node_id}"]').bounding_box()
    assert box is not None, f"the page shows no {class_type}"
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    clip: FloatRect = {"x": x - BORDER, "y": y - BORDER, "width": width + 2 * BORDER, "height": height + 2 * BORDER}
    shot = Image.open(io.BytesIO(page.tab.screenshot(clip=clip))).convert("RGB")
    target = HELP / f"{class_type}_node.png"
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    return target


def main() -> None:
    """Draw every node of the pack."""
    installation = Installation.from_environment()
    with temporary_base_directory(installation.models) as folder:
        (folder / "models" / "text_encoders" / TEXT_ENCODER).touch()
        profile = folder / "models" / "head_profiles" / f"{PROFILE}.safetensors"
        profile.parent.mkdir(exist_ok=True)
        profile.touch()  # only its name is shown
        with installation.server(folder) as server, open_page(server.url, "vue", SETTINGS) as page:
            page.tab.set_viewport_size(VIEWPORT)
            page.tab.evaluate("(api) => window.app.loadApiJson(api, 'help')", cast(Json, GRAPH))
            page.settle()
            for node_id, node in GRAPH.items():
                if node["class_type"].startswith("HeadForcing"):
                    target = draw(page, node_id, node["class_type"])
                    print(f"drew {target.name}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
