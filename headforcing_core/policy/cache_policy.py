"""From head type to what is kept: tier sizes, presets, and what they come to on one model (method.md section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..geometry import TRAINED_FRAMES, first_compressed_chunk
from .positions import ROPE_MODES

HEAD_TYPES = ("local", "anchor", "memory")
COMMIT_CONTEXTS = ("full", "recent")
EPISODES = ("frame", "chunk")
AS_LATE_AS_POSSIBLE = -1


@dataclass(frozen=True)
class Tiers:
    """Frames of history that one head type keeps: sink, episodes and recent."""

    sink: int
    episodes: int
    recent: int

    @property
    def frames(self) -> int:
        """History frames in all three tiers together."""
        return self.sink + self.episodes + self.recent


@dataclass(frozen=True)
class CachePolicy:
    """What every head type keeps, and how it is read. ValueError for an unknown mode or an impossible number.

    `keep_everything` overrides the tiers: nothing is ever dropped. `compress_from_chunk` -1 is as late as the trained
    range allows. `trained_frames` 0 takes the model's own. `episode` says what an episode is: one frame of a chunk, or
    all of them; the tier's size counts frames in either case.
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

    def __post_init__(self) -> None:
        for name, value, known in (
            ("rope", self.rope, ROPE_MODES),
            ("commit_context", self.commit_context, COMMIT_CONTEXTS),
            ("episode", self.episode, EPISODES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}. Known are {', '.join(known)}. Choose one of them.")
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
    def needs_profile(self) -> bool:
        """Whether head types differ in what they keep, so that heads must be told apart."""
        return not self.keep_everything and not self.local == self.anchor == self.memory

    def tiers(self, head_type: str) -> Tiers:
        """Sizes of one head type, as asked for."""
        return {"local": self.local, "anchor": self.anchor, "memory": self.memory}[head_type]

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


def _every_head(name: str, tiers: Tiers) -> CachePolicy:
    return CachePolicy(name, tiers, tiers, tiers)


_PAPER = CachePolicy("paper", local=Tiers(0, 0, 1), anchor=Tiers(3, 0, 1), memory=Tiers(3, 6, 6))
PRESETS: Mapping[str, CachePolicy] = {
    "paper": _PAPER,
    "enhanced": replace(_PAPER, name="enhanced", commit_context="recent"),
    "low_vram": replace(_PAPER, name="low_vram", memory=Tiers(3, 3, 3), compress_from_chunk=1, episode="frame"),
    "max": replace(_PAPER, name="max", memory=Tiers(3, 9, 6)),
    "uniform": _every_head("uniform", Tiers(3, 0, 7)),
    "uniform_21": _every_head("uniform_21", Tiers(3, 0, 15)),
    "full": replace(_every_head("full", Tiers(0, 0, TRAINED_FRAMES)), keep_everything=True),
}


@dataclass(frozen=True)
class FittedPolicy:
    """A policy that has met a model: every size resolved. Made by `fit_policy`, which checks it."""

    policy: CachePolicy
    local: Tiers
    anchor: Tiers
    memory: Tiers
    chunk_frames: int
    trained_frames: int
    compress_from_chunk: int

    def tiers(self, head_type: str) -> Tiers:
        """Sizes of one head type."""
        return {"local": self.local, "anchor": self.anchor, "memory": self.memory}[head_type]

    @property
    def episode_frames(self) -> int:
        """Frames of a whole episode."""
        return self.policy.episode_frames(self.chunk_frames)

    def warms_up(self, chunk: int, first_frame: int) -> bool:
        """Whether a chunk that starts at a frame still reads the whole history. Prefix chunks have number -1."""
        if self.policy.keep_everything:
            return True
        return chunk < self.compress_from_chunk and first_frame + self.chunk_frames <= self.trained_frames


def fit_policy(policy: CachePolicy, chunk_frames: int, trained_frames: int, total_frames: int) -> FittedPolicy:
    """Resolve a policy for a model and a length in frames. Room for episodes that no whole one would fill is left out.

    ValueError, naming the tier to shrink, when a head type would read beyond the trained range.
    """
    trained = policy.trained_frames or trained_frames
    if policy.keep_everything:
        if total_frames > trained and policy.rope != "absolute":
            raise ValueError(
                f"The policy full keeps all {total_frames} frames, but the model was trained on {trained}. Beyond that "
                f"only rope = absolute can place them (as a control; the picture will fall apart). Choose another "
                f"preset, set rope to absolute, or make the video shorter."
            )
        everything = Tiers(0, 0, total_frames)
        never = total_frames // chunk_frames + 1
        return FittedPolicy(policy, everything, everything, everything, chunk_frames, trained, never)
    unit = policy.episode_frames(chunk_frames)
    if 0 < policy.memory.episodes < unit:
        raise ValueError(
            f"memory_episodes is {policy.memory.episodes} frames, but an episode is a whole chunk of {chunk_frames}. "
            f"None would fit. Set memory_episodes to {chunk_frames} or more, or to 0, or set episode to frame."
        )
    whole = {head_type: policy.whole_tiers(head_type, chunk_frames) for head_type in HEAD_TYPES}
    for head_type, tiers in whole.items():
        if tiers.frames + chunk_frames > trained:
            raise ValueError(
                f"{head_type} heads keep {tiers.frames} frames (sink {tiers.sink}, episodes {tiers.episodes}, recent "
                f"{tiers.recent}) and read them with a chunk of {chunk_frames}: {tiers.frames + chunk_frames} frames, "
                f"but the model was trained on {trained}. {_shrink(head_type, tiers, trained - chunk_frames, unit)}."
            )
    latest = first_compressed_chunk(chunk_frames, trained)
    start = latest if policy.compress_from_chunk == AS_LATE_AS_POSSIBLE else policy.compress_from_chunk
    if start > latest:
        raise ValueError(
            f"compress_from_chunk is {start}, but chunk {latest} of {chunk_frames} frames already reads past the "
            f"{trained} frames that the model was trained on. Use {latest} or less, or -1 for as late as possible."
        )
    return FittedPolicy(policy, **whole, chunk_frames=chunk_frames, trained_frames=trained, compress_from_chunk=start)


def _shrink(head_type: str, tiers: Tiers, room: int, unit: int) -> str:
    """What to do so that tiers fit into `room` frames: which to make smaller by how much, the largest first; episodes
    by whole ones of `unit` frames."""
    excess, parts = tiers.frames - room, []
    spare = {"sink": tiers.sink, "episodes": tiers.episodes, "recent": tiers.recent - 1}
    for tier in sorted(spare, key=lambda name: -spare[name]):
        if excess > 0 and spare[tier]:
            step = unit if tier == "episodes" else 1
            cut = min(-(-excess // step) * step, spare[tier])
            parts.append(f"{head_type}_{tier} by {cut}")
            excess -= cut
    if excess > 0:
        return "Raise trained_frames, or use a model with shorter chunks"
    return f"Shrink {' and '.join(parts)}"


@dataclass(frozen=True)
class Kept:
    """What one head type holds: frame ids in time order, of which those from `recent_from` on are the recent tier."""

    frames: tuple[int, ...]
    recent_from: int
    sink_end: int

    def tier(self, frame: int) -> str:
        """Tier of a kept frame: recent, sink or episode."""
        return "recent" if frame >= self.recent_from else "sink" if frame < self.sink_end else "episode"


def keep(tiers: Tiers, committed: int, episodes: Sequence[int], base: int = 0, floor: int = 0) -> Kept:
    """What is kept once `committed` frames are there. Tiers are disjoint: recent first, then sink, then episodes.

    The sink begins at frame `base`; the recent tier holds nothing before `floor`.
    """
    recent_from = max(floor, committed - tiers.recent)
    sink_end = base + tiers.sink
    older = {frame for frame in episodes if sink_end <= frame < recent_from} if tiers.episodes else set()
    older.update(range(base, min(sink_end, recent_from)))
    return Kept((*sorted(older), *range(recent_from, committed)), recent_from, sink_end)


def keep_all(committed: int) -> Kept:
    """Warm-up: every committed frame counts as recent, for every head type."""
    return Kept(tuple(range(committed)), 0, 0)
