"""The ways in which a new text takes over, a row of TRANSITIONS each (method.md section 7).

The combo of Prompt Schedule, the parser of schedules, the routes and `run.json` take their words from the table.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..kv_memory.memory import KVMemory
from .history import History
from .passes import Commit, Recache

RECACHE_FRAMES = 6

Before = Callable[[KVMemory, History, int, Sequence[Tensor]], Recache | None]
"""(memory, history, chunk, clean latents of the last chunks) -> what the model has to go through under the new text."""


def leave(memory: KVMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """Memory and history stay as they are."""


def recache(memory: KVMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> Recache:
    """The last chunks are committed again, but for those of which nothing would stay, as of what lies before a cut.
    Frame ids, episodes and their clock do not move."""
    again = history.chunks[-len(latents) :]
    held = [{group: tuple(f for f in memory.held(group) if f < again[0].start) for group in memory.groups}]
    commits: list[Commit] = []
    for own, latent in zip(again, latents, strict=True):
        layout = history.layout_again(chunk, own, held[-1])
        left = {
            group: tuple(frame for frame in kept.frames if frame in {*held[-1][group], *own})
            for group, kept in history.groups(chunk, own.stop).items()
        }
        if any(frame in own for frames in left.values() for frame in frames):
            commits.append(Commit(latent, layout, history.policy.commit_context))
            held.append(left)
        else:
            held[-1] = left
    return Recache(tuple(commits), tuple(held))


def flush(memory: KVMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """All but the sink and the last frame is dropped, episodes too."""
    history.flush()
    memory.keep(history.frames(chunk))


def cut(memory: KVMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """`flush`, and the sink is to begin with the new segment."""
    flush(memory, history, chunk, latents)
    history.episodic.move_sink(history.committed)


@dataclass(frozen=True)
class Transition:
    """What becomes of the past when a new text takes over.

    `before` is done before the first chunk of the segment. `fades` says that its text comes in over `soft_chunks`, not
    at once. `is_far` puts the history at the far end of the trained range for the first chunk; absolute positions have
    no far end, so it is refused with them. `after`, with that chunk's first frame, is done once the chunk is made.
    `forgets` says that no older chunk is read any more, but for the sink.
    """

    before: Before = leave
    fades: bool = False
    is_far: bool = False
    after: Callable[[History, int], None] = lambda history, first_frame: None
    forgets: bool = False


NO_CHANGE = Transition()
TRANSITIONS: Mapping[str, Transition] = {
    "recache": Transition(recache),
    "flush": Transition(flush, forgets=True),
    "soft": Transition(fades=True),
    "cut": Transition(cut, is_far=True, after=History.start_anew, forgets=True),
}


def recached_chunks(recent: int, chunk_frames: int) -> int:
    """How many of the last chunks `recache` commits again, for a recent tier of so many frames."""
    return max(1, math.ceil(min(recent, RECACHE_FRAMES) / chunk_frames))


def check_transition(word: str, rope: str) -> None:
    """ValueError for a cut with absolute positions, which leave no far end to put the history at."""
    if rope == "absolute" and TRANSITIONS[word].is_far:
        raise ValueError(
            f"A scene takes over by {word}, but rope is absolute. A {word} puts the past at the far end of the "
            "trained range, and absolute positions have none. Use rope compact, or another transition."
        )
