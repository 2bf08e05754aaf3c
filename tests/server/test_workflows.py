"""Every shipped workflow runs over HTTP as it is queued from the page, and ends in a video that plays."""

import io
import json
import re
from dataclasses import dataclass
from fractions import Fraction

import av
import pytest

from devtools.client import Client, RunResult
from devtools.tiny_workflow import TINY_HEIGHT, TINY_WIDTH, Workflow, load, only_node, tiny
from tests.conftest import REPOSITORY
from tests.server.conftest import Refusal, files, shown, steps
from tests.server.graphs import node, sampling

WORKFLOWS = sorted((REPOSITORY / "workflows" / "api").glob("*.json"))
SAMPLER = "HeadForcingSampler"
SECONDS, SEED = 1.5, 20240229  # 24 pixel frames: 7 frames, in chunks of 3
CHUNKS, STEPS, FRAMES_A_CHUNK = 3, 4, 3


@dataclass(frozen=True)
class Finished:
    """A workflow and how its run ended."""

    workflow: Workflow
    result: RunResult

    def only(self, class_type: str) -> str:
        """The id of the only node of a type."""
        return only_node(self.workflow, class_type)

    def texts(self) -> list[str]:
        """What the sampler wrote on itself while it ran."""
        return [
            event.text("text")
            for event in self.result.events
            if event.kind == "progress_text" and event.text("node_id") == self.only(SAMPLER)
        ]

    def report(self) -> dict[str, object]:
        """The sampler's report, as PreviewAny shows it."""
        return json.loads(shown(self.result, self.only("PreviewAny")))


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda path: path.stem)
def finished(request: pytest.FixtureRequest, client: Client) -> Finished:
    workflow = tiny(load(request.param))
    workflow[only_node(workflow, SAMPLER)]["inputs"].update(seconds=SECONDS, seed=SEED)
    return Finished(workflow, client.run(workflow, preview_method="latent2rgb"))


def test_every_workflow_has_a_page_form_an_api_form_and_a_picture() -> None:
    folder = REPOSITORY / "workflows"
    forms = [
        {path.stem for path in found}
        for found in (folder.glob("*.json"), folder.glob("api/*.json"), folder.glob("*.jpg"))
    ]
    assert forms[0] and forms[0] == forms[1] == forms[2]


def test_it_runs_to_its_end_with_all_its_outputs(finished: Finished) -> None:
    assert (finished.result.status, finished.result.error) == ("success", "")
    assert finished.result.node_errors == {}


def test_its_video_file_plays(finished: Finished, client: Client) -> None:
    save = finished.only("SaveVideo")
    source = finished.workflow[finished.workflow[save]["inputs"]["video"][0]]["class_type"]
    whole_chunks = 4 * (CHUNKS * FRAMES_A_CHUNK - 1) + 1
    assert pictures_of(finished.result, save, client) == [(TINY_WIDTH, TINY_HEIGHT)] * (
        round(SECONDS * 16) if source == SAMPLER else whole_chunks
    )


def test_the_report_is_shown(finished: Finished) -> None:
    report = finished.report()
    assert report["format"] == "headforcing.report/1"
    assert [chunk["chunk"] for chunk in report["chunks"]] == list(range(CHUNKS))
    assert report["settings"]["seed"] == SEED and report["settings"]["pixel_frames"] == round(SECONDS * 16)


def test_progress_counts_up_to_the_last_step(finished: Finished) -> None:
    sampler = finished.only(SAMPLER)
    counted = steps(finished.result, sampler)
    assert counted == sorted(counted) and counted[-1] == CHUNKS * STEPS
    assert {
        event.data["max"]
        for event in finished.result.events
        if event.kind == "progress" and event.text("node") == sampler
    } == {CHUNKS * STEPS}


def test_the_sampler_says_which_chunk_it_is_on_and_what_it_remembers(finished: Finished) -> None:
    first, *others = finished.texts()
    assert first == f"chunk 1 of {CHUNKS}" and len(others) == CHUNKS - 1
    for number, text in enumerate(others, 2):
        assert re.fullmatch(rf"chunk {number} of {CHUNKS}, \d:\d\d left \| .+ \| 0 episodes, 0\.\d\d GB", text), text


def test_every_chunk_is_previewed(finished: Finished) -> None:
    previews = [preview for preview in finished.result.previews if preview.node_id == finished.only(SAMPLER)]
    assert len(previews) == CHUNKS and len({preview.image for preview in previews}) == CHUNKS
    assert all(preview.image.startswith(b"\xff\xd8") for preview in previews)


@pytest.mark.parametrize("seconds, fps, pictures", [(0.7, 16.0, 11), (0.5, 24.0, 12), (0.9, 12.5, 11)])
def test_the_video_output_has_exactly_the_pictures_that_were_asked_for(
    client: Client, seconds: float, fps: float, pictures: int
) -> None:
    workflow = saving(sampling(seconds=seconds, fps=fps, vae=["vae", 0]))
    result = client.run(workflow)
    assert result.status == "success", result.error
    assert pictures_of(result, "save", client, Fraction(fps)) == [(TINY_WIDTH, TINY_HEIGHT)] * pictures


def test_the_video_output_without_vae_is_refused_before_the_first_step(refusal: Refusal) -> None:
    assert refusal(saving(sampling()), "sampler") == (
        "vae is not connected, but the video output is used. Pictures cannot be made without it. Connect the Wan 2.1 "
        "VAE, or use the latent output with VAE Decode."
    )


def saving(workflow: Workflow) -> Workflow:
    """The workflow with the sampler's video saved, and a VAE to connect."""
    return {
        **workflow,
        "vae": node("VAELoader", vae_name="wan_2.1_vae.safetensors"),
        "save": node("SaveVideo", video=["sampler", 1], filename_prefix="video/test", format="auto", codec="auto"),
    }


def pictures_of(result: RunResult, node_id: str, client: Client, fps: Fraction = Fraction(16)) -> list[tuple[int, int]]:
    """Width and height of every picture in the one video that a node saved, which plays at so many a second."""
    (file,) = files(result, node_id, "images")
    with av.open(io.BytesIO(client.download(file))) as video:
        assert video.streams.video[0].average_rate == fps
        return [(picture.width, picture.height) for picture in video.decode(video=0)]


def test_the_video_of_a_run_that_is_already_there_can_still_be_taken(client: Client) -> None:
    """The host keeps the sampler's result; connecting the video output later must not find it empty."""
    workflow = sampling(seconds=1.0, seed=77)
    workflow["sampler"]["inputs"]["vae"] = ["vae", 0]
    workflow["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": "wan_2.1_vae.safetensors"}}
    first = client.run(workflow)
    workflow["movie"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": ["sampler", 1], "filename_prefix": "later", "format": "auto", "codec": "auto"},
    }
    second = client.run(workflow)
    assert (first.status, second.status) == ("success", "success"), second.error
    assert not steps(second, "sampler")
    assert len(pictures_of(second, "movie", client)) == 16
