"""The film strip over the server: an event a chunk while a run goes on, and the route for whoever asks later."""

import json
import urllib.error

import pytest

from headforcing_core.farm.client import Client
from headforcing_core.farm.events import Event, Preview
from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server
from tests.server.graphs import node, sampling

QUESTION = {"node_id": "sampler", "run_name": "", "first": 0, "count": 200}
CHUNKS = 3


def ask(server: Server, **changes: object) -> dict:
    """What the strip route answers."""
    return json.loads(request(f"{server.url}/head_forcing/strip", {**QUESTION, **changes}))


def test_chunks_are_told_in_order_and_answered_later(client: Client, comfyui: Server) -> None:
    workflow = sampling("[0s] a red fox\n[1s cut] a river", seconds=2.0, seed=41, vae=["vae", 0])
    workflow["vae"] = node("VAELoader", vae_name="wan_2.1_vae.safetensors")
    workflow["save"] = node(
        "SaveVideo", video=["sampler", 1], filename_prefix="video/strip", format="auto", codec="auto"
    )
    meanwhile: list[dict] = []

    def on_event(event: Event | Preview) -> None:
        if isinstance(event, Event) and event.kind == "head_forcing.chunk":
            meanwhile.append(ask(comfyui))

    result = client.run(workflow, on_event)
    assert result.status == "success", result.error
    told = [event.data for event in result.events if event.kind == "head_forcing.chunk"]
    answer = ask(comfyui)
    assert [each["entry"] for each in told] == [*answer["entries"], answer["entries"][-1]]
    assert [(each["made"], each["chunks"], each["fps"]) for each in told] == [
        (made, CHUNKS, 16) for made in (1, 2, 3, 3)
    ]
    ids = {(each["run"], each["node_id"], each["prompt_id"]) for each in told}
    assert ids == {(answer["run"], "sampler", result.prompt_id)}
    assert [(scene["chunk"], scene["prompt"], scene["transition"]) for scene in answer["scenes"]] == [
        (0, "a red fox", None),
        (2, "a river", "cut"),
    ]
    assert meanwhile[0]["made"] >= 1 and meanwhile[0]["run"] == answer["run"]
    video = told[-1]["video"]
    assert video == answer["video"] and (video["type"], video["subfolder"], video["pictures"]) == ("temp", "", 32)
    place = "&".join(f"{name}={video[name]}" for name in ("filename", "subfolder", "type"))
    assert request(f"{comfyui.url}/view?{place}")[4:8] == b"ftyp"
    assert ask(comfyui, first=1, count=1)["entries"] == answer["entries"][1:2]
    nothing = {"run": None, "chunks": 0, "made": 0, "fps": 0, "scenes": [], "video": None, "entries": []}
    assert ask(comfyui, node_id="nobody") == nothing


@pytest.mark.parametrize(
    "changes",
    [
        {"run_name": 5},
        {"node_id": 5},
        {"first": -1},
        {"count": 0},
        {"count": 201},
        {"first": True},
        {"path": "/etc/passwd"},
    ],
)
def test_a_question_beyond_bounds_is_turned_away(comfyui: Server, changes: dict[str, object]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        ask(comfyui, **changes)
    assert refusal.value.code == 400
    assert json.loads(refusal.value.read())["error"].startswith("/head_forcing/strip cannot answer: ")
