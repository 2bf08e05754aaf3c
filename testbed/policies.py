"""The policies that are compared: what every head keeps, and by which rule heads are told apart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headforcing_core.policy import PRESETS, CachePolicy, Tiers
from headforcing_core.rules import LabelRule

_PAPER, _WINDOW = PRESETS["paper"], PRESETS["uniform_21"]
_WHOLE = _WINDOW.memory
_LAST_FRAME, _NO_SINK = Tiers(0, 0, 1), Tiers(0, 0, _WHOLE.frames)
MEASURED, RANDOM = LabelRule(), LabelRule("random")


@dataclass(frozen=True)
class Compared:
    """A policy and the rule of its head labels."""

    policy: CachePolicy
    rule: LabelRule = MEASURED


def _masked(head_type: str, tiers: Tiers, rule: LabelRule = MEASURED) -> Compared:
    """The whole window for every head but those of one type."""
    return Compared(replace(_WINDOW, **{head_type: tiers}), rule)


COMPARED: Mapping[str, Compared] = {
    "full": Compared(replace(PRESETS["full"], rope="absolute")),
    "uniform_21": Compared(_WINDOW),
    "uniform_21_no_sink": Compared(replace(_WINDOW, local=_NO_SINK, anchor=_NO_SINK, memory=_NO_SINK)),
    "uniform": Compared(PRESETS["uniform"]),
    "paper": Compared(_PAPER),
    "enhanced": Compared(PRESETS["enhanced"]),
    "low_vram": Compared(PRESETS["low_vram"]),
    "max": Compared(PRESETS["max"]),
    "paper_random": Compared(_PAPER, RANDOM),
    "paper_swap": Compared(_PAPER, LabelRule("swap")),
    "paper_all_memory": Compared(_PAPER, LabelRule("all_memory")),
    "paper_clamp": Compared(replace(_PAPER, rope="clamp")),
    "paper_tied": Compared(replace(_PAPER, rope="tied")),
    "paper_absolute": Compared(replace(_PAPER, rope="absolute")),
}
"""The comparison of policies. The first five need no profile."""

MASKED: Mapping[str, Compared] = {
    "local_last_frame": _masked("local", _LAST_FRAME),
    "local_last_frame_random": _masked("local", _LAST_FRAME, RANDOM),
    "anchor_last_frame": _masked("anchor", _LAST_FRAME),
    "anchor_last_frame_random": _masked("anchor", _LAST_FRAME, RANDOM),
    "anchor_no_sink": _masked("anchor", _NO_SINK),
    "memory_last_frame": _masked("memory", _LAST_FRAME),
    "memory_last_frame_random": _masked("memory", _LAST_FRAME, RANDOM),
}
"""What each role needs: the whole window, but for the heads of one role, or for as many heads drawn at random."""
