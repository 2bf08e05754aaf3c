"""Where the time of a chunk goes: the functions that are told apart, and which part of a chunk each one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from benchmarks.shared.host_process import named_functions
from benchmarks.shared.stage import Rolling, Stage
from benchmarks.shared.stopwatch import Stopwatch
from headforcing_core.kv_memory.head_buffer import HeadBuffer
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.rollout.history import History

LINEAR, ATTENTION, TEXT = "linear layers", "attention", "cross-attention"
ROTATION, TURNING = "rotation of the chunk", "re-encoding"
WRITES, HEADS, MOVES = "cache writes", "heads in and out", "moving frames"
MODEL, DECISION, LOOP = "norms, modulation, activations", "episodic decision", "guider, noise, loop"
PARTS = (LINEAR, ATTENTION, TEXT, ROTATION, TURNING, WRITES, HEADS, MOVES, MODEL, DECISION, LOOP)
WORK = (LINEAR, ATTENTION, TEXT)
"""What is not overhead."""


@contextmanager
def watched(watch: Stopwatch, stage: Stage, rolling: Rolling) -> Iterator[None]:
    """Inside, every part of the rollout's chunks counts for its name, and what is left for the loop."""
    memory = KVMemory
    owned: list[tuple[str, object, str, Callable[..., object]]] = [
        *named_functions(stage.model.model.diffusion_model),
        (ATTENTION, rolling, "attention", rolling.attention),
        (ROTATION, rolling.memory, "_rotate", rolling.memory._rotate),
        *(
            (name, owner, attribute, getattr(owner, attribute))
            for name, owner, attribute in (
                (ROTATION, memory, "_rotation_of_chunk"),
                (TURNING, HeadBuffer, "turn"),
                (WRITES, HeadBuffer, "write"),
                (HEADS, HeadBuffer, "pick"),
                (HEADS, HeadBuffer, "put_back"),
                (HEADS, stage.host, "_attend"),
                (MOVES, memory, "keep"),
                (DECISION, History, "observe"),
                (DECISION, History, "advance"),
            )
        ),
    ]
    with ExitStack() as patches:
        for name, owner, attribute, function in owned:
            patches.enter_context(patch.object(owner, attribute, watch.timed(name, function)))
        patches.enter_context(watch.measure(LOOP))
        yield
