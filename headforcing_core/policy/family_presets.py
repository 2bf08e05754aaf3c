"""What a preset keeps with a family whose trained range or window are not those that the presets were made for
(docs/method_decisions.md, presets and families)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from ..families.family import Family, Window
from ..families.self_forcing import SELF_FORCING
from .cache_policy import CachePolicy
from .head_types import HEAD_TYPES
from .tiers import Tiers

_START_EARLY = ("paper", "enhanced", "max")
"""Where the range is longer they drop frames from chunk 1 on: else their first seconds take as much as all of it."""


@dataclass(frozen=True)
class _Room:
    """What tiers are shared out of: the trained range but for what stands behind a chunk, a chunk of it, the family's
    window, frames of an episode."""

    trained: int
    chunk: int
    window: Window
    episode: int

    @property
    def history(self) -> int:
        """Frames beside the chunk."""
        return self.trained - self.chunk

    @property
    def sink(self) -> int:
        """The window's sink in whole chunks if it holds one; it leaves a frame."""
        sink = self.window.sink
        return min(sink // self.chunk * self.chunk or sink, self.history - 1)

    def whole(self, frames: int) -> int:
        """As many whole episodes as so many frames hold, in frames."""
        return frames // self.episode * self.episode


_Sizes = tuple[Tiers, Tiers, Tiers]
"""Of local, anchor and memory heads."""


def for_family(policy: CachePolicy, chunk_frames: int, family: Family) -> CachePolicy:
    """A policy as a family takes it, before it is fitted: what was set by hand stays, every other size of its preset is
    reckoned from the trained range, the chunk and the family's window. Where these are the usual range and window
    nothing changes, whatever the chunk."""
    trained = policy.trained_frames or family.trained_frames
    usual = (SELF_FORCING.trained_frames, SELF_FORCING.window)
    sizes = _SIZES.get(policy.name)
    if (family.trained_frames, family.window) == usual or sizes is None:
        return policy
    shared = max(trained - family.ahead(chunk_frames), chunk_frames + 1)
    room = _Room(shared, chunk_frames, family.window, policy.episode_frames(chunk_frames))
    local, anchor, memory = sizes(room)  # for a range that holds no history too, which fitting refuses
    if family.ahead(chunk_frames) and policy.memory.episodes and not memory.episodes:
        old = room.whole(memory.sink)  # an old chunk that is chosen stands where the first one would
        memory = replace(memory, sink=memory.sink - old, episodes=old)
    starts_early = policy.name in _START_EARLY and trained > SELF_FORCING.trained_frames
    start = 1 if starts_early and "compress_from_chunk" not in policy.by_hand else policy.compress_from_chunk
    asked = {f"{head}_{tier}": size for head in HEAD_TYPES for tier, size in asdict(policy.tiers(head)).items()}
    by_hand = {name: size for name, size in asked.items() if name in policy.by_hand}
    return replace(policy, local=local, anchor=anchor, memory=memory, compress_from_chunk=start).with_sizes(by_hand)


def _paper(room: _Room) -> _Sizes:
    left, near, usual = room.history - room.sink, -(-room.chunk // 3), max(6, room.chunk)
    episodes = room.whole(min(usual, left // 2))
    return (
        Tiers(0, 0, min(near, room.history)),
        Tiers(room.sink, 0, min(near, left)),
        Tiers(room.sink, episodes, min(usual, left - episodes)),
    )


def _max(room: _Room) -> _Sizes:
    local, anchor, memory = _paper(room)
    left = room.history - memory.sink - memory.recent
    return local, anchor, replace(memory, episodes=room.whole(min(max(9, room.chunk), left)))


def _low_vram(room: _Room) -> _Sizes:
    sink = min(room.sink, 4)
    recent = min(max(3, room.chunk), room.history - sink)
    left = room.history - sink - recent
    episodes = min(sink, left // 3) if room.episode == 1 else room.whole(min(max(3, room.chunk), left))
    return Tiers(0, 0, 1), Tiers(sink, 0, 1), Tiers(sink, episodes, recent)


def _uniform(room: _Room) -> _Sizes:
    sink = min(room.window.sink, room.history - 1)
    return _alike(Tiers(sink, 0, min(room.window.recent, room.history - sink)))


def _uniform_21(room: _Room) -> _Sizes:
    sink = min(room.window.sink, room.history - 1)
    return _alike(Tiers(sink, 0, max(1, room.trained - sink - max(3, room.chunk))))


def _alike(tiers: Tiers) -> _Sizes:
    return tiers, tiers, tiers


_SIZES: Mapping[str, Callable[[_Room], _Sizes]] = {
    "paper": _paper,
    "enhanced": _paper,
    "low_vram": _low_vram,
    "max": _max,
    "uniform": _uniform,
    "uniform_21": _uniform_21,
    "recall": _paper,
    "tiny": _paper,
}
