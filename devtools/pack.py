"""The pack, or another folder of nodes, as a module of the host that is in this process."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path


def load_nodes(name: str, folder: Path) -> dict[str, type]:
    """Load a folder of nodes the way the host loads it, as the module `name`; its nodes by id."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)

    async def nodes() -> list[type]:
        return await (await module.comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(nodes())}
