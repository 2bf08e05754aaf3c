"""The shipped workflow on the small world of testbed/: which files, which size, which prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.prompts import Prompt

from ..paths import REPOSITORY
from ..problem import Problem
from .base_directory import link_file
from .tiny_workflow import Workflow, only_node, tiny

WORLD_WIDTH, WORLD_HEIGHT = 128, 64
MODEL, TEXT_ENCODER, VAE = "self_forcing_world.safetensors", "world_umt5.safetensors", "world_vae.safetensors"
_FILES = REPOSITORY / "testbed" / "models"
_FOLDERS = {MODEL: "diffusion_models", TEXT_ENCODER: "text_encoders", VAE: "vae"}
_OUT, _BACK = Prompt(camera="pans right"), Prompt(camera="pans left")
_MEADOW = Prompt(sky="dusk", place="meadow")
_NIGHT = Prompt(sky="night", colour="white", shape="box")


@dataclass(frozen=True)
class Story:
    """A video of the world: its length, and its prompts by the second from which on each holds."""

    seconds: float
    scenes: Mapping[float, Prompt]

    @property
    def text(self) -> str:
        """The scenes as Prompt Schedule reads them."""
        return "\n".join(f"[{second:g}s] {prompt.text}" for second, prompt in self.scenes.items())


SHORT = Story(18.0, {0: _OUT, 6: _MEADOW, 12: _BACK})
MINUTE = Story(
    60.0,
    {
        0: _OUT,
        8: _MEADOW,
        18: _BACK,
        26: replace(_NIGHT, place="desert", camera="pans left"),
        36: replace(_NIGHT, place="meadow"),
        44: replace(_NIGHT, place="desert", camera="pans right"),
        52: replace(_NIGHT, camera="pans left"),
    },
)


def on_world(shipped: Workflow, story: Story, seed: int) -> Workflow:
    """The shipped workflow with the world's files, size and prompts, for this story and seed. Everything else is as
    shipped; the given workflow is not changed."""
    workflow = tiny(shipped, TEXT_ENCODER, WORLD_WIDTH, WORLD_HEIGHT)
    for class_type, inputs in {
        "HeadForcingLoadARModel": {"model_name": MODEL},
        "VAELoader": {"vae_name": VAE},
        "HeadForcingPromptSchedule": {"text": story.text},
        "HeadForcingProfileHeads": {"save_as": Path(MODEL).stem},
        "HeadForcingSampler": {"seconds": story.seconds, "seed": seed},
    }.items():
        workflow[only_node(workflow, class_type)]["inputs"].update(inputs)
    return workflow


def link_world(folder: Path) -> None:
    """Put the world's files into the models folder of a base directory; raises Problem when one is missing."""
    for name, place in _FOLDERS.items():
        if not (_FILES / name).is_file():
            raise Problem(
                f"{_FILES / name} is missing.",
                "The demo and serve show a small world with it. It is part of the repository.",
                "Bring it back with: git restore testbed/models. Where that does not help, clone the repository again.",
            )
        link_file(_FILES / name, folder / "models" / place / name)
