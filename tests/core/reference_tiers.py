"""The naive reference: what a head sees of the history, and where that stands (method.md sections 3, 5 and 7)."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

TYPES = ("local", "anchor", "memory")


@dataclass(frozen=True)
class Sizes:
    """Frames in the tiers of one head type (section 3)."""

    sink: int
    episodes: int
    recent: float


@dataclass(frozen=True)
class Rules:
    """What is kept and how it is read."""

    local: Sizes
    anchor: Sizes
    memory: Sizes
    rope: str = "compact"
    commit_context: str = "full"
    compress_from_chunk: int = -1
    percentile: float = 60.0
    trained_frames: int = 21
    episode: str = "frame"
    episode_choice: str = "novelty"
    recall_share: float = 0.2
    fills: bool = False
    kv_precision: str = "model"
    gap: int | None = None
    "Positions between two shots; without it there are none."

    def sizes(self, head_type: str) -> Sizes:
        return {"local": self.local, "anchor": self.anchor, "memory": self.memory}[head_type]


PAPER = Rules(Sizes(0, 0, 1), Sizes(3, 0, 1), Sizes(3, 6, 6), episode="chunk")
PRESETS = {
    "paper": PAPER,
    "enhanced": replace(PAPER, commit_context="recent"),
    "low_vram": replace(PAPER, memory=Sizes(3, 3, 3), compress_from_chunk=1, episode="frame"),
    "max": replace(PAPER, memory=Sizes(3, 9, 6)),
    "uniform": Rules(Sizes(3, 0, 7), Sizes(3, 0, 7), Sizes(3, 0, 7)),
    "uniform_21": Rules(Sizes(3, 0, 15), Sizes(3, 0, 15), Sizes(3, 0, 15)),
    "full": Rules(Sizes(0, 0, math.inf), Sizes(0, 0, math.inf), Sizes(0, 0, math.inf)),
    "recall": replace(PAPER, episode_choice="recall", compress_from_chunk=1, fills=True),
}
PRESETS["tiny"] = replace(PRESETS["recall"], kv_precision="int8")

Seen = tuple[tuple[int, int, str], ...]
"(frame, position, tier) in time order."


@dataclass
class Past:
    """What is left of the committed frames. `flush` and `cut` move the two borders (section 7)."""

    held: dict[str, set[int]] = field(default_factory=lambda: {head_type: set() for head_type in TYPES})
    warm: bool = True
    emptied: bool = False
    "A flush or cut has been: from then on tiers alone say what is kept, however much room there is."
    first_sink: int = 0
    first_recent: int = 0
    "No frame before it is recent again, however many frames the recent tier has room for."
    far: bool = False
    "The history stands at the far end, as for the first chunk after a cut."
    shots: list[int] = field(default_factory=list)
    "First frames of the shots so far."
    begins_shot: bool = False
    "The next chunk is the first one of a shot."
    pinned: tuple[int, ...] = ()
    "Frames of the first chunk of the shot that goes on."

    def is_sink(self, frame: int, sizes: Sizes) -> bool:
        return self.first_sink <= frame < self.first_sink + sizes.sink


def visible(
    rules: Rules,
    head_type: str,
    past: Past,
    first: int,
    chunk_frames: int,
    episodes: Collection[int],
    across_gap: bool = True,
) -> Seen:
    """What a head sees of the history with a chunk that starts at frame `first`; not `across_gap`, what it holds."""
    last_place = rules.trained_frames - chunk_frames  # q0
    sizes = rules.sizes(head_type)
    if past.pinned and sizes.sink:
        sizes = beside_pinned(rules, sizes, chunk_frames)
    nothing_left = past.warm or fits(rules, head_type, past, first, chunk_frames)
    tier = {}
    for frame in sorted(past.held[head_type]):
        if nothing_left or (frame >= first - sizes.recent and frame >= past.first_recent):
            tier[frame] = "recent"
        elif past.is_sink(frame, sizes):
            tier[frame] = "sink"
        elif frame in past.pinned and sizes.sink:
            tier[frame] = "pinned"
        elif head_type == "memory" and frame in episodes:
            tier[frame] = "episode"

    if past.begins_shot and rules.rope != "absolute" and across_gap:
        last_place -= rules.gap  # the chunk itself stays where it is
        sink = range(past.first_sink, past.first_sink + (rules.memory if past.warm else sizes).sink)
        tier = within(tier, sink, last_place)
    recent = [frame for frame in tier if tier[frame] == "recent"]
    older = [frame for frame in tier if tier[frame] != "recent"]
    position = {}
    for frame in recent:
        position[frame] = last_place - (first - frame)
    lowest = position[recent[0]] if recent else last_place
    for rank, frame in enumerate(older):
        if rules.rope == "compact":
            position[frame] = lowest - len(older) + rank
        elif rules.rope == "clamp":
            position[frame] = max(0, last_place - (first - frame))
        elif rules.rope == "tied":
            position[frame] = 0
    if rules.rope == "absolute":
        position = {frame: moved(rules, past.shots, frame) for frame in tier}
    if past.far:
        position = {frame: rank for rank, frame in enumerate(sorted(tier))}
    return tuple((frame, position[frame], tier[frame]) for frame in sorted(tier))


def chunk_place(rules: Rules, shots: Sequence[int], first: int, chunk_frames: int) -> int:
    """Position of the first frame of a chunk (section 5)."""
    return moved(rules, shots, first) if rules.rope == "absolute" else rules.trained_frames - chunk_frames


def moved(rules: Rules, shots: Sequence[int], frame: int) -> int:
    """Absolute position: every shot up to a frame has moved it on."""
    return frame + sum((rules.gap or 0) for shot in shots if shot <= frame)


def beside_pinned(rules: Rules, sizes: Sizes, chunk_frames: int) -> Sizes:
    """What is left for the tiers, frame by frame, or episode by episode, when a chunk is pinned as well."""
    unit = chunk_frames if rules.episode == "chunk" else 1
    episodes, recent = sizes.episodes // unit * unit, sizes.recent
    while sizes.sink + chunk_frames + episodes + recent > rules.trained_frames - chunk_frames:
        if episodes > 0:
            episodes -= unit
        else:
            recent -= 1
    return Sizes(sizes.sink, max(episodes, 0), recent)


def within(tier: dict[int, str], sink: range, room: int) -> dict[int, str]:
    """What the first chunk of a shot sees when the trained range leaves so much room: what does not fit is left out one
    by one, of the episodes the oldest first, then of the recent tier."""
    left = {frame: kind for frame, kind in tier.items() if kind != "pinned"}
    while len(left) > room:
        episodes = [frame for frame, kind in left.items() if kind == "episode"]
        recent = [frame for frame, kind in left.items() if kind == "recent" and frame not in sink]
        del left[min(episodes or recent)]
        if not episodes:  # what comes before the hole is not recent any more
            left |= {frame: "sink" for frame in left if frame in sink}
    return left


def fits(rules: Rules, head_type: str, past: Past, first: int, chunk_frames: int) -> bool:
    """Whether a policy that fills leaves a head type all `first` frames: its tiers together have room for as many, not
    counting what no whole episode would fill, and nothing was emptied."""
    sizes = rules.sizes(head_type)
    unit = chunk_frames if rules.episode == "chunk" else 1
    room = sizes.sink + sizes.episodes // unit * unit + sizes.recent
    return rules.fills and not past.emptied and first <= room


def ends_warm_up(rules: Rules, first: int, chunk_frames: int, number: int | None) -> bool:
    """Section 3, for the chunk that starts at frame `first`; `number` among the generated ones, none in the prefix. A
    policy that fills asks for frames alone: chunk k of a video without a prefix starts at frame k times a chunk's."""
    if first + chunk_frames > rules.trained_frames:
        return True
    if rules.fills:
        latest = rules.trained_frames // chunk_frames  # the first chunk that would read past the range
        start = latest if rules.compress_from_chunk == -1 else rules.compress_from_chunk
        return first > chunk_frames * (start - 1)
    return rules.compress_from_chunk != -1 and number is not None and number >= rules.compress_from_chunk


def redone_chunks(rules: Rules, chunk_frames: int) -> int:
    """How many chunks `recache` commits again (section 7)."""
    return max(1, math.ceil(min(rules.memory.recent, 6) / chunk_frames))


def left_recent(rules: Rules, past: Past, first: int, frames: int) -> Sequence[int]:
    """Frames that leave the memory heads' recent tier, warm-up or not, as `frames` frames are committed at `first`."""
    return [
        frame
        for frame in range(past.first_recent, first + frames)
        if first - rules.memory.recent <= frame < first + frames - rules.memory.recent
    ]
