"""An interrupt ends a run within a step, and leaves the host as if the run had never been."""

import pytest
import torch

from devtools.server.tiny_workflow import Workflow
from headforcing_core.farm.client import Client
from headforcing_core.farm.events import Event, Preview
from headforcing_core.farm.process import Server
from tests.server.conftest import SavedLatent, steps
from tests.server.graphs import SIZE, node, sampling

LONG = 59.8  # seconds: 240 frames, 80 chunks of 4 steps


class InterruptAfter:
    """Interrupts a run, from outside as the page does, once a node says that it has done so many steps."""

    def __init__(self, client: Client, node_id: str, step: int) -> None:
        self.sent_at = 0
        self._client, self._node_id, self._step = client, node_id, step

    def __call__(self, event: Event | Preview) -> None:
        """Hear one event of the run."""
        if not isinstance(event, Event) or event.kind != "progress" or event.text("node") != self._node_id:
            return
        if not self.sent_at and event.data["value"] >= self._step:
            self.sent_at = int(event.text("value"))
            self._client.interrupt(event.text("prompt_id"))


@pytest.mark.parametrize("step", [1, 4, 30])  # in the first chunk, at its end, and where frames are dropped
def test_a_run_ends_within_a_step_of_its_interrupt(client: Client, step: int) -> None:
    workflow = sampling(seconds=LONG, seed=step)
    interrupt = InterruptAfter(client, "sampler", step)
    result = client.run(workflow, interrupt)
    assert (result.status, result.node_id, result.node_type) == ("interrupted", "sampler", "HeadForcingSampler")
    # one step may be under way and its news sent before the interrupt arrives
    assert step <= interrupt.sent_at and steps(result, "sampler")[-1] <= interrupt.sent_at + 2


def test_the_next_run_is_bit_identical_to_one_before_the_interrupt(client: Client, saved_latent: SavedLatent) -> None:
    before = saved_latent(typed(sampling(seconds=1.5)))
    interrupted = client.run(typed(sampling(seconds=LONG)), InterruptAfter(client, "sampler", 9))
    # the default said aloud: the same work, under another key in the host's cache of results
    after = saved_latent(typed(sampling(seconds=1.5, fps=16.0)))
    assert interrupted.status == "interrupted"
    assert before.shape[2] == 9 and torch.equal(before, after)


def test_an_interrupted_measurement_saves_no_profile(client: Client, comfyui: Server) -> None:
    workflow = sampling(profile=["profile", 0])
    workflow["profile"] = node(
        "HeadForcingProfileHeads",
        model=["model", 0],
        schedule=["schedule", 0],
        save_as="interrupted",
        reuse_saved=False,
        **SIZE,
    )
    result = client.run(workflow, InterruptAfter(client, "profile", 3))
    assert (result.status, result.node_type) == ("interrupted", "HeadForcingProfileHeads")
    assert not list(comfyui.folder.rglob("interrupted*"))


def typed(workflow: Workflow) -> Workflow:
    """The workflow with heads of all three types, so that memory is grouped and episodes are kept."""
    workflow["sampler"]["inputs"]["profile"] = ["profile", 0]
    workflow["policy"]["inputs"]["preset"] = "low_vram"
    return {**workflow, "profile": node("HeadForcingProfileHeads", model=["model", 0], rule="random", **SIZE)}
