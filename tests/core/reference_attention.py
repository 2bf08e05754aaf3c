"""The naive reference: self-attention over raw K and V, gathered, turned and attended head by head (section 5)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import torch
from reference_tiers import Seen
from torch import Tensor


class Model(Protocol):
    """x0 of a chunk; `attend(layer, q, k, v)` gets (1, tokens, heads, head_dim) and gives (1, tokens, width).
    `beside` may be `timesteps` (frames,) in place of sigma, and `concat`, channels beside x."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype

    def clean(
        self,
        x: Tensor,
        sigma: float,
        text: Tensor,
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
        **beside: Tensor,
    ) -> Tensor: ...


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


def rounded(x: Tensor) -> Tensor:
    """Each number of a token and head as the nearest of 255 steps between plus and minus the largest of them."""
    step = x.abs().amax(dim=-1, keepdim=True) / 127
    return (x / step).round() * step


def rounded_keys(k: Tensor, rows: int, columns: int) -> Tensor:
    """Keys (tokens, heads, head_dim) that were rounded as they stand in space, before they are turned in time."""
    frames = [0] * (len(k) // (rows * columns))
    stand = torch.stack([turn(k[:, head], frames, rows, columns) for head in range(k.shape[1])], dim=1)
    back = torch.cat([_turns((0,), rows, columns, k.shape[2]).conj()] * len(frames))[:, None]
    pairs = torch.view_as_complex(rounded(stand).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * back.to(pairs)).flatten(-2)


@dataclass
class History:
    """Everything ever committed, as it was committed last: per layer and frame (tokens, heads, head_dim). With
    `rounds` it is read in 8 bits."""

    keys: list[dict[int, Tensor]]
    values: list[dict[int, Tensor]]
    rounds: bool = False
    again: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    "K and V by layer and frame of the chunks that recall committed again, to be read as episodes in place of theirs."

    def read(self, layer: int, entry: tuple[int, int, str]) -> tuple[Tensor, Tensor]:
        frame, _, tier = entry
        if tier == "episode" and (layer, frame) in self.again:
            return self.again[layer, frame]
        return self.keys[layer][frame], self.values[layer][frame]


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
            read = [*(self.read(layer, entry) for entry in seen), (k, v)]
            keys, values = (torch.cat([each[:, head] for each in kept]) for kept in zip(*read, strict=True))
            places = [place for _, place, _ in seen] + self.places
            keys = turn(keys, places, self.rows, self.columns)
            queries = turn(q[:, head], self.places, self.rows, self.columns)
            weights = torch.softmax(queries @ keys.T / math.sqrt(q.shape[2]), dim=1)
            outputs.append(weights @ values)
        return torch.cat(outputs, dim=1)[None]

    def read(self, layer: int, entry: tuple[int, int, str]) -> tuple[Tensor, Tensor]:
        k, v = self.history.read(layer, entry)
        return (rounded_keys(k, self.rows, self.columns), rounded(v)) if self.history.rounds else (k, v)
