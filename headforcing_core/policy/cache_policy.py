"""What is asked for: tier sizes of every head type, and how they are read (method.md section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from .head_types import HEAD_TYPES
from .positions import ROPE_MODES
from .tiers import Tiers

COMMIT_CONTEXTS = ("full", "recent")
EPISODES = ("frame", "chunk")
EPISODE_CHOICES = ("novelty", "recall")
KV_PRECISIONS = ("model", "int8")
AS_LATE_AS_POSSIBLE = -1
PROFILE_SHARE = -1.0


@dataclass(frozen=True)
class CachePolicy:
    """What every head type keeps, and how it is read. ValueError for an unknown mode or an impossible number.

    `keep_everything` overrides the tiers: nothing is ever dropped. `compress_from_chunk` -1 is as late as the trained
    range allows. `trained_frames` 0 takes the model's own. `episode` says what an episode is: one frame of a chunk, or
    all of them; the tier's size counts frames in either case. `episode_choice` says which they are: `novelty` keeps
    what is unlike the rest, `recall` looks at every prompt change which old chunks show the present place. Those do
    that are within `recall_share` of the way from the most alike to the least; -1 takes the share that the head profile
    has for the checkpoint, or the usual one. `kv_precision` says in how many bits K and V are kept: the model's own
    type, or 8. With `fills` a head type drops nothing, past warm-up too, while all that was committed fits into its
    tiers together; warm-up then ends by frames, those of a prefix counted, not by the number of a chunk. `by_hand`
    names the numbers that were set by hand, as `memory_sink` or `compress_from_chunk`: a family leaves them alone.
    """

    name: str
    local: Tiers
    anchor: Tiers
    memory: Tiers
    rope: str = "compact"
    commit_context: str = "full"
    compress_from_chunk: int = AS_LATE_AS_POSSIBLE
    novelty_percentile: float = 60.0
    trained_frames: int = 0
    keep_everything: bool = False
    episode: str = "chunk"
    episode_choice: str = "novelty"
    recall_share: float = PROFILE_SHARE
    kv_precision: str = "model"
    fills: bool = False
    by_hand: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("rope", self.rope, ROPE_MODES),
            ("commit_context", self.commit_context, COMMIT_CONTEXTS),
            ("episode", self.episode, EPISODES),
            ("episode_choice", self.episode_choice, EPISODE_CHOICES),
            ("kv_precision", self.kv_precision, KV_PRECISIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}. Known are {', '.join(known)}. Choose one of them.")
        if self.recalls and self.episode != "chunk":
            raise ValueError(
                f"episode_choice is recall, but episode is {self.episode}. Whole chunks are recalled, since less "
                "brings nothing back. Set episode to chunk, or episode_choice to novelty."
            )
        if self.recall_share != PROFILE_SHARE and not 0 <= self.recall_share < 1:
            raise ValueError(
                f"recall_share is {self.recall_share}. It is a share of the way from the most alike chunk to the "
                "least, 0 or more and below 1. Use -1 for what the head profile says, or 0.2 where it says nothing."
            )
        if self.compress_from_chunk < AS_LATE_AS_POSSIBLE or self.compress_from_chunk == 0:
            raise ValueError(
                f"compress_from_chunk is {self.compress_from_chunk}. The first chunk has no history to "
                "compress. Use 1 or more, or -1 for as late as the trained range allows."
            )
        for head_type in HEAD_TYPES:
            _check_sizes(head_type, self.tiers(head_type))
        if not 0 <= self.novelty_percentile <= 100:
            raise ValueError(
                f"novelty_percentile is {self.novelty_percentile}. A percentile lies between 0 and 100. "
                "60 is the usual value."
            )

    @property
    def recalls(self) -> bool:
        """Whether episodes are chosen by looking at the present."""
        return self.episode_choice == "recall"

    @property
    def needs_profile(self) -> bool:
        """Whether head types differ in what they keep, so that heads must be told apart."""
        return not self.keep_everything and not self.local == self.anchor == self.memory

    def tiers(self, head_type: str) -> Tiers:
        """Sizes of one head type, as asked for."""
        return {"local": self.local, "anchor": self.anchor, "memory": self.memory}[head_type]

    def with_sizes(self, sizes: Mapping[str, int]) -> Self:
        """The same with other sizes, each by its head type and tier, as `memory_sink`."""
        changed = self
        for name, frames in sizes.items():
            head_type, tier = name.split("_")
            changed = replace(changed, **{head_type: replace(changed.tiers(head_type), **{tier: frames})})
        return changed

    def episode_frames(self, chunk_frames: int) -> int:
        """Frames of a whole episode."""
        return chunk_frames if self.episode == "chunk" else 1

    def whole_tiers(self, head_type: str, chunk_frames: int) -> Tiers:
        """Sizes of one head type, without room for episodes that no whole one would fill."""
        tiers, unit = self.tiers(head_type), self.episode_frames(chunk_frames)
        return replace(tiers, episodes=tiers.episodes // unit * unit)


def _check_sizes(head_type: str, tiers: Tiers) -> None:
    for tier, size in (("sink", tiers.sink), ("episodes", tiers.episodes), ("recent", tiers.recent)):
        if size < 0:
            raise ValueError(
                f"{head_type}_{tier} is {size} frames. A tier cannot hold fewer than none. Set it to 0 or more."
            )
    if tiers.recent == 0:
        raise ValueError(
            f"{head_type}_recent is 0 frames. Without the last frame before the chunk the video jumps at every chunk. "
            "Set it to 1 or more."
        )
    if tiers.episodes and head_type != "memory":
        raise ValueError(
            f"{head_type} heads are given {tiers.episodes} episodes. Only memory heads pick old frames. Set them to 0."
        )
