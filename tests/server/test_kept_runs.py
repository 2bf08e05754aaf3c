"""Runs with a name, over the server: interrupted, gone on with, refused when something else was asked for."""

import json
from pathlib import Path

import av
import pytest
import torch

from devtools.server.tiny_workflow import Workflow
from headforcing_core.farm.client import Client
from headforcing_core.farm.process import Server
from tests.server.conftest import Refusal, SavedLatent, files, shown, steps
from tests.server.graphs import node, sampling
from tests.server.test_interrupt import InterruptAfter

SECONDS, CHUNKS = 2.7, 4


def keeping(**inputs: object) -> Workflow:
    workflow = sampling(**{"seconds": SECONDS, "run_name": "stopped", "vae": ["vae", 0], **inputs})
    return {**workflow, "vae": node("VAELoader", vae_name="wan_2.1_vae.safetensors")}


@pytest.fixture
def runs(comfyui: Server) -> Path:
    return comfyui.folder / "output" / "head_forcing"


def test_an_interrupted_run_goes_on_where_it_stopped(client: Client, runs: Path, saved_latent: SavedLatent) -> None:
    whole = saved_latent(keeping(run_name="", seed=5))
    result = client.run(keeping(seed=5), InterruptAfter(client, "sampler", 10))
    assert result.status == "interrupted"
    kept = len((runs / "stopped/journal.jsonl").read_text().splitlines())
    assert 2 <= kept < CHUNKS
    with av.open(str(runs / "stopped/video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12 * kept - 3
    again = client.run(keeping(seed=5))
    assert again.status == "success", again.error
    told = [event.text("text") for event in again.events if event.kind == "progress_text"] or [""]
    assert steps(again, "sampler")[0] == 4, told  # a chunk rebuilt counts for its four steps
    assert any(line.startswith(f"{CHUNKS - kept} chunks made in ") for line in told)
    assert torch.equal(saved_latent(keeping(seed=5, fps=16.0)), whole)
    report = json.loads(shown(again))
    assert [chunk["seconds"] == 0 for chunk in report["chunks"]] == [number < kept for number in range(CHUNKS)]


def test_a_run_of_other_settings_is_refused_and_left_alone(client: Client, runs: Path, refusal: Refusal) -> None:
    assert client.run(keeping(run_name="other", seconds=0.5)).status == "success"
    before = {path.name: path.read_bytes() for path in (runs / "other").iterdir()}
    for change, sentence in (
        ({"seed": 2, "seconds": 0.5}, "has seed 1, now it would be 2"),
        ({"width": 144}, "was made with width 64, now width is 144"),
    ):
        message = refusal(keeping(run_name="other", **change), "sampler")
        assert sentence in message and "on_existing_run" in message and message.endswith(".")
    assert before == {path.name: path.read_bytes() for path in (runs / "other").iterdir()}


def test_a_run_goes_on_with_the_lora_that_it_was_made_with(client: Client, refusal: Refusal) -> None:
    def with_lora(seconds: float, strength: float) -> Workflow:
        workflow = keeping(run_name="styled", seconds=seconds, model=["lora", 0])
        lora = {"lora_name": "tiny_lora.safetensors", "strength_model": strength}
        return {**workflow, "lora": node("LoraLoaderModelOnly", model=["model", 0], **lora)}

    assert client.run(with_lora(0.5, 0.5)).status == "success"
    assert client.run(with_lora(1.2, 0.5)).status == "success"
    for change in (with_lora(1.5, 0.6), keeping(run_name="styled", seconds=1.5)):
        message = refusal(change, "sampler")
        assert "The run 'styled' was made with weight_patches (LoRA) '" in message
        assert "Connect the LoRA loaders of that run at their strengths to go on" in message


def test_a_run_of_another_checkpoint_is_refused_by_the_checkpoint_and_not_by_its_heads(
    client: Client, refusal: Refusal
) -> None:
    workflow = keeping(run_name="sorted", seconds=0.5)
    workflow["policy"] = node("HeadForcingCachePolicy", preset="paper")
    assert client.run(workflow).status == "success"
    workflow["model"] = node("HeadForcingLoadARModel", model_name="causal_forcing_chunkwise.pt")
    message = refusal(workflow, "sampler")
    assert "The run 'sorted' was made with fingerprint (the checkpoint) 'weights:" in message
    assert "Load the checkpoint of that run to go on" in message


def test_a_damaged_chunk_is_told_and_made_again(client: Client, runs: Path, saved_latent: SavedLatent) -> None:
    whole = saved_latent(keeping(run_name="damaged"))
    (runs / "damaged/chunk_00001.safetensors").write_bytes(b"")
    result = client.run(keeping(run_name="damaged", fps=15.0))
    assert any("chunk_00001.safetensors is damaged" in note for note in json.loads(shown(result))["notes"])
    assert torch.equal(saved_latent(keeping(run_name="damaged", fps=15.0)), whole)


def test_the_video_of_a_kept_run_goes_to_the_stock_nodes(client: Client, runs: Path) -> None:
    workflow = keeping(run_name="shown")
    workflow["save"] = node("SaveVideo", video=["sampler", 1], filename_prefix="films/fox", format="auto", codec="auto")
    workflow["parts"] = node("GetVideoComponents", video=["sampler", 1])
    workflow["pictures"] = node("PreviewImage", images=["parts", 0])
    result = client.run(workflow)
    assert result.status == "success", result.error
    assert len(files(result, "pictures", "images")) == 43
    with av.open(str(runs / "shown/video.mp4")) as video:
        assert video.metadata["prompt"] and json.loads(video.metadata["prompt"])["sampler"]
        assert video.duration == pytest.approx(43 / 16 * 1e6, rel=0.02)
