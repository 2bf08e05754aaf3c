"""The ways in which a new text takes over, a row of TRANSITIONS each (method.md section 7).

The combo of Prompt Schedule, the parser of schedules, the routes and `run.json` take their words from the table.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..kv_memory.rollout_memory import RolloutMemory
from ..policy.fitting import FittedPolicy
from ..policy.head_types import HEAD_TYPES
from .history import History
from .passes import Commit, Recache

RECACHE_FRAMES = 6

Before = Callable[[RolloutMemory, History, int, Sequence[Tensor]], Recache | None]
"""(memory, history, chunk, clean latents of the last chunks) -> what the model has to go through under the new text."""


def leave(memory: RolloutMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """Memory and history stay as they are."""


def recache(memory: RolloutMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> Recache:
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


def flush(memory: RolloutMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """All but the sink and the last frame is dropped, episodes too."""
    history.flush()
    memory.keep(history.frames(chunk))


def cut(memory: RolloutMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """`flush`, and the sink is to begin with the new segment."""
    flush(memory, history, chunk, latents)
    history.episodic.move_sink(history.committed)


def shot(memory: RolloutMemory, history: History, chunk: int, latents: Sequence[Tensor]) -> None:
    """Nothing is dropped; the chunk stands a gap away from what was before it."""
    history.begin_shot()


@dataclass(frozen=True)
class Transition:
    """What becomes of the past when a new text takes over.

    `before` is done before the first chunk of the segment. `fades` says that its text comes in over `soft_chunks`, not
    at once. `is_far` puts the history at the far end of the trained range for the first chunk; absolute positions have
    no far end, so it is refused with them. `after`, with that chunk's first frame, is done once the chunk is made.
    `forgets` says that no older chunk is read any more, but for the sink; `is_shot`, that it is for models alone that
    were taught shots, and that its first chunk has a text of its own.
    """

    before: Before = leave
    fades: bool = False
    is_far: bool = False
    after: Callable[[History, int], None] = lambda history, first_frame: None
    forgets: bool = False
    is_shot: bool = False


NO_CHANGE = Transition()
TRANSITIONS: Mapping[str, Transition] = {
    "recache": Transition(recache),
    "flush": Transition(flush, forgets=True),
    "soft": Transition(fades=True),
    "cut": Transition(cut, is_far=True, after=History.start_anew, forgets=True),
    "shot": Transition(shot, after=History.pin, is_shot=True),
}


def recached_chunks(recent: int, chunk_frames: int) -> int:
    """How many of the last chunks `recache` commits again, for a recent tier of so many frames."""
    return max(1, math.ceil(min(recent, RECACHE_FRAMES) / chunk_frames))


def check_transition(word: str, policy: FittedPolicy) -> None:
    """ValueError for a cut with absolute positions, which leave no far end to put the history at, and for a shot that
    the model was not taught, or that has no room within the trained range."""
    transition = TRANSITIONS[word]
    if policy.rope == "absolute" and transition.is_far:
        raise ValueError(
            f"A scene takes over by {word}, but rope is absolute. A {word} puts the past at the far end of the "
            "trained range, and absolute positions have none. Use rope compact, or another transition."
        )
    if transition.is_shot:
        _check_shot(word, policy)


def _check_shot(word: str, policy: FittedPolicy) -> None:
    if policy.shots is None:
        raise ValueError(
            f"A scene takes over by {word}, but this model's family was never taught what a {word} is, as LongLive-2.0 "
            "was. Use cut for a hard cut to a new scene, or recache to go on smoothly."
        )
    n, trained = policy.chunk_frames, policy.trained_frames
    for head_type in HEAD_TYPES:
        sink, pinned = policy.tiers(head_type).sink, policy.pinned(head_type)
        read = sink + 1 + max(policy.shots.gap, pinned) + n
        if read > trained:
            excess = read - trained
            otherwise = f"Shrink {head_type}_sink by {excess}" if excess <= sink else "Use a shorter chunk_frames"
            raise ValueError(
                f"A scene takes over by {word}, but {head_type} heads have no room for one. Their sink of {sink}, the "
                f"last frame, a gap of {policy.shots.gap} or a pinned chunk of {pinned}, and a chunk of {n} are {read} "
                f"frames, and the model was trained on {trained}. {otherwise}, or use cut."
            )
