"""A model that has learned a world shows, through the real host, what its prompts say."""

import io
import json
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from devtools.demo import FIRST_MINUTE
from devtools.server.tiny_workflow import load, only_node
from devtools.server.world_workflow import Story, link_world, on_world
from headforcing_core.farm.client import Client
from headforcing_core.farm.process import Server
from headforcing_core.geometry import TIME_STRIDE
from testbed.prompts import Prompt
from testbed.reading import landscape_change
from testbed.world import GROUND_TOP, HEIGHT, PAN_PIXELS, WIDTH, first_picture, last_picture, rgb
from tests.server.conftest import files, shown

STORY = Story(
    4.5,
    {
        0: Prompt(sky="day", camera="pans right"),
        1.5: Prompt(sky="night", place="meadow", camera="pans left"),
        3: Prompt(sky="day", camera="holds still"),
    },
)
BEFORE, AWAY, BACK = STORY.scenes.values()
CHUNK_FRAMES = 3
SKY = slice(0, GROUND_TOP // 2)  # rows above all landmarks
NEAR = 30 / 255  # between colours; day and night are 1.03 apart
PAN = PAN_PIXELS * TIME_STRIDE  # pixels from one frame's last picture to the next one's


@dataclass(frozen=True)
class Shown:
    """The pictures of a video (pictures, height, width, 3), 0 to 1, and where its second and third prompt begin."""

    pictures: NDArray[np.float32]
    away: int
    back: int

    def sky(self) -> NDArray[np.float32]:
        """The colour of the sky in every picture."""
        return np.median(self.pictures[:, SKY].reshape(len(self.pictures), -1, 3), axis=1)

    def pans(self) -> list[int]:
        """By how many pixels the landmarks go to the left from each frame's last picture to the next one's."""
        shifts = range(-PAN - 8, PAN + 9)
        return [
            min(shifts, key=lambda shift: float(landscape_change(here, there, shift)))
            for here, there in pairwise(torch.from_numpy(self.pictures[::TIME_STRIDE]))
        ]


@pytest.fixture(scope="module")
def video(client: Client, comfyui: Server) -> Shown:
    """The first-minute workflow on the small world, for a few seconds."""
    link_world(comfyui.folder)
    workflow = on_world(load(FIRST_MINUTE), STORY, seed=3)
    result = client.run(workflow)
    assert result.status == "success", result.error
    (file,) = files(result, only_node(workflow, "SaveVideo"), "images")
    with av.open(io.BytesIO(client.download(file))) as container:
        pictures = np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])
    segments = json.loads(shown(result, only_node(workflow, "PreviewAny")))["segments"]
    _, away, back = (segment["chunks"][0] * CHUNK_FRAMES for segment in segments)
    return Shown(pictures.astype(np.float32) / 255, away, back)


def test_the_sky_is_the_one_that_each_prompt_says(video: Shown) -> None:
    sky, (away, back) = video.sky(), map(first_picture, (video.away, video.back))
    assert video.pictures.shape[1:] == (HEIGHT, WIDTH, 3)
    settled = TIME_STRIDE * CHUNK_FRAMES  # a prompt may take a chunk
    for prompt, pictures in ((BEFORE, sky[:away]), (AWAY, sky[away:back][settled:]), (BACK, sky[back:][settled:])):
        assert len(pictures) > 0
        assert np.linalg.norm(pictures - rgb(prompt.sky), axis=1).max() < NEAR


def test_landmarks_pass_as_fast_as_the_camera_pans_and_the_way_that_the_prompt_says(video: Shown) -> None:
    pans = video.pans()
    before, away = pans[: video.away - 1], pans[video.away : video.back - 1]
    assert np.mean(np.array(before) == PAN) > 0.8
    assert np.mean(np.array(away) == -PAN) > 0.8


def test_who_returns_finds_the_place_as_it_was_left(video: Shown) -> None:
    left, meadow, back = (
        video.pictures[last_picture(frame)] for frame in (video.away - 1, video.back - 1, video.back + CHUNK_FRAMES)
    )
    same, other = (float(np.abs(left - each)[GROUND_TOP - 20 :].mean()) for each in (back, meadow))
    assert same < other / 4
