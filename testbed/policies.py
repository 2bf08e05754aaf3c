"""The policies that are compared: what every head keeps, and by which rule heads are told apart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headforcing_core.heads.rules import LabelRule
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers

_PAPER, _WINDOW = PRESETS["paper"], PRESETS["uniform_21"]
_WHOLE = _WINDOW.memory
_LAST_FRAME, _NO_SINK, _NO_MIDDLE = Tiers(0, 0, 1), Tiers(0, 0, _WHOLE.frames), Tiers(_WHOLE.sink, 0, 1)
MEASURED, RANDOM, EVERY_HEAD = LabelRule(), LabelRule("random"), LabelRule("all_memory")
THIRDS, RANDOM_THIRDS = (LabelRule(rule, 1 / 3, 1 / 2) for rule in ("head_forcing", "random"))


@dataclass(frozen=True)
class Compared:
    """A policy and the rule of its head labels. The rule `random` draws anew for every video. An `oracle` is told which
    old chunks show the present place."""

    policy: CachePolicy
    rule: LabelRule = MEASURED
    oracle: bool = False


def _masked(head_type: str, tiers: Tiers, rule: LabelRule = THIRDS) -> Compared:
    """The whole window for every head but those of one type."""
    return Compared(replace(_WINDOW, **{head_type: tiers}), rule)


COMPARED: Mapping[str, Compared] = {
    "full": Compared(replace(PRESETS["full"], rope="absolute")),
    "uniform_21": Compared(_WINDOW),
    "uniform_21_no_sink": Compared(replace(_WINDOW, local=_NO_SINK, anchor=_NO_SINK, memory=_NO_SINK)),
    "uniform": Compared(PRESETS["uniform"]),
    "uniform_frames": Compared(replace(_PAPER, memory=Tiers(3, 3, 4), episode="frame"), EVERY_HEAD),
    "uniform_chunks": Compared(replace(_PAPER, memory=Tiers(0, 6, 4)), EVERY_HEAD),
    "paper": Compared(_PAPER),
    "paper_frames": Compared(replace(_PAPER, episode="frame")),
    "enhanced": Compared(PRESETS["enhanced"]),
    "low_vram": Compared(PRESETS["low_vram"]),
    "max": Compared(PRESETS["max"]),
    "paper_random": Compared(_PAPER, RANDOM),
    "paper_swap": Compared(_PAPER, LabelRule("swap")),
    "paper_all_memory": Compared(_PAPER, EVERY_HEAD),
    "paper_clamp": Compared(replace(_PAPER, rope="clamp")),
    "paper_tied": Compared(replace(_PAPER, rope="tied")),
    "paper_absolute": Compared(replace(_PAPER, rope="absolute")),
}
"""The comparison of policies. `uniform_frames` and `uniform_chunks` give every head episodes, single frames or two
whole chunks, within the size of `uniform`: between them and `uniform` lies what episodes do, between them and `paper`
what roles do. In `paper_frames` an episode is a single frame."""

MASKED: Mapping[str, Compared] = {
    "local_last_frame": _masked("local", _LAST_FRAME),
    "anchor_last_frame": _masked("anchor", _LAST_FRAME),
    "memory_last_frame": _masked("memory", _LAST_FRAME),
    "random_last_frame": _masked("memory", _LAST_FRAME, RANDOM_THIRDS),
    "anchor_no_sink": _masked("anchor", _NO_SINK),
    "memory_no_sink": _masked("memory", _NO_SINK),
    "anchor_no_middle": _masked("anchor", _NO_MIDDLE),
    "memory_no_middle": _masked("memory", _NO_MIDDLE),
}
"""What each role needs: the whole window, but for one third of the heads. For this the heads are told apart by the same
rule into thirds, so that harm does not follow size."""

_WHOLE_WARM_UP = replace(PRESETS["recall"], compress_from_chunk=-1, fills=False)
RECALLED: Mapping[str, Compared] = {
    "paper": COMPARED["paper"],
    "recall": Compared(_WHOLE_WARM_UP),
    "oracle": Compared(_WHOLE_WARM_UP, oracle=True),
    "uniform": COMPARED["uniform"],
}
"""A memory that looks, beside one that does not, one that need not look, and none; with warm-up as in `paper`, as it
was measured before tiers filled."""

LEAN: Mapping[str, Compared] = {
    "recall": RECALLED["recall"],
    "recall_fills": Compared(PRESETS["recall"]),
    "tiny": Compared(PRESETS["tiny"]),
}
"""The same with less memory: tiers that fill, as the presets have them, and K and V in 8 bits."""

POSITIONS, HEADS = ("compact", "absolute"), {"sorted": MEASURED, "random": RANDOM, "all": EVERY_HEAD}
MEMORIES = {
    "none": Compared(replace(_PAPER, memory=Tiers(3, 0, 12))),
    "bank": Compared(_PAPER),
    "recall": RECALLED["recall"],
    "oracle": RECALLED["oracle"],
}
FACTORIAL: Mapping[str, Compared] = {
    f"{memory}_{heads}_{positions}": replace(compared, policy=replace(compared.policy, rope=positions), rule=rule)
    for memory, compared in MEMORIES.items()
    for heads, rule in HEADS.items()
    for positions in POSITIONS
}
"""Which part of a gain is whose: every memory under every sorting of heads and every kind of positions. `none` reads
the same number of frames as recent ones."""
