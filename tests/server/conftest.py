"""A client of the running host, and what a finished run left behind."""

import json
import urllib.error
from collections.abc import Callable

import pytest
import safetensors.torch
from torch import Tensor

from devtools.server.tiny_workflow import Workflow
from headforcing_core.farm.client import Client, OutputFile, PromptRejected, RunResult
from headforcing_core.farm.events import Event, Preview
from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server
from tests.server.graphs import node

SavedLatent = Callable[..., Tensor]
Refusal = Callable[[Workflow, str], str]
Rejection = Callable[[Workflow, str], dict[str, str]]


@pytest.fixture(scope="session")
def client(comfyui: Server) -> Client:
    return Client(comfyui.url)


@pytest.fixture(scope="session")
def saved_latent(client: Client) -> SavedLatent:
    """Run a workflow with a stock SaveLatent behind this node's first output; what the file holds."""

    def run(workflow: Workflow, node_id: str = "sampler") -> Tensor:
        save = node("SaveLatent", samples=[node_id, 0], filename_prefix="latents/test")
        result = client.run({**workflow, "save latent": save})
        assert result.status == "success", result.error
        (file,) = files(result, "save latent", "latents")
        return safetensors.torch.load(client.download(file))["latent_tensor"]

    return run


@pytest.fixture(scope="session")
def refusal(client: Client) -> Refusal:
    """Run a workflow that fails in this node, before its first step; the message that the artist reads."""

    def run(workflow: Workflow, node_id: str) -> str:
        result = client.run(workflow, _stop_at_first_step(client, node_id))
        assert (result.status, result.node_id, result.node_type) == (
            "error",
            node_id,
            workflow[node_id]["class_type"],
        ), result.error
        assert steps(result, node_id) == []
        return result.error.removesuffix("\n")

    return run


@pytest.fixture(scope="session")
def rejection(client: Client) -> Rejection:
    """Queue a workflow that the host answers with HTTP 400 because of this node; the messages by input name."""

    def queue(workflow: Workflow, node_id: str) -> dict[str, str]:
        with pytest.raises(PromptRejected) as rejected:
            client.run(workflow, _stop_at_first_step(client, node_id))
        found = rejected.value.node_errors
        assert list(found) == [node_id] and found[node_id]["class_type"] == workflow[node_id]["class_type"]
        return {error["extra_info"]["input_name"]: _message(error) for error in found[node_id]["errors"]}

    return queue


@pytest.fixture
def send(comfyui: Server) -> Callable[..., tuple[int, dict]]:
    """Send a live prompt; HTTP status and answer."""

    def ask(**fields: object) -> tuple[int, dict]:
        body = {"node_id": "sampler", "text": "the fox finds a frozen river", "transition": "recache", **fields}
        try:
            return 200, json.loads(request(f"{comfyui.url}/head_forcing/live_prompt", body))
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    return ask


def files(result: RunResult, node_id: str, kind: str) -> list[OutputFile]:
    """The files that a node saved, under the name that the host gives to their kind."""
    return result.outputs[node_id][kind]


def shown(result: RunResult, node_id: str = "report") -> str:
    """The text that a PreviewAny shows."""
    return result.outputs[node_id]["text"][0]


def steps(result: RunResult, node_id: str) -> list[int]:
    """How far a node said it was, each time it said so."""
    return [
        int(event.text("value"))
        for event in result.events
        if event.kind == "progress" and event.text("node") == node_id
    ]


def _message(error: dict[str, object]) -> str:
    """The node's own sentence if it has one, else the host's headline."""
    headline, details = str(error["message"]), str(error["details"])
    own = details.removeprefix(f"{error['extra_info']['input_name']} - ")
    return headline if own == details else own


def _stop_at_first_step(client: Client, node_id: str) -> Callable[[Event | Preview], None]:
    """What should have been refused must not keep the host busy for hours."""

    def on_event(event: Event | Preview) -> None:
        if isinstance(event, Event) and event.kind == "progress" and event.text("node") == node_id:
            client.interrupt(event.text("prompt_id"))

    return on_event
