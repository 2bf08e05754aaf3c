"""What a run takes: the memory of its policy and of the presets that need less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..headforcing_core.checkpoint import HEAD_DIM
from ..headforcing_core.geometry import VideoShape
from ..headforcing_core.memory_size import capacities, expected_bytes, warm_up_frames
from ..headforcing_core.policy import PRESETS, FittedPolicy, fit_policy
from ..headforcing_core.rules import LabelRule, Labels, label_heads


@dataclass(frozen=True)
class RunCost:
    """The most bytes that the KV memory of a run takes, and those of the presets that take less."""

    policy: str
    width: int
    height: int
    memory_bytes: int
    smaller: Mapping[str, int]

    def told(self, free_bytes: int, total_bytes: int) -> str:
        """What the run will take, beside what is there."""
        told = (
            f"Memory: up to {_gigabytes(self.memory_bytes)} for keys and values beside the model; "
            f"{_gigabytes(free_bytes)} of {_gigabytes(total_bytes)} are free."
        )
        return f"{told} {self._advice(total_bytes)}" if self.memory_bytes > total_bytes else told

    def out_of_memory(self, free_bytes: int) -> str:
        """What to say when the memory ran out; `free_bytes` were free without this run."""
        return (
            f"Out of memory. At {self.width} x {self.height} the memory of policy {self.policy} takes "
            f"{_gigabytes(self.memory_bytes)} beside the model, and {_gigabytes(free_bytes)} are free without it. "
            f"{self._advice(free_bytes)}"
        )

    def _advice(self, room: int) -> str:
        fitting = {name: size for name, size in self.smaller.items() if size < room}
        if not fitting:
            return "Choose a smaller width and height."
        name = max(fitting, key=lambda name: fitting[name])
        return f"Choose the preset {name} in Head Cache Policy ({_gigabytes(fitting[name])}), or a smaller size."


def run_cost(fitted: FittedPolicy, labels: Labels, profiled: bool, video: VideoShape, per_frame: int) -> RunCost:
    """What a run will take; `per_frame` is K and V of one frame in one head, in bytes. Labels that were not `profiled`
    say nothing about the presets that tell heads apart: those are reckoned at the usual shares."""
    most = _most_bytes(fitted, labels, video, per_frame)
    if not profiled:
        labels = label_heads(LabelRule("random"), len(labels), len(labels[0]), None)
    sizes: dict[str, int] = {}
    for name, preset in PRESETS.items():
        try:
            other = fit_policy(preset, video.chunk_frames, fitted.trained_frames, video.frames)
        except ValueError:
            continue  # too large for the trained range
        sizes[name] = _most_bytes(other, labels, video, per_frame)
    smaller = {name: size for name, size in sizes.items() if size < most}
    return RunCost(fitted.policy.name, video.width, video.height, most, smaller)


def _most_bytes(fitted: FittedPolicy, labels: Labels, video: VideoShape, per_frame: int) -> int:
    warm = warm_up_frames(fitted, video.chunks, video.prefix_frames)
    return expected_bytes(labels, capacities(fitted, labels), warm, video.chunk_frames, per_frame, HEAD_DIM)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
