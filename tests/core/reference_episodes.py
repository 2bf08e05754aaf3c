"""The naive reference: the episodes of the memory heads (method.md section 4)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

NEAR_TIE = 1e-5
"Novelties this near the threshold are decided by rounding; there the recorded decision is taken."


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
    novelties: list[float] = field(default_factory=list)
    last: int | None = None
    first_sink: int = 0
    chunk_frames: int = 3

    def judge(
        self, frame: int, descriptors: Mapping[int, Tensor], recorded: Mapping[int, bool] | None = None
    ) -> Verdict:
        end_of_sink = self.first_sink + self.sink
        known = [*range(self.first_sink, end_of_sink), *self.episodes]
        compared = [alike(descriptors[frame], descriptors[other]) for other in known]
        novelty = 1.0 - max(compared) if compared else 1.0
        tau = max(0.03, percentile(self.novelties[-32:], self.percentile))
        self.novelties.append(novelty)

        least, forced = max(6, 2 * self.chunk_frames), max(24, 8 * self.chunk_frames)
        new_enough = novelty >= tau
        if recorded is not None and abs(novelty - tau) < NEAR_TIE:
            new_enough = recorded.get(frame, new_enough)
        if self.size == 0:  # a pinned chunk has taken the room of all
            admitted = False
        elif self.last is None:
            admitted = new_enough or frame - (end_of_sink - 1) >= forced
        elif frame - self.last < least:
            admitted = False
        else:
            admitted = new_enough or frame - self.last >= forced
        if not admitted:
            return Verdict(frame, novelty, tau, False, None)

        self.last = frame
        self.episodes.append(frame)
        dropped = None
        if len(self.episodes) > self.size:
            dropped = self._most_alike(descriptors)
            self.episodes.remove(dropped)
        return Verdict(frame, novelty, tau, True, dropped)

    def _most_alike(self, descriptors: Mapping[int, Tensor]) -> int:
        sink = range(self.first_sink, self.first_sink + self.sink)
        worst, worst_likeness = -1, -math.inf
        for member in sorted(self.episodes):
            likeness = -math.inf
            for other in [*sink, *self.episodes]:
                if other != member:
                    pair = sorted((member, other))
                    likeness = max(likeness, alike(descriptors[pair[0]], descriptors[pair[1]]))
            if worst == -1 or likeness > worst_likeness:
                worst, worst_likeness = member, likeness
        return worst

    def flush(self) -> None:
        """A prompt change that drops the memory. The clock, `last`, goes on."""
        self.episodes, self.novelties = [], []

    def start_again(self, first_sink: int) -> None:
        """The first chunk after a cut is committed: its frames become the sink."""
        self.flush()
        self.first_sink = first_sink
        self.last = None


def is_candidate(frame: int, end_of_sink: int, chunk_frames: int, chunk_first: int) -> bool:
    """Section 4, first point. `chunk_first` is the first frame of the chunk that `frame` was committed in."""
    if frame < end_of_sink:
        return False
    if chunk_frames == 1:
        return frame % 3 == 1
    return frame - chunk_first == chunk_frames // 2


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
    """Descriptor of one frame from its raw keys per layer, (tokens, heads, head_dim): (layers, 6, head_dim)."""
    layers = []
    for layer_keys in keys:
        picture = layer_keys.float().mean(dim=1).reshape(rows, columns, -1)
        cells = []
        for i in range(6):
            top, bottom = (i * rows) // 6, -((-(i + 1) * rows) // 6)
            cell = picture[top:bottom].mean(dim=(0, 1))
            cells.append(cell / cell.norm())
        layers.append(torch.stack(cells))
    return torch.stack(layers)


def alike(a: Tensor, b: Tensor) -> float:
    """Mean cosine over cells, then over layers."""
    return float((a * b).sum(dim=2).mean(dim=1).mean())


def descriptor_layers(layers: int) -> list[int]:
    return sorted({layers // 2, 2 * layers // 3, 5 * layers // 6})
