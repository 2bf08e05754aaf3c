"""Scenes that a loop makes one after the other: each goes on from the one before, is kept by its number and told as the
node in the page."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from devtools.server.tiny_workflow import Workflow
from headforcing_core.farm.client import Client
from headforcing_core.farm.events import Event, Preview
from headforcing_core.farm.process import Server
from tests.server.conftest import shown
from tests.server.graphs import node, sampling
from tests.server.test_live_prompts import RIVER, SendAfter

SCENES = ("a red fox in deep snow", "a city at night")
FRAMES = 9  # 2 s, three chunks


@pytest.fixture
def runs(comfyui: Server) -> Path:
    return comfyui.folder / "output" / "head_forcing"


def looped(again: int) -> Workflow:
    """Two scenes by one seed, each kept under its number, and each with its own prompt."""
    workflow = sampling(seconds=2.0, noise="whole_video", run_name="loop-%n%")
    loop = {"body": "sampler", "times": len(SCENES), "seed": 41, "seed_step": 0, "prompts": "\n".join(SCENES)}
    workflow["loop"] = node("HeadForcingTestLoop", **loop, again=again)
    workflow["report"] = node("PreviewAny", source=["loop", 0])
    workflow["first report"] = node("PreviewAny", source=["loop", 1])
    return workflow


def test_two_scenes_of_a_loop(client: Client, send, runs: Path) -> None:
    """Of one seed and other noise, with a prompt typed in the second; the next run takes both from where they are."""
    typed = SendAfter(send, 2)
    seen: list[str] = []

    def on_event(event: Event | Preview) -> None:
        if isinstance(event, Event) and event.kind == "progress" and event.text("node").endswith("_sampler"):
            seen.append(event.text("node"))
            if seen[-1] != seen[0]:
                typed(event)

    made = client.run(looped(1), on_event)
    assert made.status == "success", made.error
    assert [each.rpartition(".")[2] for each in dict.fromkeys(seen)] == ["0_sampler", "1_sampler"]
    assert typed.answer[0] == 200, typed.answer
    first, second = (json.loads(shown(made, each)) for each in ("first report", "report"))
    assert [each["settings"]["prefix_frames"] for each in (first, second)] == [0, FRAMES]
    assert [each["settings"]["seed"] for each in (first, second)] == [41, 41]
    prompts = [[(scene["prompt"], scene["live"]) for scene in each["segments"]] for each in (first, second)]
    assert prompts == [[(SCENES[0], False)], [(SCENES[1], False), (RIVER, True)]]
    noise = [json.loads((runs / f"loop-{number}/run.json").read_text())["settings"]["noise"] for number in (1, 2)]
    assert noise == ["per_chunk", "whole_video"]  # which is the same where nothing comes before
    for kind in ("progress_text", "head_forcing.scenes"):
        assert {event.text("node_id") for event in made.events if event.kind == kind} <= {"sampler", "schedule"}, kind
    assert {preview.node_id for preview in made.previews} == {"sampler"}

    again = client.run(looped(2))
    assert again.status == "success", again.error
    assert not [event for event in again.events if event.kind == "head_forcing.scenes"]  # nothing was made
    assert [json.loads(shown(again, each)) for each in ("first report", "report")] == [first, second]


@pytest.mark.full_product
def test_ten_scenes_of_a_loop_are_one_run(client: Client, runs: Path) -> None:
    """Of whole chunks, by one seed: a chunk of the loop is the chunk of the run, bit for bit."""
    chunks, prompts = 3, [f"{text} {number}" for number in range(5) for text in SCENES]
    loop = {"body": "sampler", "times": 10, "seed": 41, "seed_step": 0, "prompts": "\n".join(prompts)}
    of_loop = sampling(seconds=2.0, noise="whole_video", run_name="ten-%n%")
    of_loop |= {"loop": node("HeadForcingTestLoop", **loop), "report": node("PreviewAny", source=["loop", 0])}
    starts = [max(0, 12 * chunks * number - 3) / 16 for number in range(10)]
    text = "\n".join(f"[{start}s] {prompt}" for start, prompt in zip(starts, prompts, strict=True))
    of_run = sampling(text, seconds=(120 * chunks - 3) / 16, seed=41, noise="whole_video", run_name="ten")
    for workflow in (of_loop, of_run):
        made = client.run(workflow)
        assert made.status == "success", made.error
    by_loop = [load_file(path) for number in range(1, 11) for path in sorted((runs / f"ten-{number}").glob("chunk_*"))]
    by_run = [load_file(path) for path in sorted((runs / "ten").glob("chunk_*"))]
    assert len(by_loop) == len(by_run) == 10 * chunks
    assert all(torch.equal(one["latent"], other["latent"]) for one, other in zip(by_loop, by_run, strict=True))


def test_scenes_that_stand_in_the_graph_are_counted(client: Client, runs: Path) -> None:
    workflow = sampling(run_name="row-%n%")
    workflow["next"] = node("HeadForcingSampler", **{**workflow["sampler"]["inputs"], "previous": ["sampler", 0]})
    workflow["report"] = node("PreviewAny", source=["next", 3])
    result = client.run(workflow)
    assert result.status == "success", result.error
    assert sorted(path.name for path in runs.glob("row-*") if path.is_dir()) == ["row-1", "row-2"]
