"""The scenes of a run: where they begin, under which texts, and how they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.report.run_report import ReportSegment
from ...headforcing_core.rollout.plan import Segment
from ...headforcing_core.schedule import PlacedScene, Scene, place_scenes, write_schedule
from ..host.conditioning import check_conditioning
from ..sockets import PromptSchedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from torch import Tensor

    from ..sockets import Conditioning

_POSITIVE = "(the positive input)"


@dataclass(frozen=True)
class RunScenes:
    """The scenes of a run, each with the segment that holds its text; under one `positive`, a segment alone."""

    placed: tuple[PlacedScene, ...]
    segments: tuple[Segment[Conditioning], ...]

    @property
    def first_chunks(self) -> frozenset[int]:
        """The chunks on which scenes begin."""
        return frozenset(segment.first_chunk for segment in self.segments)

    def with_live(self, scene: Scene, segment: Segment[Conditioning]) -> RunScenes:
        """These and one more, which was typed while the video was made, on a chunk on which none begins."""
        added = [
            *zip(self.placed, self.segments, strict=True),
            (PlacedScene(scene, segment.first_chunk, True), segment),
        ]
        placed, segments = zip(*sorted(added, key=lambda pair: pair[1].first_chunk), strict=True)
        return RunScenes(placed, segments)

    def told(self, chunks: int) -> list[ReportSegment]:
        """The prompt segments of so many chunks, as the report tells them."""
        if not self.placed:
            return [ReportSegment(_POSITIVE, (0, chunks - 1), None)]
        ends = [*(scene.first_chunk - 1 for scene in self.placed[1:]), chunks - 1]
        return [
            ReportSegment(
                scene.scene.prompt,
                (scene.first_chunk, end),
                segment.transition if scene.first_chunk else None,
                scene.live,
            )
            for scene, segment, end in zip(self.placed, self.segments, ends, strict=True)
        ]

    def prompt_of(self, chunk: int) -> str:
        """The prompt of a chunk."""
        return [segment.prompt for segment in self.told(chunk + 1) if segment.chunks[0] <= chunk][-1]

    def schedule(self, start_second: Callable[[int], float]) -> str | None:
        """The text for Prompt Schedule that makes the same video again; None under one `positive`."""
        if not self.placed:
            return None
        return write_schedule(
            [
                (start_second(scene.first_chunk), segment.transition, scene.scene.prompt)
                for scene, segment in zip(self.placed, self.segments, strict=True)
            ]
        )

    def record(self) -> tuple[Segment[str], ...]:
        """What is written down of them with a kept run."""
        if not self.placed:
            (only,) = self.segments
            return (Segment(0, _text_hash(only.text), only.transition, only.soft_chunks, _POSITIVE),)
        return tuple(
            Segment(
                segment.first_chunk,
                hashlib.sha256(scene.scene.prompt.encode()).hexdigest(),
                segment.transition,
                segment.soft_chunks,
                scene.scene.prompt,
                scene.live,
            )
            for scene, segment in zip(self.placed, self.segments, strict=True)
        )


def run_scenes(
    model: ModelPatcher,
    schedule: PromptSchedule | None,
    positive: Conditioning | None,
    kept_live: Sequence[Segment[str]],
    video: VideoShape,
    notes: list[str],
) -> RunScenes:
    """Put the scenes of a schedule on chunks, or take the one text; `kept_live` were typed while the same run was made
    before, and are part of it. ValueError unless exactly one of schedule and positive can be used."""
    if (schedule is None) == (positive is None):
        given = "Neither schedule nor positive is" if schedule is None else "Both schedule and positive are"
        raise ValueError(
            f"{given} connected. The video is made under one of them. Connect exactly one: Prompt Schedule, "
            "or a CLIP Text Encode for one prompt."
        )
    if schedule is None:
        assert positive is not None
        check_conditioning(positive, model, "positive")
        return RunScenes((), (Segment(0, positive),))
    nearest = [video.nearest_chunk(scene.start_second) for scene in schedule.scenes]
    placed, moved = place_scenes(schedule.scenes, video.chunks, video.start_second, nearest)
    notes.extend(moved)
    texts = schedule.conditionings[: len(placed)]
    for text in texts:
        check_conditioning(text, model, "schedule")
    scenes = RunScenes(
        placed,
        tuple(
            Segment(scene.first_chunk, text, scene.scene.transition or schedule.transition, schedule.soft_chunks)
            for scene, text in zip(placed, texts, strict=True)
        ),
    )
    added = [live for live in kept_live if live.first_chunk < video.chunks]
    added = [live for live in added if live.first_chunk not in scenes.first_chunks]  # pasted into the schedule since
    for live in added:
        scenes = scenes.with_live(*live_scene(schedule, live.prompt, live.transition, live.first_chunk, video))
    if added:
        notes.append(f"Live prompts of the run before are part of it ({len(added)}); the schedule does not have them.")
    return scenes


def live_scene(
    schedule: PromptSchedule, prompt: str, transition: str, chunk: int, video: VideoShape
) -> tuple[Scene, Segment[Conditioning]]:
    """A scene that is not in the schedule, its text encoded as the schedule's own."""
    text = schedule.clip.encode_from_tokens_scheduled(schedule.clip.tokenize(prompt))
    scene = Scene(video.start_second(chunk), None, prompt, transition, 0)
    return scene, Segment(chunk, text, transition, schedule.soft_chunks)


def _text_hash(text: Conditioning) -> str:
    """Of a text of which nothing but its encoding is known: of shape and size alone, since encoding the same text again
    need not give the same bits."""
    encoded = cast("Tensor", text[0][0])
    described = f"{tuple(encoded.shape)} {torch.linalg.vector_norm(encoded.float()).item():.2e}"
    return hashlib.sha256(described.encode()).hexdigest()
