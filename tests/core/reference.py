"""The naive reference (method.md section 9, truth 2), written from method.md alone and sharing no code with the core.

It keeps every frame's raw K and V of every layer for ever, decides anew for every pass which frames a head may see and
where they stand, and gathers, rotates and attends head by head.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

NEAR_TIE = 1e-5
"Novelties this near the threshold are decided by rounding; there the recorded decision is taken."


class Model(Protocol):
    """x0 of a chunk; `attend(layer, q, k, v)` gets (1, tokens, heads, head_dim) and gives (1, tokens, width)."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype

    def clean(
        self, x: Tensor, sigma: float, text: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor: ...


@dataclass(frozen=True)
class Sizes:
    """Frames in the tiers of one head type (section 3)."""

    sink: int
    episodes: int
    recent: int


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
    keep_everything: bool = False

    def sizes(self, head_type: str) -> Sizes:
        return {"local": self.local, "anchor": self.anchor, "memory": self.memory}[head_type]


PAPER = Rules(Sizes(0, 0, 1), Sizes(3, 0, 1), Sizes(3, 6, 6))
PRESETS = {
    "paper": PAPER,
    "enhanced": replace(PAPER, commit_context="recent"),
    "low_vram": replace(PAPER, memory=Sizes(3, 3, 3), compress_from_chunk=1),
    "max": replace(PAPER, memory=Sizes(3, 9, 6)),
    "uniform": Rules(Sizes(3, 0, 7), Sizes(3, 0, 7), Sizes(3, 0, 7)),
    "uniform_21": Rules(Sizes(3, 0, 15), Sizes(3, 0, 15), Sizes(3, 0, 15)),
    "full": Rules(Sizes(0, 0, 0), Sizes(0, 0, 0), Sizes(0, 0, 0), keep_everything=True),
}

Seen = tuple[tuple[int, int, str], ...]
"(frame, position, tier) in time order."


def visible(rules: Rules, head_type: str, chunk: int, chunk_frames: int, episodes: Sequence[int]) -> Seen:
    """What a head sees of the history with a chunk (sections 3 and 5)."""
    committed = chunk * chunk_frames
    last_place = rules.trained_frames - chunk_frames  # q0
    first_compressed = rules.compress_from_chunk
    if first_compressed == -1:
        first_compressed = (rules.trained_frames - chunk_frames) // chunk_frames + 1
    sizes = rules.sizes(head_type)

    if rules.keep_everything or chunk < first_compressed:
        tier = {frame: "recent" for frame in range(committed)}
    else:
        tier = {}
        for frame in range(committed):
            if frame >= committed - sizes.recent:
                tier[frame] = "recent"
            elif frame < sizes.sink:
                tier[frame] = "sink"
            elif head_type == "memory" and frame in episodes:
                tier[frame] = "episode"

    recent = [frame for frame in tier if tier[frame] == "recent"]
    older = [frame for frame in tier if tier[frame] != "recent"]
    position = {}
    for frame in recent:
        position[frame] = last_place - (committed - frame)
    lowest = position[recent[0]] if recent else last_place
    for rank, frame in enumerate(older):
        if rules.rope == "compact":
            position[frame] = lowest - len(older) + rank
        elif rules.rope == "clamp":
            position[frame] = max(0, last_place - (committed - frame))
        elif rules.rope == "tied":
            position[frame] = 0
    if rules.rope == "absolute":
        position = {frame: frame for frame in tier}
    return tuple((frame, position[frame], tier[frame]) for frame in sorted(tier))


def chunk_place(rules: Rules, chunk: int, chunk_frames: int) -> int:
    """Position of a chunk's first frame (section 5)."""
    return chunk * chunk_frames if rules.rope == "absolute" else rules.trained_frames - chunk_frames


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate."""

    frame: int
    novelty: float
    tau: float
    admitted: bool
    dropped: int | None


@dataclass
class Bank:
    """The episodes, and all that was ever decided about them (section 4)."""

    sink: int
    size: int
    percentile: float
    episodes: list[int] = field(default_factory=list)
    protected: list[int] = field(default_factory=list)
    novelties: list[float] = field(default_factory=list)
    last: int | None = None
    admitted_in_segment: list[int] = field(default_factory=list)

    def judge(
        self, frame: int, descriptors: Mapping[int, Tensor], recorded: Mapping[int, bool] | None = None
    ) -> Verdict:
        compared = [alike(descriptors[frame], descriptors[other]) for other in [*range(self.sink), *self.episodes]]
        novelty = 1.0 - max(compared) if compared else 1.0
        tau = max(0.03, percentile(self.novelties[-32:], self.percentile))
        self.novelties.append(novelty)

        new_enough = novelty >= tau
        if recorded is not None and abs(novelty - tau) < NEAR_TIE:
            new_enough = recorded[frame]
        if self.last is None:
            admitted = new_enough or frame - (self.sink - 1) >= 24
        elif frame - self.last < 6:
            admitted = False
        else:
            admitted = new_enough or frame - self.last >= 24
        if not admitted:
            return Verdict(frame, novelty, tau, False, None)

        self.last = frame
        self.episodes.append(frame)
        self.admitted_in_segment.append(frame)
        dropped = None
        if len(self.episodes) > self.size:
            dropped = self._most_alike(descriptors)
            self.episodes.remove(dropped)
        return Verdict(frame, novelty, tau, True, dropped)

    def _most_alike(self, descriptors: Mapping[int, Tensor]) -> int:
        pairs = {}
        for a in self.episodes:
            for b in self.episodes:
                if a < b:
                    pairs[a, b] = alike(descriptors[a], descriptors[b])
        worst, worst_likeness = -1, -math.inf
        for member in sorted(self.episodes):
            if member in self.protected:
                continue
            likeness = max((pairs[pair] for pair in pairs if member in pair), default=-math.inf)
            if worst == -1 or likeness > worst_likeness:
                worst, worst_likeness = member, likeness
        return worst

    def close_segment(self) -> None:
        """A prompt change that keeps the memory."""
        alive = [frame for frame in self.admitted_in_segment if frame in self.episodes]
        self.admitted_in_segment = []
        if alive:
            self.protected.append(max(alive))
        while len(self.protected) > min(4, self.size // 2):
            self.protected.pop(0)


def is_candidate(frame: int, sink: int, chunk_frames: int) -> bool:
    """Section 4, first point. Every chunk here starts at a multiple of its length."""
    if frame < sink:
        return False
    if chunk_frames == 1:
        return frame % 3 == 1
    return frame % chunk_frames == chunk_frames // 2


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the sorted values; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def describe(keys: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Descriptor of one frame from its raw keys per layer, (tokens, heads, head_dim): (layers, 48, head_dim)."""
    layers = []
    for layer_keys in keys:
        picture = layer_keys.float().mean(dim=1).reshape(rows, columns, -1)
        cells = []
        for i in range(6):
            top, bottom = (i * rows) // 6, -((-(i + 1) * rows) // 6)
            for j in range(8):
                left, right = (j * columns) // 8, -((-(j + 1) * columns) // 8)
                cell = picture[top:bottom, left:right].mean(dim=(0, 1))
                cells.append(cell / cell.norm())
        layers.append(torch.stack(cells))
    return torch.stack(layers)


def alike(a: Tensor, b: Tensor) -> float:
    """Mean cosine over cells, then over layers."""
    return float((a * b).sum(dim=2).mean(dim=1).mean())


def descriptor_layers(layers: int) -> list[int]:
    return sorted({layers // 3, layers // 2, 2 * layers // 3})


@cache
def _turns(places: tuple[int, ...], rows: int, columns: int, head_dim: int) -> Tensor:
    """Complex turns exp(i * angle) of frames at these positions: complex128 (frames * rows * columns, pairs)."""
    space = 2 * (head_dim // 6)
    time = head_dim - 2 * space
    turns = []
    for place in places:
        for row in range(rows):
            for column in range(columns):
                angles = [place * 10000.0 ** (-2 * i / time) for i in range(time // 2)]
                angles += [row * 10000.0 ** (-2 * i / space) for i in range(space // 2)]
                angles += [column * 10000.0 ** (-2 * i / space) for i in range(space // 2)]
                turns.append(angles)
    angle = torch.tensor(turns, dtype=torch.float64)
    return torch.polar(torch.ones_like(angle), angle)


def turn(x: Tensor, places: Sequence[int], rows: int, columns: int) -> Tensor:
    """Rotate x (tokens, head_dim), whose frames stand at `places`."""
    frames = [_turns((place,), rows, columns, x.shape[1]) for place in places]
    turns = torch.cat(frames).to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)
    pairs = torch.view_as_complex(x.reshape(x.shape[0], -1, 2))
    return torch.view_as_real(pairs * turns).reshape(x.shape)


@dataclass
class History:
    """Everything ever committed: per layer and frame (tokens, heads, head_dim), and the clean latents per chunk."""

    keys: list[dict[int, Tensor]]
    values: list[dict[int, Tensor]]
    latents: list[Tensor] = field(default_factory=list)


class Pass:
    """Self-attention of one forward pass, head by head. Keeps the chunk's K and V in case it is to be committed."""

    def __init__(
        self,
        history: History,
        labels: Sequence[Sequence[str]],
        seen: Mapping[str, Seen],
        places: Sequence[int],
        rows: int,
        columns: int,
    ) -> None:
        self.history, self.labels, self.seen, self.places = history, labels, seen, list(places)
        self.rows, self.columns = rows, columns
        self.own_keys: list[Tensor] = []
        self.own_values: list[Tensor] = []

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q[0], k[0], v[0]  # (tokens, heads, head_dim)
        self.own_keys.append(k)
        self.own_values.append(v)
        outputs = []
        for head, head_type in enumerate(self.labels[layer]):
            seen = self.seen[head_type]
            keys = torch.cat([self.history.keys[layer][frame][:, head] for frame, _, _ in seen] + [k[:, head]])
            values = torch.cat([self.history.values[layer][frame][:, head] for frame, _, _ in seen] + [v[:, head]])
            places = [place for _, place, _ in seen] + self.places
            keys = turn(keys, places, self.rows, self.columns)
            queries = turn(q[:, head], self.places, self.rows, self.columns)
            weights = torch.softmax(queries @ keys.T / math.sqrt(q.shape[2]), dim=1)
            outputs.append(weights @ values)
        return torch.cat(outputs, dim=1)[None]


@dataclass(frozen=True)
class Made:
    """One chunk of the reference."""

    latent: Tensor
    seen: Mapping[str, Seen]
    verdicts: tuple[Verdict, ...]


Draw = Callable[[int, int, Tensor | None], Tensor]
"(chunk, draw, like) -> noise; draw 0 is the chunk's initial noise, i + 1 the one after step i."


def per_chunk_noise(seed: int, shape: Sequence[int]) -> Draw:
    def draw(chunk: int, number: int, like: Tensor | None) -> Tensor:
        generator = torch.Generator("cpu").manual_seed((seed * 1000003 + chunk * 64 + number) % 2**63)
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    return draw


def native_noise(seed: int, shape: Sequence[int], chunks: int) -> Draw:
    batch, channels, frames, height, width = shape
    whole = torch.randn(
        batch, channels, frames * chunks, height, width, generator=torch.Generator("cpu").manual_seed(seed)
    )

    def draw(chunk: int, number: int, like: Tensor | None) -> Tensor:
        if number == 0:
            return whole[:, :, chunk * frames : (chunk + 1) * frames]
        generator = torch.Generator("cpu").manual_seed(seed + chunk * 1000 + (number - 1))
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    return draw


def generate(
    model: Model,
    rules: Rules,
    labels: Sequence[Sequence[str]],
    chunks: int,
    chunk_frames: int,
    sigmas: Sequence[float],
    texts: Sequence[tuple[int, Tensor]],
    draw: Draw,
    recorded: Mapping[int, bool] | None = None,
) -> list[Made]:
    """Make the whole video (section 1) in the model's dtype. `texts` are (first chunk, text); a change of text alone is
    a `soft` change of one chunk (section 7). `recorded` says what the other side admitted, for near ties."""
    history = History([{} for _ in range(model.layers)], [{} for _ in range(model.layers)])
    bank = Bank(rules.memory.sink, rules.memory.episodes, rules.percentile)
    descriptors: dict[int, Tensor] = {}
    made = []
    for chunk in range(chunks):
        for first_chunk, _ in texts[1:]:
            if chunk == first_chunk:
                bank.close_segment()
        text = [text for first_chunk, text in texts if first_chunk <= chunk][-1]

        x = draw(chunk, 0, None).to(model.dtype)
        rows, columns = x.shape[3] // 2, x.shape[4] // 2
        first = chunk * chunk_frames
        place = chunk_place(rules, chunk, chunk_frames)
        places = range(place, place + chunk_frames)
        types = sorted({head_type for layer in labels for head_type in layer})
        seen = {kind: visible(rules, kind, chunk, chunk_frames, bank.episodes) for kind in types}

        for step in range(len(sigmas) - 1):
            forward = Pass(history, labels, seen, places, rows, columns)
            x0 = model.clean(x, sigmas[step], text, forward.attend)
            if sigmas[step + 1] == 0:
                x = x0
            else:
                fresh = draw(chunk, step + 1, x0).to(model.dtype)
                x = (1 - sigmas[step + 1]) * x0 + sigmas[step + 1] * fresh
        history.latents.append(x)

        verdicts = []
        if chunk < chunks - 1:
            context = seen
            if rules.commit_context == "recent":
                context = {kind: tuple(entry for entry in seen[kind] if entry[2] == "recent") for kind in types}
            commit = Pass(history, labels, context, places, rows, columns)
            model.clean(x, 0.0, text, commit.attend)
            for layer in range(model.layers):
                for j in range(chunk_frames):
                    own = slice(j * rows * columns, (j + 1) * rows * columns)
                    history.keys[layer][first + j] = commit.own_keys[layer][own]
                    history.values[layer][first + j] = commit.own_values[layer][own]

            for frame in range(first, first + chunk_frames):
                keys = []
                for layer in descriptor_layers(model.layers):
                    memory_heads = [head for head in range(model.heads) if labels[layer][head] == "memory"]
                    keys.append(history.keys[layer][frame][:, memory_heads or range(model.heads)])
                descriptors[frame] = describe(keys, rows, columns)
            if rules.memory.episodes > 0:
                left_before = max(0, first - rules.memory.recent)
                left_now = max(0, first + chunk_frames - rules.memory.recent)
                for frame in range(left_before, left_now):
                    if is_candidate(frame, rules.memory.sink, chunk_frames):
                        verdicts.append(bank.judge(frame, descriptors, recorded))
        made.append(Made(x, seen, tuple(verdicts)))
    return made
