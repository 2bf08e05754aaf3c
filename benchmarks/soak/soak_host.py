"""The real host in this process, with the whole pack and the test models; films to make, and what came of them."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import torch
from torch import Tensor

from benchmarks.shared.host_process import PACK, REPOSITORY, TEXT_DIM, make_text, start_host
from devtools.pack import load_nodes
from devtools.server.base_directory import fill, link_models
from devtools.setup.installation import Installation

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE
    from comfy_api.latest import Input

FPS = 16.0
CHUNK_FRAMES = 3
TEXT_TOKENS = 512  # what the text encoder pads to
CHECKPOINT = "self_forcing_dmd.safetensors"
RUN_NAME = "film"
VIDEO_FILE = "video.mp4"


@dataclass(frozen=True)
class Film:
    """A video to be made: so many chunks of a size, under the policy paper and labels of all three types."""

    chunks: int
    width: int = 32
    height: int = 32
    sigmas: tuple[float, ...] | None = None

    @property
    def seconds(self) -> float:
        """The length that takes just so many chunks."""
        return self.pictures / FPS

    @property
    def pictures(self) -> int:
        """How many pictures the video has."""
        return 4 * CHUNK_FRAMES * self.chunks - 3

    @property
    def size(self) -> str:
        """Width and height in words."""
        return f"{self.width} x {self.height}"


class Made(NamedTuple):
    """The sampler's outputs, without the timeline."""

    latent: Tensor  # (1, channels, frames, height, width)
    video: Input.Video
    report: dict[str, object]


class Studio:
    """The host with everything loaded that a film takes. Processes forked from here share it."""

    def __init__(
        self, folder: Path, checkpoint: str = CHECKPOINT, text_dim: int = TEXT_DIM, device: str = "cpu"
    ) -> None:
        self._nodes = _enter(folder, device)
        self.model: ModelPatcher = self._run("HeadForcingLoadARModel", model_name=checkpoint)[0]
        self.vae = _vae()
        self._text = make_text(TEXT_TOKENS, text_dim)
        self._labels = self._run("HeadForcingProfileHeads", model=self.model, rule="random")[0]
        self._policy = self._run("HeadForcingCachePolicy", preset="paper")[0]

    def make(self, film: Film, output: Path, **inputs: object) -> Made:
        """Run the sampler, kept as RUN_NAME in the folder `output` unless `inputs` say otherwise."""
        import folder_paths

        folder_paths.set_output_directory(str(output))
        sigmas = None if film.sigmas is None else torch.tensor(film.sigmas)
        given = {
            "model": self.model,
            "positive": self._text,
            "policy": self._policy,
            "profile": self._labels,
            "vae": self.vae,
            "seconds": film.seconds,
            "width": film.width,
            "height": film.height,
            "fps": FPS,
            "seed": 1,
            "sigmas": sigmas,
            "run_name": RUN_NAME,
            **inputs,
        }
        latent, video, _, report, _ = self._run("HeadForcingSampler", **given)
        return Made(latent["samples"], video, json.loads(report))

    def cards(self, count: int, exact: bool) -> Any:
        """So many cards for `make`; processes of this processor where the host computes on it."""
        return self._run("HeadForcingCards", cards=count, exact=exact)[0]

    def _run(self, node_id: str, **inputs: object) -> tuple:
        node = self._nodes[node_id].PREPARE_CLASS_CLONE(None)
        with torch.inference_mode():
            return node.execute(**inputs).args


def folder_of(output: Path) -> Path:
    """Where a film is kept."""
    return output / "head_forcing" / RUN_NAME


def bits_of(latent: Tensor) -> str:
    """A hash of every bit of a latent."""
    return hashlib.sha256(latent.contiguous().numpy().tobytes()).hexdigest()


class Pictures(NamedTuple):
    """All pictures of a video file: how many, and a hash of them."""

    count: int
    bits: str


def pictures_of(path: Path) -> Pictures:
    """Decode a video file to its end. FFmpegError when that cannot be done; no pictures where there is no file."""
    if not path.exists():
        return Pictures(0, "")
    digest, count = hashlib.sha256(), 0
    with av.open(str(path), options={"err_detect": "explode"}) as video:
        for picture in video.decode(video=0):
            digest.update(picture.to_ndarray(format="rgb24").tobytes())
            count += 1
    return Pictures(count, digest.hexdigest())


def module(name: str) -> ModuleType:
    """A file of the loaded pack, by its name below the pack."""
    return importlib.import_module(f"{PACK}.{name}")


def _enter(folder: Path, device: str) -> dict[str, type]:
    start_host(1, "host" if device == "cpu" else "pytorch", device)
    import folder_paths

    fill(folder)
    link_models(Installation.from_environment().models, folder)
    models = folder / "models"
    folder_paths.models_dir = str(models)
    for kind in ("diffusion_models", "vae"):
        folder_paths.folder_names_and_paths[kind] = ([str(models / kind)], folder_paths.folder_names_and_paths[kind][1])
    folder_paths.set_output_directory(str(folder / "output"))
    folder_paths.set_temp_directory(str(folder / "temp"))
    return load_nodes(PACK, REPOSITORY)


def _vae() -> VAE:
    import comfy.sd
    import comfy.utils
    import folder_paths

    path = folder_paths.get_full_path_or_raise("vae", "wan_2.1_vae.safetensors")
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(path, safe_load=True))
