"""Head-wise RoPE re-encoding: which temporal position each kept frame gets (method.md section 5)."""

from bisect import bisect_right
from collections.abc import Sequence

ROPE_MODES = ("compact", "clamp", "tied", "absolute")


def moved_on(frame: int, shots: Sequence[int], gap: int) -> int:
    """A frame's place in time, when at the first frame of each of the `shots` all that follows moves on by `gap`."""
    return frame + gap * bisect_right(shots, frame)


def chunk_position(mode: str, first_frame: int, chunk_frames: int, trained_frames: int) -> int:
    """Temporal position of a chunk's first frame: the far end of the trained range, or its own id when `absolute`."""
    return first_frame if mode == "absolute" else trained_frames - chunk_frames


def history_positions(mode: str, frames: Sequence[int], recent_from: int, first_frame: int, position: int) -> list[int]:
    """Position of every kept frame, for a chunk that starts at frame `first_frame` and stands at `position`.

    `frames` are frame ids in time order; those from `recent_from` on are the recent tier and stand at their true
    distance in every mode.
    """
    if mode == "absolute":
        return list(frames)
    true = [position - (first_frame - frame) for frame in frames]
    older = sum(frame < recent_from for frame in frames)
    if mode == "compact":
        nearest = true[older] if older < len(frames) else position
        return [nearest - older + rank for rank in range(older)] + true[older:]
    if mode == "clamp":
        return [max(0, place) for place in true[:older]] + true[older:]
    if mode == "tied":
        return [0] * older + true[older:]
    raise ValueError(f"rope mode is {mode!r}. Known modes are {', '.join(ROPE_MODES)}. Choose one of them.")
