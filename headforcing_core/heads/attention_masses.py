"""Watch attention during a short rollout and measure where every head looks (method.md section 2)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .rules import REGIONS

QUERY_TOKENS = 256
RELIABLE = 0.9


def sample_queries(frames: int, tokens: int, count: int, seed: int) -> Tensor:
    """Query tokens of a chunk, stratified over its frames and the picture: indices into (frames * tokens).

    Every frame gives the same number; its tokens, in reading order, are cut into as many even stretches and one is
    drawn from each. Fewer tokens than `count` are all taken.
    """
    per_frame = min(tokens, max(1, round(count / frames)))
    generator = torch.Generator().manual_seed((seed) % 2**63)
    edges = torch.linspace(0, tokens, per_frame + 1, dtype=torch.float64)
    drawn = [
        frame * tokens
        + (edges[:-1] + torch.rand(per_frame, generator=generator, dtype=torch.float64) * (edges[1:] - edges[:-1]))
        .long()
        .clamp_(max=tokens - 1)
        for frame in range(frames)
    ]
    return torch.cat(drawn)


def region_masses(q: Tensor, k: Tensor, history: tuple[int, ...], chunk_frames: int, sink_frames: int) -> Tensor:
    """Softmax mass of every head on the regions: float32 (heads, REGIONS), mean over batch and queries.

    q (batch, queries, heads, head_dim) and k (batch, keys, heads, head_dim), both rotated; the keys are the frames
    `history` and then the chunk. Heads are taken one by one, so memory is that of one head.
    """
    tokens = k.shape[1] // (len(history) + chunk_frames)
    end = len(history) * tokens
    sink = sum(frame < sink_frames for frame in history) * tokens
    scale = q.shape[-1] ** -0.5
    masses = []
    for head in range(q.shape[2]):
        scores = q[:, :, head].float() @ k[:, :, head].float().transpose(1, 2) * scale  # (batch, queries, keys)
        mass = scores.softmax(dim=-1).mean(dim=(0, 1))
        sums = (mass[:sink], mass[sink:end], mass[end:], mass[max(0, end - tokens) : end])
        masses.append(torch.stack([part.sum() for part in sums]))
    return torch.stack(masses)


@dataclass
class MassRecorder:
    """Collects the masses of a profiling rollout, one state per (prompt, chunk, step) of the chunks that are watched.

    As an `Observer` it is called for every layer of every pass; it keeps REGIONS numbers a head and nothing else. Move
    it on with `begin`.
    """

    layers: int
    chunk_frames: int
    sink_frames: int = 3
    query_tokens: int = QUERY_TOKENS
    seed: int = 0
    states: list[Tensor] = field(default_factory=list)  # each (layers, heads, REGIONS)
    sources: list[tuple[int, int]] = field(default_factory=list)  # (prompt, chunk) of each state
    _history: tuple[int, ...] | None = None
    _source: tuple[int, int] = (0, 0)
    _rows: list[Tensor] = field(default_factory=list)

    def begin(self, history: tuple[int, ...] | None, source: tuple[int, int] = (0, 0)) -> None:
        """The next pass reads these frames before its chunk, which is `source` (prompt, chunk); None: it is not to be
        watched."""
        self._history = history
        self._source = source
        self._rows = []

    def __call__(self, layer: int, q: Tensor, k: Tensor) -> None:
        """Observe one layer: q (batch, tokens, heads, head_dim) and k (batch, keys, heads, head_dim), rotated."""
        if self._history is None:
            return
        tokens = q.shape[1] // self.chunk_frames
        picked = sample_queries(self.chunk_frames, tokens, self.query_tokens, self.seed + len(self.states))
        rows = region_masses(q[:, picked.to(q.device)], k, self._history, self.chunk_frames, self.sink_frames)
        self._rows.append(rows)
        if layer == self.layers - 1:
            self.states.append(torch.stack(self._rows).cpu())
            self.sources.append(self._source)
            self._rows = []

    def masses(self) -> Tensor:
        """Median over all states: float32 (layers, heads, REGIONS). RuntimeError when nothing was watched."""
        if not self.states:
            raise RuntimeError("No attention was measured: no watched chunk was made. Profile at least 5 seconds.")
        return torch.stack(self.states).quantile(0.5, dim=0)

    def reliability(self) -> dict[str, float]:
        """Split-half rank correlation of sink and current mass: every other prompt against the rest, or every other
        chunk when there is one prompt. 0 when there is nothing to split."""
        prompts = sorted({prompt for prompt, _ in self.sources})
        kind = 0 if len(prompts) > 1 else 1
        order = sorted({source[kind] for source in self.sources})
        if len(order) < 2:
            return {"sink": 0.0, "current": 0.0}
        halves = []
        for start in (0, 1):
            members = set(order[start::2])
            chosen = [state for state, source in zip(self.states, self.sources, strict=True) if source[kind] in members]
            halves.append(torch.stack(chosen).quantile(0.5, dim=0))
        return {
            region: rank_correlation(*(half[..., REGIONS.index(region)].flatten() for half in halves))
            for region in ("sink", "current")
        }


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two vectors; ties share their mean rank. 0 when one of them is constant."""
    ranks = torch.stack([_mean_ranks(a), _mean_ranks(b)])
    centred = ranks - ranks.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1)
    return float((centred[0] @ centred[1]) / (norms[0] * norms[1])) if norms.min() > 0 else 0.0


def _mean_ranks(values: Tensor) -> Tensor:
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).to(torch.float64)
    return (ends - (counts - 1) / 2)[inverse]
