"""K and V of a run that has ended, made anew where another run took them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management

from ...headforcing_core.files.byte_words import bytes_in_words
from ...headforcing_core.kv_memory.carried_kv import CarriedKV
from ...headforcing_core.kv_memory.memory import KVMemory
from ...headforcing_core.rollout.loop import Listeners, rollout
from ...headforcing_core.rollout.noise import Noise
from ..host.backbone import HostBackbone, rotate
from ..host.device_memory import free_main_memory

if TYPE_CHECKING:
    from ..request.carried_memory import HeldMemory
    from ..status.node_status import NodeStatus


def kv_of(
    memory: HeldMemory, backbone: HostBackbone, noise: Noise, expected_bytes: int, status: NodeStatus
) -> CarriedKV:
    """Those of a run at its end. Where they are gone, the model goes over each chunk of that run once more, after those
    of the runs before it whose are gone too, and they are held again. RuntimeError where main memory has no room."""
    runs = [memory]
    while runs[0].kv is None and runs[0].made_with.before is not None:
        runs.insert(0, runs[0].made_with.before)
    kv, done = runs[0].kv, 0
    anew = runs if kv is None else runs[1:]
    chunks = sum(run.made_with.plan.chunks for run in anew)
    for run in anew:
        made = run.made_with
        again = KVMemory(made.plan.memory_plan(made.labels), backbone.attention, rotate)
        if kv is not None:
            again.take_over(kv)
        ends: list[CarriedKV] = []
        hear = Listeners(on_end=lambda carried, again=again, ends=ends: ends.append(_handed_over(again)))
        with backbone.reading(again, expected_bytes):
            for _ in rollout(backbone, again, made.plan, noise, hear):
                comfy.model_management.throw_exception_if_processing_interrupted()
                done += 1
                status.say(f"making the memory of the video before anew, {done} of {chunks}")
        [kv] = ends
    assert kv is not None
    memory.kv = kv
    return kv


def _handed_over(memory: KVMemory) -> CarriedKV:
    needed, free = memory.held_bytes, free_main_memory()
    if needed > free:
        raise RuntimeError(
            f"The memory of the video before takes {bytes_in_words(needed)}, and {bytes_in_words(free)} of main memory "
            "are free. This run cannot go on from it. Close other programs, or make all scenes in one run."
        )
    return memory.hand_over()
