"""Every family makes a video over HTTP, by the steps of its record."""

import json

import pytest

from devtools.server.tiny_workflow import Workflow
from headforcing_core.families.family import CONCAT, ROLLING
from headforcing_core.families.table import FAMILIES
from headforcing_core.farm.client import Client
from tests.server.conftest import shown, steps
from tests.server.graphs import node, sampling

FILES = {16: "causal_forcing_framewise.pt", 48: "longlive2_5b_bf16.pt", 36: "lingbot_world_v2_causal_fast.safetensors"}
VAES = {16: "wan_2.1_vae.safetensors", 48: "lighttaew2_2.safetensors"}
CHUNKS = 2


def making(name: str) -> Workflow:
    """Two chunks of a family at its smallest size, with the picture or the video that it needs."""
    family = FAMILIES[name]
    pictures = 4 * (CHUNKS * family.chunk_frames - 1) + 1
    inputs: dict[str, object] = {"vae": ["vae", 0], "seconds": pictures / family.fps, "fps": 0.0}
    if family.needs_video:
        inputs["video"] = ["pictures", 0]
    if family.image == CONCAT:
        inputs["start_image"] = ["pictures", 0]
    workflow = sampling(**inputs, width=64, height=64)
    workflow["model"] = node("HeadForcingLoadARModel", model_name=FILES[family.in_channels], family=name)
    workflow["vae"] = node("VAELoader", vae_name=VAES[family.space.channels])
    workflow["pictures"] = node("EmptyImage", width=64, height=64, batch_size=pictures, color=0x336699)
    return workflow


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_makes_a_video_by_its_own_steps(client: Client, name: str) -> None:
    family, result = FAMILIES[name], client.run(making(name))
    assert result.status == "success", result.error
    report = json.loads(shown(result, "report"))
    settings = report["settings"]
    assert (settings["family"], settings["chunks"], settings["fps"]) == (name, CHUNKS, family.fps)
    assert settings["chunk_frames"] == family.chunk_frames and settings["solver"] == family.solver
    first, other = (family.first_steps or family.steps).count, family.steps.count
    passes = CHUNKS + family.steps.count - 1 if family.solver == ROLLING else first + other
    assert max(steps(result, "sampler")) == passes
    said = [event.text("text") for event in result.events if event.kind == "progress_text"]
    assert ("encoding the picture and what comes after it" in said) == (family.image == CONCAT)
    assert ("reading the video" in said) == family.needs_video
    (loading,) = (place for place, text in enumerate(said) if text.endswith(" Loading the model."))
    assert not any(text.startswith("chunk ") for text in said[:loading])
