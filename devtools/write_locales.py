"""Write locales/en: every text of the nodes that the page can show in another language, taken from their schemas.

Run it after a change of a node's texts: python dev.py run -- python -m devtools.write_locales
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .pack import load_nodes
from .paths import REPOSITORY

if TYPE_CHECKING:
    from comfy_api.latest import io

Texts: TypeAlias = "dict[str, str | Texts]"

ENGLISH = REPOSITORY / "locales" / "en"


def texts_of_nodes(nodes: Mapping[str, type[io.ComfyNode]]) -> Texts:
    """What nodeDefs.json holds: names and tooltips by node, input and number of output."""
    return {node_id: _texts_of(nodes[node_id].GET_SCHEMA()) for node_id in sorted(nodes)}


def texts_of_categories(nodes: Mapping[str, type[io.ComfyNode]]) -> Texts:
    """What main.json holds: the folders in which the page lists the nodes."""
    parts = {part for node in nodes.values() for part in node.GET_SCHEMA().category.split("/")}
    return {"nodeCategories": {part: part for part in sorted(parts)}}


def as_json(texts: Texts) -> str:
    """The text of a file."""
    return json.dumps(texts, indent=2) + "\n"


def main() -> None:
    """Load the pack as the host does, and write both files."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    nodes = load_nodes("comfyui_head_forcing", REPOSITORY)
    ENGLISH.mkdir(parents=True, exist_ok=True)
    _write(ENGLISH / "nodeDefs.json", texts_of_nodes(nodes))
    _write(ENGLISH / "main.json", texts_of_categories(nodes))


def _texts_of(schema: io.Schema) -> Texts:
    inputs: Texts = {given.id: _named(given.display_name or given.id, given.tooltip) for given in schema.inputs}
    outputs: Texts = {
        str(number): _named(given.display_name or "", given.tooltip) for number, given in enumerate(schema.outputs)
    }
    return {
        "display_name": schema.display_name or "",
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def _named(name: str, tooltip: str | None) -> Texts:
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def _write(path: Path, texts: Texts) -> None:
    path.write_text(as_json(texts), encoding="ascii", newline="\n")


if __name__ == "__main__":
    main()
