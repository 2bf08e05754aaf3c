"""Workflows as they were shipped with every release are still accepted when they are queued."""

import json
import time

import pytest

from devtools.server.tiny_workflow import Workflow, load, tiny
from headforcing_core.farm.client import Client
from headforcing_core.farm.loopback import request
from tests.conftest import REPOSITORY

RECORDED = REPOSITORY / "tests" / "old_workflows"
OLD = sorted(RECORDED.glob("*/api/*.json"))


def test_every_release_is_recorded_in_all_its_forms() -> None:
    versions = [path for path in RECORDED.iterdir() if (path / "api").is_dir()]
    assert versions
    for version in versions:
        api, page = ({path.stem for path in version.glob(f"{kind}/*.json")} for kind in ("api", "page"))
        assert api and api == page and list(version.glob("blueprints/*.json"))


@pytest.mark.parametrize("path", OLD, ids=lambda path: f"{path.parents[1].name} {path.stem}")
def test_an_old_workflow_is_accepted(client: Client, path) -> None:
    workflow = apart(tiny(load(path)), path.parents[1].name)
    stop(client, client.submit(workflow))  # PromptRejected for an HTTP 400


def apart(workflow: Workflow, version: str) -> Workflow:
    """The workflow with runs of its own: it is stopped, and other tests make whole ones of the same name."""
    for given in workflow.values():
        if given["inputs"].get("run_name"):
            given["inputs"]["run_name"] = f"{given['inputs']['run_name']} of {version}"
    return workflow


def stop(client: Client, prompt_id: str) -> None:
    """Take a prompt out of the queue, or end it if it has begun."""
    request(f"{client.url}/queue", {"delete": [prompt_id]})
    end = time.monotonic() + 60
    while any(prompt_id == entry[1] for entry in json.loads(request(f"{client.url}/queue"))["queue_running"]):
        assert time.monotonic() < end, "it does not stop"
        client.interrupt(prompt_id)
        time.sleep(0.1)
