"""The shipped workflow on the small world, and its files."""

from pathlib import Path

import pytest

from devtools.demo import FIRST_MINUTE
from devtools.problem import Problem
from devtools.server import world_workflow
from devtools.server.tiny_workflow import load, only_node
from devtools.server.world_workflow import MINUTE, MODEL, SHORT, TEXT_ENCODER, VAE, Story, link_world, on_world
from headforcing_core.rollout.transitions import TRANSITIONS
from headforcing_core.schedule.reading import parse_schedule
from testbed.prompts import every_prompt
from testbed.world import HEIGHT, WIDTH

LOADER, SCHEDULE, PROFILE, SAMPLER = (
    "HeadForcingLoadARModel",
    "HeadForcingPromptSchedule",
    "HeadForcingProfileHeads",
    "HeadForcingSampler",
)


@pytest.mark.parametrize("story", [SHORT, MINUTE], ids=["short", "minute"])
def test_files_sizes_prompts_length_and_seed_are_the_worlds_and_all_else_is_as_shipped(story: Story) -> None:
    shipped = load(FIRST_MINUTE)
    workflow = on_world(shipped, story, seed=5)
    assert shipped == load(FIRST_MINUTE)
    text_encoder = only_node(shipped, "CLIPLoader")
    assert workflow.pop(text_encoder) == {
        "class_type": "HeadForcingTestLoadUMT5",
        "inputs": {"clip_name": TEXT_ENCODER},
    }
    expected = load(FIRST_MINUTE)
    del expected[text_encoder]
    for class_type, inputs in {
        LOADER: {"model_name": MODEL},
        "VAELoader": {"vae_name": VAE},
        SCHEDULE: {"text": story.text},
        PROFILE: {"save_as": "self_forcing_world", "width": WIDTH, "height": HEIGHT},
        SAMPLER: {"seconds": story.seconds, "seed": 5, "width": WIDTH, "height": HEIGHT},
    }.items():
        expected[only_node(expected, class_type)]["inputs"].update(inputs)
    assert workflow == expected


@pytest.mark.parametrize("story", [SHORT, MINUTE], ids=["short", "minute"])
def test_every_scene_is_within_the_video_and_of_words_that_the_world_knows(story: Story) -> None:
    scenes = parse_schedule(story.text, TRANSITIONS)
    assert len(scenes) == len(story.scenes) >= 2
    assert {scene.prompt for scene in scenes} <= {prompt.text for prompt in every_prompt()}
    assert [scene.start_second for scene in scenes] == sorted(story.scenes)
    assert scenes[-1].start_second < story.seconds


@pytest.mark.parametrize("story", [SHORT, MINUTE], ids=["short", "minute"])
def test_the_video_returns_to_its_first_place(story: Story) -> None:
    first, *others = [prompt.place for prompt in story.scenes.values()]
    assert first in others[next(i for i, place in enumerate(others) if place != first) :]


@pytest.fixture
def worlds_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for testbed/models, where files can be taken away."""
    folder = tmp_path / "testbed" / "models"
    folder.mkdir(parents=True)
    for name in (MODEL, TEXT_ENCODER, VAE):
        (folder / name).write_text(name)
    monkeypatch.setattr(world_workflow, "_FILES", folder)
    return folder


def test_the_worlds_files_lie_where_the_loaders_look(worlds_files: Path, tmp_path: Path) -> None:
    for _ in range(2):
        link_world(tmp_path / "base")
    linked = {path.relative_to(tmp_path / "base" / "models").as_posix() for path in tmp_path.glob("base/models/*/*")}
    assert linked == {f"diffusion_models/{MODEL}", f"text_encoders/{TEXT_ENCODER}", f"vae/{VAE}"}
    assert (tmp_path / "base" / "models" / "vae" / VAE).samefile(worlds_files / VAE)


@pytest.mark.parametrize("name", [MODEL, TEXT_ENCODER, VAE])
def test_a_missing_file_of_the_world_is_named_with_the_way_to_bring_it_back(
    worlds_files: Path, tmp_path: Path, name: str
) -> None:
    (worlds_files / name).unlink()
    with pytest.raises(Problem) as refused:
        link_world(tmp_path / "base")
    text = str(refused.value)
    assert text.startswith(f"{worlds_files / name} is missing.\n  why:  ")
    assert "\n  do:   Bring it back with: git restore testbed/models." in text
