"""What a worker of the farm asks its ComfyUI, before it makes anything."""

import pytest

from headforcing_core.farm.client import Client
from headforcing_core.farm.process import Server
from headforcing_core.farm.same_files import found_by

MODEL = "self_forcing_dmd.safetensors"


def test_it_finds_the_files_and_nodes_that_a_workflow_names(comfyui: Server) -> None:
    found = found_by(comfyui.url, [MODEL, "a red fox in deep snow"], ["HeadForcingSampler"])
    assert {f"diffusion_models/{MODEL}", "node HeadForcingSampler"} <= set(found)
    assert not any("fox" in name for name in found)


@pytest.mark.parametrize(
    "name", ["Seed (rgthree)", "Any Switch (rgthree)", "a/b", "what?", "100%", "\u30ce\u30fc\u30c9"]
)
def test_a_node_may_have_any_name(comfyui: Server, name: str) -> None:
    assert found_by(comfyui.url, [], [name, "KSampler"]) == {"node KSampler": "known"}
    assert Client(comfyui.url).object_info(name) == {}
