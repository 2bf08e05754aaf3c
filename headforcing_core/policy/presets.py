"""The policies that have a name."""

from collections.abc import Mapping
from dataclasses import replace

from ..families.self_forcing import SELF_FORCING
from .cache_policy import CachePolicy
from .tiers import Tiers


def _every_head(name: str, tiers: Tiers) -> CachePolicy:
    return CachePolicy(name, tiers, tiers, tiers)


_PAPER = CachePolicy("paper", local=Tiers(0, 0, 1), anchor=Tiers(3, 0, 1), memory=Tiers(3, 6, 6))
_RECALL = replace(_PAPER, name="recall", episode_choice="recall", compress_from_chunk=1, fills=True)
PRESETS: Mapping[str, CachePolicy] = {
    "paper": _PAPER,
    "enhanced": replace(_PAPER, name="enhanced", commit_context="recent"),
    "low_vram": replace(_PAPER, name="low_vram", memory=Tiers(3, 3, 3), compress_from_chunk=1, episode="frame"),
    "max": replace(_PAPER, name="max", memory=Tiers(3, 9, 6)),
    "uniform": _every_head("uniform", Tiers(3, 0, 7)),
    "uniform_21": _every_head("uniform_21", Tiers(3, 0, 15)),
    "full": replace(_every_head("full", Tiers(0, 0, SELF_FORCING.trained_frames)), keep_everything=True),
    "recall": _RECALL,
    "tiny": replace(_RECALL, name="tiny", kv_precision="int8"),
}
