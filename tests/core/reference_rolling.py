"""The naive reference: a window of chunks, each at its own level, of which a pass makes one (docs/method_decisions.md,
rolling). It holds each chunk of the window by itself, with the level that it is at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from reference_tiers import Seen
from torch import Tensor

OTHER_LEVEL = 0.7  # the one level that the model is called by, while it is told one for each frame


@dataclass
class Window:
    """(chunk, how many steps it has gone, latent) of every chunk that is begun, the oldest first."""

    chunks: list[tuple[int, int, Tensor]] = field(default_factory=list)


def roll(
    run: Any, number: int, text: Tensor, draw: Callable[[int, int, Any], Tensor]
) -> tuple[Tensor, Mapping[str, Seen], Any]:
    """Passes over the window until its oldest chunk is done; that chunk, what was read, and what was chosen."""
    levels, window = run.way.sigmas, run.window
    if number == 0 or run.past.far:
        window.chunks = []
    entering = window.chunks[-1][0] + 1 if window.chunks else number
    seen = run.seen(run.first())
    while True:
        window.chunks.append((entering, 0, draw(entering, 0, None).to(run.model.dtype)))
        entering += 1
        x = torch.cat([latent for _, _, latent in window.chunks], dim=2)
        own = [levels[gone] for _, gone, latent in window.chunks for _ in range(latent.shape[2])]
        made, _ = run.forward(x, OTHER_LEVEL, text, run.first(), seen, [1000 * level for level in own])
        flow = (x - made) / OTHER_LEVEL
        clean = torch.stack([x[:, :, f] - level * flow[:, :, f] for f, level in enumerate(own)], dim=2)
        parts = clean.split(run.chunk_frames, dim=2)
        gone_on = []
        for (chunk, gone, _), part in zip(window.chunks, parts, strict=True):
            level = levels[gone + 1]
            noisy = (1 - level) * part + level * draw(chunk, gone + 1, part) if level else part
            gone_on.append((chunk, gone + 1, noisy.to(run.model.dtype)))
        window.chunks = gone_on
        if window.chunks[0][1] == len(levels) - 1:
            break
    done = window.chunks.pop(0)[2]
    choice = None
    if run.recall.due and not run.holds_all():
        choice = run.choose(number, done, text, seen)
        seen = run.seen(run.first())
    return done, seen, choice
