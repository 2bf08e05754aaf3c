"""Runs that are kept, in output/head_forcing/NAME, and runs that are not: the same verbs for both."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import folder_paths
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..headforcing_core.geometry import LATENT_CHANNELS
from ..headforcing_core.plan import Finished
from ..headforcing_core.profile import HeadProfile
from ..headforcing_core.report import Setting
from ..headforcing_core.rollout import Chunk
from ..headforcing_core.rules import LabelRule
from ..headforcing_core.run_record import RunProfile, RunSegment, RunSpec
from ..headforcing_core.run_store import RunStore, kept_run
from .latent_video import temporary_video

if TYPE_CHECKING:
    from .run_plan import RunPlan
    from .sockets import Conditioning

_FOLDER = "head_forcing"
_VIDEO_HASH = "video sha256"  # in timeline.png


class Told(NamedTuple):
    """What is told of a whole run: the report as JSON text, and a picture of what was read."""

    report: str
    timeline: Image.Image


class Run(Protocol):
    """What a run is made into. `finished` chunks are there already; `notes` are sentences for the report; `video_path`
    is where its video grows; `told` what is told of it, when nothing is to be made, and `has_video` whether its video
    is whole then."""

    finished: Finished
    notes: list[str]
    told: Told | None
    has_video: bool

    @property
    def video_path(self) -> Path: ...

    def seed_for(self, chunk: int) -> int:
        """The seed of a chunk."""
        ...

    def keep(self, chunk: Chunk) -> None:
        """Take a chunk, made or finished before."""
        ...

    def settle_video(self, pictures: int) -> None:
        """The video file is closed and has so many pictures."""
        ...

    def tell(self, told: Told) -> None:
        """All chunks are made, and the video if there is one: take what is told of them."""
        ...


class UnkeptRun:
    """A run of which only the outputs are left."""

    def __init__(self, seed: int) -> None:
        self.finished = Finished()
        self.notes: list[str] = []
        self.told: Told | None = None
        self.has_video = False
        self._seed = seed
        self._video_path: Path | None = None

    @property
    def video_path(self) -> Path:
        self._video_path = self._video_path or temporary_video()
        return self._video_path

    def seed_for(self, chunk: int) -> int:
        return self._seed

    def keep(self, chunk: Chunk) -> None:
        """Nothing is kept."""

    def settle_video(self, pictures: int) -> None:
        """It is where it was written."""

    def tell(self, told: Told) -> None:
        """Nothing is kept."""


class KeptRun:
    """A run in its folder, open. A video that is there stays until the one that grows beside it has as much, and for
    good while more is kept than was asked for."""

    def __init__(self, store: RunStore, plan: RunPlan) -> None:
        decisions = [decision for chunk in range(store.finished) for decision in store.decisions(chunk)]
        self.finished = Finished(store.finished, store.read, {decision.frame: decision for decision in decisions})
        self.notes = store.notes
        self._store = store
        self._least_pictures = plan.video.pixel_frames_after(store.finished)
        video = plan.video
        self.told = self._read({"chunks": video.chunks, "pixel_frames": video.pixel_frames, "fps": video.fps})
        self.has_video = self.told is not None and self._is_video_of(self.told)
        self._video_path: Path | None = None

    @property
    def video_path(self) -> Path:
        if self._video_path is None:
            self._video_path = self._place()
        return self._video_path

    def seed_for(self, chunk: int) -> int:
        return self._store.seed_for(chunk)

    def keep(self, chunk: Chunk) -> None:
        decisions = (*chunk.prefix_decisions, *chunk.decisions)
        if chunk.index >= self.finished.chunks:
            self._store.append(chunk.latent, decisions)
        elif decisions:
            self._store.add_decisions(chunk.index, decisions)

    def settle_video(self, pictures: int) -> None:
        if self.video_path == self._store.next_video_path and pictures >= self._least_pictures:
            os.replace(self.video_path, self._store.video_path)
            self._video_path = self._store.video_path
            if self.told is not None:
                self.tell(self.told)

    def tell(self, told: Told) -> None:
        if self._store.has_more:
            return
        data, beside = io.BytesIO(), PngInfo()
        if self._store.video_path.exists():
            beside.add_text(_VIDEO_HASH, _file_hash(self._store.video_path))
        told.timeline.save(data, "PNG", pnginfo=beside)
        self._store.write_report(told.report, data.getvalue())

    def _is_video_of(self, told: Told) -> bool:
        path = self._store.video_path
        return path.exists() and told.timeline.info.get(_VIDEO_HASH) == _file_hash(path)

    def _place(self) -> Path:
        if self.has_video:
            return self._store.video_path
        if self._store.has_more:
            return temporary_video()
        return self._store.next_video_path if self.told or self._store.video_path.exists() else self._store.video_path

    def _read(self, settings: dict[str, Setting]) -> Told | None:
        found = self._store.read_report(settings) if self.finished.chunks == self._store.chunks else None
        try:
            return Told(found[0], Image.open(io.BytesIO(found[1]), formats=("PNG",)).convert("RGB")) if found else None
        except (OSError, ValueError, Image.DecompressionBombError):
            return None  # drawn again


@contextmanager
def open_run(
    name: str,
    plan: RunPlan,
    seed: int,
    beginning: Tensor | None,
    on_existing: str,
    from_chunk: int,
    on_check: Callable[[int, int], None],
) -> Iterator[Run]:
    """Open the run's folder, if it has a name; `beginning` is the start image or the latent that the video goes on
    from. Errors as of RunStore.open."""
    if not name:
        yield UnkeptRun(seed)
        return
    with RunStore.open(_root(), name, _spec(plan, seed, beginning), on_existing, from_chunk, on_check) as store:
        yield KeptRun(store, plan)


def kept_profile(name: str) -> HeadProfile | None:
    """The labels that a kept run was made with, so that it goes on with those. Errors as of kept_run."""
    kept = kept_run(_root(), name)
    if kept is None or kept.profile is None:
        return None
    return HeadProfile(kept.profile.fingerprint, "", LabelRule(kept.profile.rule), kept.profile.labels, None, {})


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _root() -> Path:
    return Path(folder_paths.get_output_directory()) / _FOLDER


def _spec(plan: RunPlan, seed: int, beginning: Tensor | None) -> RunSpec:
    video, profile = plan.video, plan.profile
    return RunSpec(
        settings=_settings(plan),
        segments=_segments(plan),
        seed=seed,
        profile=None if profile is None else RunProfile(profile.fingerprint, profile.rule.rule, profile.labels),
        prefix_hash=None if beginning is None else hashlib.sha256(beginning.cpu().numpy().tobytes()).hexdigest(),
        chunks=video.chunks,
        chunk_shape=(1, LATENT_CHANNELS, video.chunk_frames, *video.latent_size),
    )


def _settings(plan: RunPlan) -> dict[str, Setting]:
    """What must be the same for two chunks to be of one run: not the length, and of the policy what was asked for."""
    policy = cast("dict[str, Setting]", asdict(plan.fitted.policy))
    return {
        "fingerprint": plan.facts.fingerprint,
        "chunk_frames": plan.fitted.chunk_frames,
        "trained_frames": plan.fitted.trained_frames,
        "sigmas": list(plan.rollout.sigmas),
        "width": plan.video.width,
        "height": plan.video.height,
        **{f"policy_{name}": value for name, value in policy.items() if name != "name"},
    }


def _segments(plan: RunPlan) -> tuple[RunSegment, ...]:
    if not plan.scenes:
        only = plan.rollout.segments[0]
        return (RunSegment("(the positive input)", _text_hash(only.text), 0, only.transition, only.soft_chunks),)
    return tuple(
        RunSegment(
            scene.scene.prompt,
            hashlib.sha256(scene.scene.prompt.encode()).hexdigest(),
            segment.first_chunk,
            segment.transition,
            segment.soft_chunks,
        )
        for scene, segment in zip(plan.scenes, plan.rollout.segments, strict=True)
    )


def _text_hash(text: Conditioning) -> str:
    """Of a text of which nothing but its encoding is known: of shape and size alone, since encoding the same text again
    need not give the same bits."""
    encoded = cast("Tensor", text[0][0])
    described = f"{tuple(encoded.shape)} {torch.linalg.vector_norm(encoded.float()).item():.2e}"
    return hashlib.sha256(described.encode()).hexdigest()
