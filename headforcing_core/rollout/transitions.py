"""What a prompt change does to the memory, each way its own function (method.md section 7)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..kv_memory.memory import KVMemory
from .history import History

RECACHE_FRAMES = 6

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma) -> x0, the clean chunk as the model sees it now: (batch, channels, frames, height, width)."""


def recached_chunks(recent: int, chunk_frames: int) -> int:
    """How many of the last chunks `recache` commits again, for a recent tier of so many frames."""
    return max(1, math.ceil(min(recent, RECACHE_FRAMES) / chunk_frames))


def recache(
    memory: KVMemory, history: History, chunk: int, latents: Sequence[Tensor], predict: Predict, context: str
) -> None:
    """Before `chunk`: commit the last chunks again under the new text. `latents` are theirs, clean; `predict` runs the
    model under the new text. Frame ids, episodes and their clock do not move."""
    again = history.chunks[-len(latents) :]
    first = again[0].start
    memory.keep({group: [f for f in memory.held(group) if f < first] for group in memory.groups})
    for own, latent in zip(again, latents, strict=True):
        history.layout_again(chunk, own, memory).begin(memory, context)
        predict(latent, torch.zeros((), device=latent.device))
        kept = {}
        for group, after in history.groups(chunk, own.stop).items():
            there = {*memory.held(group), *own}
            kept[group] = [frame for frame in after.frames if frame in there]
        memory.keep(kept, own)


def flush(memory: KVMemory, history: History, chunk: int) -> None:
    """Before `chunk`: keep the sink and the last frame; all else, episodes too, is dropped."""
    history.flush()
    memory.keep({group: kept.frames for group, kept in history.groups(chunk).items()})


def cut(memory: KVMemory, history: History, chunk: int) -> None:
    """Before `chunk`: `flush`, and the sink is to begin with the new segment. The caller puts what is left at the far
    end for this chunk, and drops it once the chunk is committed (`History.start_anew`)."""
    flush(memory, history, chunk)
    history.episodic.move_sink(history.committed)
