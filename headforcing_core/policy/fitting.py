"""A policy that has met a model: every size resolved (method.md section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from ..families.family import Shots
from ..geometry import first_compressed_chunk
from .cache_policy import AS_LATE_AS_POSSIBLE, PROFILE_SHARE, CachePolicy
from .head_types import HEAD_TYPES
from .tiers import Tiers

USUAL_SHARE = 0.2


@dataclass(frozen=True)
class FittedPolicy:
    """A policy that has met a model: every size resolved, in frames, and all that a rollout goes by. Made by
    `fit_policy`, which checks it. `asked` is what it was made from, for the report and run.json alone. `recall_layers`
    are those whose keys tell what is recalled; None are the usual ones. `shots` is how the model was taught a new one;
    None: not at all. `trained_frames` are those that a chunk and its history share; `ahead` more are the noise that
    stands behind the chunk."""

    asked: CachePolicy
    local: Tiers
    anchor: Tiers
    memory: Tiers
    chunk_frames: int
    trained_frames: int
    compress_from_chunk: int
    episode_frames: int
    rope: str
    commit_context: str
    novelty_percentile: float
    keep_everything: bool
    recalls: bool
    recall_share: float
    recall_layers: tuple[int, ...] | None
    kv_precision: str
    fills: bool
    shots: Shots | None = None
    ahead: int = 0

    @property
    def trained_range(self) -> int:
        """All frames that a query sees in training."""
        return self.trained_frames + self.ahead

    def tiers(self, head_type: str) -> Tiers:
        """Sizes of one head type."""
        return {"local": self.local, "anchor": self.anchor, "memory": self.memory}[head_type]

    @property
    def episodes(self) -> int:
        """Whole episodes that memory heads have room for."""
        return self.memory.episodes // self.episode_frames

    @property
    def gap(self) -> int:
        """Frames that a new shot stands away from what was before it."""
        return 0 if self.shots is None else self.shots.gap

    def pinned(self, head_type: str) -> int:
        """Frames of the chunk that a shot pins, in heads of a type: those with a sink hold it beside that."""
        return self.chunk_frames if self.shots is not None and self.tiers(head_type).sink else 0

    def beside_pinned(self, head_type: str) -> Tiers:
        """Sizes of one head type while a chunk is pinned. Room that it lacks is taken from episodes, whole ones, then
        from recent."""
        tiers, pinned = self.tiers(head_type), self.pinned(head_type)
        lacking = max(0, tiers.frames + pinned + self.chunk_frames - self.trained_frames) if pinned else 0
        given = min(-(-lacking // self.episode_frames) * self.episode_frames, tiers.episodes)
        return replace(tiers, episodes=tiers.episodes - given, recent=tiers.recent - max(0, lacking - given))

    @property
    def episodes_beside_pinned(self) -> int:
        """Whole episodes that memory heads have room for while a chunk is pinned."""
        return self.beside_pinned("memory").episodes // self.episode_frames

    def capacity(self, head_type: str) -> int:
        """The most frames of history that one head type holds past warm-up, whatever takes over."""
        return max(self.tiers(head_type).frames, self.beside_pinned(head_type).frames + self.pinned(head_type))

    def recalling(self, layers: tuple[int, ...] | None, share: float | None) -> Self:
        """The same with what was found out for a checkpoint, if it recalls at all: by which layers, and within which
        share unless one was asked for. None: nothing was found out."""
        if not self.recalls:
            return self
        takes_share = self.asked.recall_share == PROFILE_SHARE and share is not None
        return replace(self, recall_layers=layers, recall_share=share if takes_share else self.recall_share)

    def warms_up(self, chunk: int, first_frame: int) -> bool:
        """Whether every head still reads the whole history with a chunk that starts at a frame. Prefix chunks have
        number -1. A policy that fills reads no more of a prefix than of a video without one."""
        if self.keep_everything:
            return True
        if first_frame + self.chunk_frames > self.trained_frames:
            return False
        if self.fills:
            return first_frame <= (self.compress_from_chunk - 1) * self.chunk_frames
        return chunk < self.compress_from_chunk

    def has_room(self, head_type: str, committed: int) -> bool:
        """Whether a head type keeps so many frames whole although warm-up is over."""
        return self.fills and committed <= self.tiers(head_type).frames


def fit_policy(
    policy: CachePolicy,
    chunk_frames: int,
    trained_frames: int,
    total_frames: int,
    shots: Shots | None = None,
    ahead: int = 0,
) -> FittedPolicy:
    """Resolve a policy for a model and a length in frames. Room for episodes that no whole one would fill is left out.
    `shots` are those of the model's family; `ahead` are the frames of noise that it has behind a chunk.

    ValueError, naming the tier to shrink, when a head type would read beyond the trained range.
    """
    trained = (policy.trained_frames or trained_frames) - ahead
    told = f"{trained + ahead}" + (f", of which {ahead} stand behind the chunk" if ahead else "")
    if policy.keep_everything:
        if total_frames > trained and policy.rope != "absolute":
            raise ValueError(
                f"The policy full keeps all {total_frames} frames, but the model was trained on {told}. Beyond that "
                f"only rope = absolute can place them (as a control; the picture will fall apart). Choose another "
                f"preset, set rope to absolute, or make the video shorter."
            )
        everything = {head_type: Tiers(0, 0, total_frames) for head_type in HEAD_TYPES}
        never = total_frames // chunk_frames + 1
        return replace(_fitted(policy, everything, chunk_frames, trained, never), shots=shots, ahead=ahead)
    unit = policy.episode_frames(chunk_frames)
    if 0 < policy.memory.episodes < unit:
        frame = "" if policy.recalls else ", or set episode to frame"
        raise ValueError(
            f"memory_episodes is {policy.memory.episodes} frames, but an episode is a whole chunk of {chunk_frames}. "
            f"None would fit. Set memory_episodes to {chunk_frames} or more, or to 0{frame}."
        )
    whole = {head_type: policy.whole_tiers(head_type, chunk_frames) for head_type in HEAD_TYPES}
    for head_type, tiers in whole.items():
        if tiers.frames + chunk_frames > trained:
            raise ValueError(
                f"{head_type} heads keep {tiers.frames} frames (sink {tiers.sink}, episodes {tiers.episodes}, recent "
                f"{tiers.recent}) and read them with a chunk of {chunk_frames}: {tiers.frames + chunk_frames} frames, "
                f"but the model was trained on {told}. {_shrink(head_type, tiers, trained - chunk_frames, unit)}."
            )
    latest = first_compressed_chunk(chunk_frames, trained)
    start = latest if policy.compress_from_chunk == AS_LATE_AS_POSSIBLE else policy.compress_from_chunk
    if start > latest:
        raise ValueError(
            f"compress_from_chunk is {start}, but chunk {latest} of {chunk_frames} frames already reads past the "
            f"{trained} frames that the model was trained on. Use {latest} or less, or -1 for as late as possible."
        )
    return replace(_fitted(policy, whole, chunk_frames, trained, start), shots=shots, ahead=ahead)


def _fitted(
    asked: CachePolicy, tiers: Mapping[str, Tiers], chunk_frames: int, trained_frames: int, compress_from_chunk: int
) -> FittedPolicy:
    return FittedPolicy(
        asked,
        local=tiers["local"],
        anchor=tiers["anchor"],
        memory=tiers["memory"],
        chunk_frames=chunk_frames,
        trained_frames=trained_frames,
        compress_from_chunk=compress_from_chunk,
        episode_frames=asked.episode_frames(chunk_frames),
        rope=asked.rope,
        commit_context=asked.commit_context,
        novelty_percentile=asked.novelty_percentile,
        keep_everything=asked.keep_everything,
        recalls=asked.recalls and not asked.keep_everything,
        recall_layers=None,
        recall_share=USUAL_SHARE if asked.recall_share == PROFILE_SHARE else asked.recall_share,
        kv_precision=asked.kv_precision,
        fills=asked.fills,
    )


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
