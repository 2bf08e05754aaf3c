"""Which old frames stay: the episodic memory of memory heads, one decision for all layers (method.md section 4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

ROWS = 6
"""Cells that describe a frame: as wide as the picture, so that a pan over the same scene is hardly new."""
RECORD_LENGTH = 32
LEAST_NOVELTY = 0.03


@dataclass(frozen=True)
class Decision:
    """What became of one candidate: its novelty, the threshold it met, whether it stays and who left for it."""

    frame: int
    novelty: float
    tau: float
    admitted: bool
    dropped: int | None


def least_spacing(chunk_frames: int) -> int:
    """Frames from one admitted candidate to the next, at least."""
    return max(6, 2 * chunk_frames)


def forced_spacing(chunk_frames: int) -> int:
    """Frames after which a candidate is admitted whatever it shows, and a view may be looked for again."""
    return max(24, 8 * chunk_frames)


def is_candidate(frame: int, sink_end: int, chunk_start: int, chunk_frames: int) -> bool:
    """Whether a frame may become an episode: the middle one of its chunk, after the sink."""
    if frame < sink_end:
        return False
    return frame % 3 == 1 if chunk_frames == 1 else frame - chunk_start == chunk_frames // 2


def descriptor_layers(layers: int) -> tuple[int, ...]:
    """Layers whose keys describe a frame. They tell scenes apart better than earlier ones (docs/quality.md)."""
    return tuple(sorted({layers // 2, 2 * layers // 3, 5 * layers // 6}))


def describe(keys: Tensor, height: int, width: int) -> Tensor:
    """Descriptor of frames from their unrotated keys (frames, height * width, heads, head_dim): float32
    (frames, ROWS, head_dim), each cell of length 1, on the CPU."""
    picture = keys.float().mean(dim=2).cpu().unflatten(1, (height, width)).permute(0, 3, 1, 2)
    cells = adaptive_avg_pool2d(picture, (ROWS, 1)).flatten(2).transpose(1, 2)  # (frames, ROWS, head_dim)
    return normalize(cells, dim=-1)


def similarity(a: Tensor, b: Tensor) -> float:
    """Mean cosine over cells, then over layers: descriptors (layers, cells, head_dim)."""
    return float((a * b).sum(dim=-1).mean(dim=-1).mean())


class EpisodicMemory:
    """The bank of at most `size` episodes, each by the frame that was judged for it, and the record of novelties.
    `sink` is the number of sink frames. `replay` takes recorded decisions instead of making them. Chunks of 1 to 3
    frames have the same spacings."""

    def __init__(
        self,
        sink: int,
        size: int,
        percentile: float,
        replay: Mapping[int, Decision] | None = None,
        chunk_frames: int = 3,
    ) -> None:
        self.sink = range(sink)
        self.size = size
        self.percentile = percentile
        self.replay = replay or {}
        self.chunk_frames = chunk_frames
        self.episodes: list[int] = []
        self.decisions: list[Decision] = []
        self._record: list[float] = []
        self._last: int | None = None
        self._described: dict[int, Tensor] = {}
        self._similar: dict[tuple[int, int], float] = {}

    def observe(self, frame: int, descriptor: Tensor) -> None:
        """Keep the descriptor of a sink frame or a candidate: (layers, cells, head_dim), at its first commit."""
        self._described.setdefault(frame, descriptor)

    def judge(self, frame: int) -> Decision:
        """Decide about a candidate that leaves the recent tier."""
        replayed = self.replay.get(frame)
        novelty = 1.0 - max((self._between(frame, other) for other in self._known()), default=0.0)
        tau = max(self._percentile(), LEAST_NOVELTY)
        admitted = self._admits(frame, novelty, tau)
        if replayed is not None:
            novelty, tau, admitted = replayed.novelty, replayed.tau, replayed.admitted
        self._record = [*self._record, novelty][-RECORD_LENGTH:]
        dropped = self._admit(frame, replayed) if admitted else None
        if not admitted:
            self._forget(frame)
        decision = Decision(frame, novelty, tau, admitted, dropped)
        self.decisions.append(decision)
        return decision

    def leave_out(self, frame: int) -> None:
        """A candidate that is not to be judged."""
        self._forget(frame)

    def resize(self, size: int) -> None:
        """Hold at most so many episodes from now on; the oldest leave."""
        first = max(0, len(self.episodes) - size)
        for frame in self.episodes[:first]:
            self._forget(frame)
        self.size, self.episodes = size, self.episodes[first:]

    def forget(self, first_kept: int) -> None:
        """A prompt change that drops the memory: empty the bank and start the record of novelties anew. Descriptors of
        the sink and of frames from `first_kept` on stay."""
        for frame in [frame for frame in self._described if frame < first_kept and frame not in self.sink]:
            self._forget(frame)
        self.episodes, self._record = [], []

    def move_sink(self, first_frame: int) -> None:
        """A cut: the sink now begins at this frame, and no episode has been admitted after it."""
        for frame in self.sink:
            self._forget(frame)
        self.sink = range(first_frame, first_frame + len(self.sink))
        self._last = None

    def _admits(self, frame: int, novelty: float, tau: float) -> bool:
        if self.size == 0:
            return False
        since = frame - (self.sink.stop - 1 if self._last is None else self._last)
        if self._last is not None and since < least_spacing(self.chunk_frames):
            return False
        return novelty >= tau or since >= forced_spacing(self.chunk_frames)

    def _admit(self, frame: int, replayed: Decision | None) -> int | None:
        self.episodes.append(frame)
        self._last = frame
        if len(self.episodes) <= self.size:
            return None
        if replayed is not None and replayed.dropped is not None:
            dropped = replayed.dropped
        else:
            dropped = most_redundant(self.episodes, self._known(), self._between)
        self.episodes.remove(dropped)
        self._forget(dropped)
        return dropped

    def _known(self) -> list[int]:
        """The frames that others are compared with: sink and episodes."""
        return [frame for frame in (*self.sink, *self.episodes) if frame in self._described]

    def _between(self, a: int, b: int) -> float:
        pair = (min(a, b), max(a, b))
        if pair not in self._similar:
            self._similar[pair] = similarity(self._described[pair[0]], self._described[pair[1]])
        return self._similar[pair]

    def _percentile(self) -> float:
        if not self._record:
            return 0.0
        return float(torch.quantile(torch.tensor(self._record, dtype=torch.float64), self.percentile / 100))

    def _forget(self, frame: int) -> None:
        self._described.pop(frame, None)
        self._similar = {pair: value for pair, value in self._similar.items() if frame not in pair}


def most_redundant(episodes: Sequence[int], known: Sequence[int], between: Callable[[int, int], float]) -> int:
    """The episode that resembles another known frame most, of sink or episodes; of equals the older."""
    return max(
        sorted(episodes),
        key=lambda frame: (max(between(frame, other) for other in known if other != frame), -frame),
    )
