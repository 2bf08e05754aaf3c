"""All families, and how a checkpoint's is told: by its shapes first, among equals by its name."""

from collections.abc import Mapping
from dataclasses import dataclass

from . import causal_forcing, lingbot_world, longlive2, self_gradient_forcing
from .aad_1 import AAD_1
from .family import Family
from .infinite_forcing import INFINITE_FORCING
from .krea_realtime import KREA_REALTIME
from .longlive import LONGLIVE
from .memflow import MEMFLOW
from .one_forcing import ONE_FORCING
from .reward_forcing import REWARD_FORCING
from .rolling_forcing import ROLLING_FORCING
from .self_forcing import SELF_FORCING
from .streamdiffusion_v2 import STREAMDIFFUSION_V2

# The first family of its shapes is the usual one. Workflows name them by these words: new ones go to the end.
FAMILIES: Mapping[str, Family] = {
    "self_forcing": SELF_FORCING,
    "causal_forcing": causal_forcing.CAUSAL_FORCING,
    "causal_forcing_framewise": causal_forcing.FRAMEWISE,
    "longlive": LONGLIVE,
    "reward_forcing": REWARD_FORCING,
    "krea_realtime": KREA_REALTIME,
    "custom": SELF_FORCING,
    "causal_forcing_2step": causal_forcing.TWO_STEP,
    "causal_forcing_1step": causal_forcing.ONE_STEP,
    "one_forcing": ONE_FORCING,
    "self_gradient_forcing": self_gradient_forcing.CHUNKWISE,
    "self_gradient_forcing_framewise": self_gradient_forcing.FRAMEWISE,
    "infinite_forcing": INFINITE_FORCING,
    "memflow": MEMFLOW,
    "aad_1": AAD_1,
    "streamdiffusion_v2": STREAMDIFFUSION_V2,
    "longlive2": longlive2.LONGLIVE2,
    "longlive2_2step": longlive2.TWO_STEP,
    "lingbot_world": lingbot_world.LINGBOT_WORLD,
    "lingbot_world_v2": lingbot_world.V2,
    "rolling_forcing": ROLLING_FORCING,
    "causal_forcing_longvideo": causal_forcing.LONGVIDEO,
}
# Words that all occur in a file's name and those of its folders, and what they tell; the first such row wins.
_NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("rolling_forcing",), "rolling_forcing"),
    (("rollingforcing",), "rolling_forcing"),
    (("causal_forcing", "longvideo"), "causal_forcing_longvideo"),
    (("causalforcing", "longvideo"), "causal_forcing_longvideo"),
    (("self_gradient", "framewise"), "self_gradient_forcing_framewise"),
    (("self_gradient",), "self_gradient_forcing"),
    (("framewise", "2step"), "causal_forcing_2step"),
    (("framewise", "1step"), "causal_forcing_1step"),
    (("causal_forcing", "2step"), "causal_forcing_2step"),
    (("causal_forcing", "1step"), "causal_forcing_1step"),
    (("framewise",), "causal_forcing_framewise"),
    (("causal_forcing",), "causal_forcing"),
    (("causalforcing",), "causal_forcing"),
    (("one_forcing",), "one_forcing"),
    (("oneforcing",), "one_forcing"),
    (("infinite_forcing",), "infinite_forcing"),
    (("memflow",), "memflow"),
    (("aad_1",), "aad_1"),
    (("14b_i2v_1step",), "aad_1"),
    (("streamdiffusion",), "streamdiffusion_v2"),
    (("wan_causal_dmd_v2v",), "streamdiffusion_v2"),
    (("nvfp4_s2",), "longlive2_2step"),
    (("longlive_2", "2step"), "longlive2_2step"),
    (("longlive2", "2step"), "longlive2_2step"),
    (("longlive_2",), "longlive2"),
    (("longlive2",), "longlive2"),
    (("longlive",), "longlive"),
    (("reward",), "reward_forcing"),
    (("krea",), "krea_realtime"),
    (("lingbot", "v2"), "lingbot_world_v2"),
    (("lingbot",), "lingbot_world"),
    (("self_forcing",), "self_forcing"),
    (("selfforcing",), "self_forcing"),
    (("causal_fast",), "lingbot_world_v2"),
    (("longvideo",), "causal_forcing_longvideo"),
)


@dataclass(frozen=True)
class Channels:
    """Channels that a model is given, and those of what it gives back."""

    given: int
    made: int

    def fit(self, family: Family) -> bool:
        """Whether a family's checkpoints have them."""
        return (self.given, self.made) == (family.in_channels, family.space.channels)


def family_by_name(file_name: str, channels: Channels | None = None) -> str:
    """The family that a file's name tells of those with these channels (None: of all); empty where it tells none."""
    name = file_name.lower().replace("-", "_").replace(".", "_").replace(" ", "_")
    fitting = fitting_families(channels)
    return next((known for words, known in _NAMES if known in fitting and all(word in name for word in words)), "")


def fitting_families(channels: Channels | None) -> tuple[str, ...]:
    """The families with these channels, the usual one first; all without."""
    return tuple(name for name, family in FAMILIES.items() if channels is None or channels.fit(family))


def usual_family(channels: Channels | None) -> str:
    """The usual family of those with these channels; that of all, where none has."""
    return next(iter(fitting_families(channels) or fitting_families(None)))


def most_chunk_frames() -> int:
    """The longest chunk that any family can be given: one less than the longest trained range."""
    return max(family.trained_frames for family in FAMILIES.values()) - 1
