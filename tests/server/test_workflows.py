"""Every shipped workflow runs over HTTP as it is queued from the page, and ends in a video that plays."""

import io
import json
import math
import re
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import pytest

from devtools.server.tiny_workflow import TINY_HEIGHT, TINY_WIDTH, Workflow, load, tiny
from headforcing_core.farm.client import Client, RunResult
from headforcing_core.farm.process import Server
from tests.conftest import REPOSITORY
from tests.server.conftest import Refusal, files, shown, steps
from tests.server.graphs import node, sampling

WORKFLOWS = sorted((REPOSITORY / "workflows" / "api").glob("*.json"))
SAMPLER, VIDEO = "HeadForcingSampler", 1
SECONDS, SEED = 1.5, 20240229
CONTINUED_PICTURES = 81


@dataclass(frozen=True)
class Way:
    """How the model of a workflow makes a video: frames a chunk, pictures a second, steps, those of the first chunk,
    and whether a start image is committed before that."""

    chunk_frames: int = 3
    fps: int = 16
    steps: int = 4
    first_steps: int = 4
    commits_image: bool = True

    @property
    def pictures(self) -> int:
        """Pictures of what is made."""
        return round(SECONDS * self.fps)


WAYS = {
    "few_steps": Way(chunk_frames=1, steps=2),
    "shots": Way(chunk_frames=8, fps=24),
    "picture_to_world": Way(chunk_frames=4, commits_image=False),
    "restyle_video": Way(steps=2, first_steps=2),
}


@dataclass(frozen=True)
class Finished:
    """A workflow and how its run ended; behind every sampler its report is shown as `report of ID`."""

    workflow: Workflow
    way: Way
    result: RunResult

    def all(self, class_type: str) -> list[str]:
        """The ids of the nodes of a type."""
        return [node_id for node_id, node in self.workflow.items() if node["class_type"] == class_type]

    def chunks(self, sampler: str) -> int:
        """How many chunks a sampler makes: the first picture is a frame by itself, unless frames are there before."""
        given = self.workflow[sampler]["inputs"].keys()
        is_begun = "previous" in given or ("start_image" in given and self.way.commits_image)
        frames = math.ceil((self.way.pictures - 1) / 4) + (not is_begun)
        return math.ceil(frames / self.way.chunk_frames)

    def before(self, sampler: str) -> int:
        """Pictures of what a sampler goes on from: a video that is read in, or what another sampler made."""
        source, _ = self.workflow[sampler]["inputs"].get("previous", (None, 0))
        if source is None:
            return 0
        is_made = self.workflow[source]["class_type"] == SAMPLER
        return 4 * self.chunks(source) * self.way.chunk_frames - 3 if is_made else CONTINUED_PICTURES

    def texts(self, sampler: str) -> list[str]:
        """What a sampler wrote on itself while it made chunks."""
        events = [event for event in self.result.events if event.kind == "progress_text"]
        own = [event.text("text") for event in events if event.text("node_id") == sampler]
        return [text for text in own if text.startswith("chunk")]

    def report(self, sampler: str) -> dict[str, object]:
        """A sampler's report."""
        return json.loads(shown(self.result, f"report of {sampler}"))


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda path: path.stem)
def finished(request: pytest.FixtureRequest, client: Client) -> Finished:
    workflow = tiny(load(request.param))
    samplers = [node_id for node_id, given in workflow.items() if given["class_type"] == SAMPLER]
    for sampler in samplers:
        workflow[sampler]["inputs"].update(seconds=SECONDS, seed=SEED)
        workflow[f"report of {sampler}"] = node("PreviewAny", source=[sampler, 3])
    return Finished(workflow, WAYS.get(request.param.stem, Way()), client.run(workflow, preview_method="latent2rgb"))


def test_every_workflow_has_a_page_form_an_api_form_a_note_and_a_picture() -> None:
    folder = REPOSITORY / "workflows"
    patterns = ("*.json", "api/*.json", "notes/*.md", "*.jpg")
    first, *others = [{path.stem for path in folder.glob(pattern)} for pattern in patterns]
    assert first and all(form == first for form in others)


def test_it_runs_to_its_end_with_all_its_outputs(finished: Finished) -> None:
    assert (finished.result.status, finished.result.error) == ("success", "")
    assert finished.result.node_errors == {}
    for class_type in ("SaveVideo", "PreviewImage", "PreviewAny"):
        assert set(finished.all(class_type)) <= finished.result.outputs.keys()


def test_its_video_files_play(finished: Finished, client: Client) -> None:
    saves = finished.all("SaveVideo")
    assert len(saves) >= len(finished.all(SAMPLER))
    for save in saves:
        source, output = finished.workflow[save]["inputs"]["video"]
        assert finished.workflow[source]["class_type"] in (SAMPLER, "Video Slice")
        pictures = finished.way.pictures
        if output == VIDEO and finished.workflow[source]["class_type"] == SAMPLER:
            pictures += finished.before(source)
        rate = Fraction(finished.way.fps)
        assert pictures_of(finished.result, save, client, rate) == [(TINY_WIDTH, TINY_HEIGHT)] * pictures


def test_every_sampler_reports(finished: Finished) -> None:
    for sampler in finished.all(SAMPLER):
        report = finished.report(sampler)
        assert report["format"] == "headforcing.report/1"
        assert [chunk["chunk"] for chunk in report["chunks"]] == list(range(finished.chunks(sampler)))
        assert report["settings"]["pixel_frames"] == finished.way.pictures + finished.before(sampler)
        assert report["settings"]["seed"] == SEED


def test_progress_counts_up_to_the_last_step(finished: Finished) -> None:
    """Of the run itself: a sampler that finds no saved profile measures one first, and counts that before."""
    for sampler in finished.all(SAMPLER):
        last = finished.way.first_steps + (finished.chunks(sampler) - 1) * finished.way.steps
        own = [event for event in finished.result.events if event.kind == "progress" and event.text("node") == sampler]
        counted = [int(event.text("value")) for event in own if event.data["max"] == last]
        assert counted == sorted(counted) and counted[-1] == last and own[-1].data["max"] == last


def test_the_sampler_says_which_chunk_it_is_on_and_what_it_remembers(finished: Finished) -> None:
    for sampler in finished.all(SAMPLER):
        chunks = finished.chunks(sampler)
        first, *others = finished.texts(sampler)
        assert first.startswith(f"chunk 1 of {chunks} | ") and len(others) == chunks - 1
        for number, text in enumerate(others, 2):
            # whole chunks in room for 6, 8 or 9 frames, or single frames in room for 3
            line = rf"chunk {number} of {chunks}, \d:\d\d left \| .+ \| [0-6] episodes(?: from [\d:, ]+)?, 0\.\d\d GB"
            assert re.fullmatch(line, text), text


def test_every_chunk_is_previewed(finished: Finished) -> None:
    for sampler in finished.all(SAMPLER):
        previews = [preview for preview in finished.result.previews if preview.node_id == sampler]
        assert len({preview.image for preview in previews}) >= finished.chunks(sampler)
        assert all(preview.image.startswith(b"\xff\xd8") for preview in previews)


@pytest.mark.parametrize("finished", [REPOSITORY / "workflows" / "api" / "continue_video.json"], indirect=True)
def test_the_new_part_begins_right_behind_what_was_read_in(finished: Finished, client: Client) -> None:
    inputs = {save: finished.workflow[save]["inputs"] for save in finished.all("SaveVideo")}
    (new,) = (save for save in inputs if "new" in inputs[save]["filename_prefix"])
    (both,) = (save for save in inputs if "join" in inputs[save]["filename_prefix"])
    first, *_ = decoded(finished.result, new, client)
    differences = [np.abs(first - picture).mean() for picture in decoded(finished.result, both, client)]
    assert int(np.argmin(differences)) == CONTINUED_PICTURES


def test_a_video_file_is_restyled_to_its_own_length(client: Client, comfyui: Server) -> None:
    """20 pictures at 25 a second are 13 at the run's 16, and 4 frames."""
    film = comfyui.folder / "input" / "film.mp4"
    with av.open(str(film), "w") as written:
        stream = written.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 100, 70, "yuv420p"
        for light in range(20):
            written.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((70, 100, 3), 12 * light, np.uint8))))
        written.mux(stream.encode())
    workflow = saving(sampling(seconds=60.0, vae=["vae", 0], video=["film", 0], strength=0.5))
    result = client.run({**workflow, "film": node("LoadVideo", file=film.name)})
    assert result.status == "success", result.error
    assert pictures_of(result, "save", client) == [(TINY_WIDTH, TINY_HEIGHT)] * 13
    report = json.loads(shown(result))
    assert report["settings"]["chunks"] == 2 and report["settings"]["sigmas"] == [0.5, 0.0]
    assert any("has 0.81 s at 16 pictures a second, less than seconds asks for" in each for each in report["notes"])


@pytest.mark.parametrize("seconds, fps, pictures", [(0.7, 16.0, 11), (0.5, 24.0, 12), (0.9, 12.5, 11)])
def test_the_video_output_has_exactly_the_pictures_that_were_asked_for(
    client: Client, seconds: float, fps: float, pictures: int
) -> None:
    workflow = saving(sampling(seconds=seconds, fps=fps, vae=["vae", 0]))
    result = client.run(workflow)
    assert result.status == "success", result.error
    assert pictures_of(result, "save", client, Fraction(fps)) == [(TINY_WIDTH, TINY_HEIGHT)] * pictures


def test_a_video_is_as_long_as_the_sound_that_comes_with_it(client: Client) -> None:
    workflow = saving(sampling(seconds=0.0, vae=["vae", 0], audio=["sound", 0]))
    workflow["sound"] = node("EmptyAudio", duration=0.7, sample_rate=44100, channels=2)
    result = client.run(workflow)
    assert result.status == "success", result.error
    assert pictures_of(result, "save", client) == [(TINY_WIDTH, TINY_HEIGHT)] * 11
    (file,) = files(result, "save", "images")
    with av.open(io.BytesIO(client.download(file))) as video:
        (sound,) = video.streams.audio
        assert (sound.codec.name, sound.rate, sound.layout.name) == ("aac", 44100, "stereo")
        assert sum(frame.samples for frame in video.decode(sound)) / 44100 == pytest.approx(11 / 16, abs=2048 / 44100)


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


def decoded(result: RunResult, node_id: str, client: Client) -> list[np.ndarray]:
    """The pictures of the one video that a node saved, (height, width, 3)."""
    (file,) = files(result, node_id, "images")
    with av.open(io.BytesIO(client.download(file))) as video:
        return [picture.to_ndarray(format="rgb24").astype(np.float32) for picture in video.decode(video=0)]


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
