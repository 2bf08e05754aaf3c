"""Whether recipes of 1, 2 and 4 steps are equally fast a pass, and what a chunk costs beside its passes.

python dev.py run -- python benchmarks/ratios/steps.py [--json FILE] [--labels FILE]

The recipes stand at the same chunk and take turns on one model. What lies beside the passes is the same work whatever
the model, but for moving frames: it is timed with latents of full size. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import process_time
from unittest.mock import patch

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.ratios.appending import store_at
from benchmarks.shared.host_process import enter_host
from benchmarks.shared.stage import (
    CHUNK_FRAMES,
    FOUR_STEPS,
    ONE_STEP,
    Rolling,
    Size,
    Stage,
    first_chunk_after_full_bank,
)
from benchmarks.shared.stopwatch import Stopwatch, in_turns
from benchmarks.shared.tables import Cell, Findings, Row, Target, add_common_options, counted, labels_from, say
from headforcing_core.geometry import WAN21
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.history import History
from headforcing_core.rollout.noise import PerChunkNoise

RECIPES = {1: ONE_STEP, 2: (1.0, 0.83333, 0.0), 4: FOUR_STEPS}
POLICIES = ("paper", "recall")
LONGEST = 400  # chunks that a rollout could make
TEXT_TOKENS = 512
EVENLY = 0.05
PASSES, GUIDER, NOISE, KEEP = "the model's passes", "the host's guider", "noise", "moving frames"
DECIDING, FINITE, LOOP, FILE = "describing and deciding", "is it finite", "the loop", "the chunk's file"


def main(words: Sequence[str] | None = None) -> Findings:
    """Measure, show, write."""
    given = _options(words)
    labels = labels_from(given.labels, given.layers, given.heads)
    host = enter_host(given.threads, "pytorch")
    settings: dict[str, Cell] = {
        "layers": len(labels),
        "heads": len(labels[0]),
        "labels": counted(labels),
        "passes at": given.size,
        "beside them at": given.latent,
        "rounds": given.repeats,
    }
    say(", ".join(f"{name} {value}" for name, value in settings.items()))
    findings = Findings(given.json, settings)
    stage = Stage(host, labels, _size(given.size), TEXT_TOKENS, FOUR_STEPS)
    findings.add("passes", "Seconds of a chunk and of one of its passes (medians)", _passes(stage, given.repeats))
    stage = Stage(host, labels, _size(given.latent), 8, FOUR_STEPS, model=stage.model)
    rows = [row for policy in POLICIES for row in _beside(stage, policy, given.repeats)]
    findings.add("beside", "Beside the passes, milliseconds of the processor, of the file by the clock (least)", rows)
    ratios = [float(row["processor, to 4 steps"] or 0) for row in findings.tables["passes"]]
    findings.judge(
        [
            Target(f"{row['steps']} steps: a pass, to one of 4 steps", ratio, 1 - EVENLY, 1 + EVENLY)
            for row, ratio in zip(findings.tables["passes"], ratios, strict=True)
        ]
    )
    return findings


def _passes(stage: Stage, rounds: int) -> list[Row]:
    """A row for each recipe, whose chunks take turns."""
    start = first_chunk_after_full_bank(stage, PRESETS["paper"], LONGEST, lambda chunk: False)
    rollouts = {steps: _standing(stage, "paper", start, RECIPES[steps]) for steps in RECIPES}
    with stage.open():
        taken = in_turns({steps: rolling.next for steps, rolling in rollouts.items()}, 1, rounds)
    for rolling in rollouts.values():
        rolling.close()
    rows: list[Row] = []
    for steps, times in taken.items():
        passes, most = steps + 1, max(RECIPES) + 1
        pairs = list(zip(times, taken[max(RECIPES)], strict=True))
        rows.append(
            {
                "steps": steps,
                "passes": passes,
                "a chunk": median(each.clock for each in times),
                "a pass": median(each.clock for each in times) / passes,
                "to 4 steps": median(each.clock / four.clock for each, four in pairs) * most / passes,
                "processor, to 4 steps": median(each.processor / four.processor for each, four in pairs)
                * most
                / passes,
            }
        )
    return rows


def _beside(stage: Stage, policy: str, rounds: int) -> list[Row]:
    """A row for each part: milliseconds in a chunk of each recipe."""
    least: dict[str, dict[int, float]] = {}
    for steps, sigmas in RECIPES.items():
        made: set[int] = set()
        rolling = Rolling(stage, PRESETS[policy], LONGEST, made.__contains__, sigmas)
        while not rolling.fills_bank(rolling.next()):
            pass
        made.update(range(rolling.chunk, LONGEST))
        with stage.open():
            for number in range(1 + rounds):
                watch = Stopwatch(clock=process_time)
                with watched(watch, stage, rolling), watch.measure(LOOP):
                    rolling.next()
                for part, seconds in watch.seconds.items() if number else ():
                    of_part = least.setdefault(part, {})
                    of_part[steps] = min(1e3 * seconds, of_part.get(steps, 1e9))
        rolling.close()
    least[FILE] = dict.fromkeys(RECIPES, _file(stage.size, rounds))
    del least[PASSES]
    total = {steps: sum(of_part.get(steps, 0.0) for of_part in least.values()) for steps in RECIPES}
    rows: list[Row] = []
    for part, of_part in (*least.items(), ("all", total)):
        row: Row = {"policy": policy, "part": part}
        for steps in RECIPES:
            row[f"{steps} steps"] = of_part.get(steps, 0.0)
        rows.append(row)
    return rows


@contextmanager
def watched(watch: Stopwatch, stage: Stage, rolling: Rolling) -> Iterator[None]:
    """Inside, every part of a chunk counts for its name. The passes do nothing but write made-up K and V."""
    k, v = stage.random_kv(rolling.chunk)

    def forward(x: Tensor, *given: object, **named: object) -> Tensor:
        for layer in range(len(stage.labels)):
            rolling.memory.attend(layer, k, k, v, stage.rotation)
        return x

    wan = stage.model.model.diffusion_model
    parts: list[tuple[str, object, str]] = [
        (GUIDER, stage.backbone, "sample"),
        (NOISE, PerChunkNoise, "initial"),
        (NOISE, PerChunkNoise, "fresh"),
        (KEEP, KVMemory, "keep"),
        (DECIDING, History, "observe"),
        (DECIDING, History, "advance"),
        (FINITE, torch, "isfinite"),
    ]
    with ExitStack() as patches:
        patches.enter_context(patch.object(rolling, "attention", lambda q, k, v, heads: q))
        patches.enter_context(patch.object(wan, "forward", watch.timed(PASSES, forward)))
        for name, owner, attribute in parts:
            function: Callable[..., object] = getattr(owner, attribute)
            patches.enter_context(patch.object(owner, attribute, watch.timed(name, function)))
        yield


def _standing(stage: Stage, policy: str, start: int, sigmas: tuple[float, ...]) -> Rolling:
    rolling = Rolling(stage, PRESETS[policy], LONGEST, lambda chunk: chunk >= start, sigmas)
    rolling.go_to(start)
    return rolling


def _file(size: Size, rounds: int) -> float:
    """Milliseconds in which a chunk is kept, on the disk of temporary files."""
    latent: Tensor = torch.randn(1, WAN21.channels, CHUNK_FRAMES, *size.latent)
    with tempfile.TemporaryDirectory() as folder:
        store = store_at(Path(folder) / "run", 1, ())
        taken = in_turns({"": lambda: store.append(latent, ())}, 1, rounds)
    return 1e3 * min(each.clock for each in taken[""])


def _size(words: str) -> Size:
    width, height = words.split("x")
    return Size(int(width), int(height))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.set_defaults(layers=3, heads=4, repeats=9)
    parser.add_argument("--size", default="208x128", metavar="WxH", help="of the pictures whose passes are timed")
    parser.add_argument("--latent", default="832x480", metavar="WxH", help="of those beside whose passes is timed")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
