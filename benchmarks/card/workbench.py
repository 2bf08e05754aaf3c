"""What the sections of gpu.py share: the model, rollouts that stand at a chunk, and what was found so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType

import torch

from benchmarks.card.arithmetic import Task, Work
from benchmarks.shared.stage import FOUR_STEPS, Rolling, RunsModel, Size, Stage, first_chunk_after_full_bank
from benchmarks.shared.tables import Findings, say
from headforcing_core.policy.head_types import Labels
from headforcing_core.policy.presets import PRESETS

POLICIES = ("paper", "low_vram", "max", "uniform_21")
IN_8_BITS = "tiny"
NEEDS_CUDA = "needs CUDA"
PROBE = 200  # chunks in which the episodic bank has to fill
SPARE = 400  # chunks that a rollout can make beyond where it is measured


@dataclass
class Workbench:
    """One model on one device; the model and everything large is made when it is first wanted."""

    host: ModuleType
    device: torch.device
    labels: Labels
    size: Size
    task: Task
    chunk: int
    late_chunk: int
    rounds: int
    compiled_layers: int
    findings: Findings
    _rollouts: dict[tuple[str, int], Rolling] = field(default_factory=dict)
    _firsts: dict[str, int] = field(default_factory=dict)

    @property
    def on_card(self) -> bool:
        """Whether this is measured on a graphics card."""
        return self.device.type == "cuda"

    @cached_property
    def stage(self) -> Stage:
        """The model, on the host."""
        say("  building the model")
        stage = Stage(self.host, self.labels, self.size, self.task.text_tokens, FOUR_STEPS, self.task.text_dim)
        if stage.device != self.device:
            raise RuntimeError(
                f"ComfyUI chose {stage.device} for the model, {self.device} was asked for. Two devices would be "
                "measured at once. Make the card visible to PyTorch, or ask for --device cpu."
            )
        return stage

    def at(self, policy: str, chunk: int) -> Rolling:
        """The rollout of a policy that stands at a chunk or, when it was measured before, a few after it."""
        place = (policy, chunk)
        if place not in self._rollouts:
            started = time.perf_counter()
            rolling = self.rolling(policy, chunk, lambda number: number >= chunk)
            rolling.go_to(chunk)
            self._rollouts[place] = rolling
            say(f"  {policy} stands at chunk {chunk} after {time.perf_counter() - started:.1f} s")
        return self._rollouts[place]

    def rolling(self, policy: str, chunk: int, runs_model: RunsModel, rotates_all: bool = False) -> Rolling:
        """A new rollout, which can go some way beyond a chunk. Nothing is recalled, so that every chunk takes the same
        passes."""
        by_novelty = replace(PRESETS[policy], episode_choice="novelty")
        return Rolling(self.stage, by_novelty, chunk + SPARE, runs_model, rotates_all=rotates_all)

    def first_full(self, policy: str) -> int:
        """The first chunk that reads a full episodic bank."""
        if policy not in self._firsts:
            self._firsts[policy] = first_chunk_after_full_bank(self.stage, PRESETS[policy], PROBE, lambda chunk: False)
        return self._firsts[policy]

    def clear(self) -> None:
        """End all rollouts."""
        for rolling in self._rollouts.values():
            rolling.close()
        self._rollouts.clear()

    def bound(self, work: Work, attention: str = "attention") -> float | None:
        """Least seconds of a chunk by the rates measured in this run; None when they were not measured."""
        rates = self.findings.rates
        if not {"square", "up", "down", attention} <= rates.keys():
            return None
        return work.bound({**rates, "attention": rates[attention]})
