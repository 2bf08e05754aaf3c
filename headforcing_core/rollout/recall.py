"""Which old chunks memory heads read: every chunk is remembered, and those are chosen that show the present place
(docs/method_decisions.md, recall)."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from ..policy.fitting import FittedPolicy
from .episodes import ROWS, descriptor_layers, forced_spacing

MOST_LAYERS = 8
_BLOCK = 256  # chunks whose descriptors lie together

Choose = Callable[[int, Sequence[int]], Sequence[int]]
"""(chunk, first frames of the candidates) -> first frames of those to read."""


@dataclass(frozen=True)
class Choice:
    """What memory heads read of the past from a chunk on: the first `frames` of the chosen chunks in time order, and
    the `likeness` of each to the present; of how many candidates, between which likenesses; and the passes of the model
    that it took."""

    frames: tuple[int, ...]
    likeness: tuple[float, ...]
    candidates: int
    passes: int
    lowest: float = 0.0
    best: float = 0.0


def captured_layers(policy: FittedPolicy, layers: int) -> tuple[int, ...]:
    """The layers of a model whose keys describe what is kept of the past."""
    return policy.recall_layers or descriptor_layers(layers)


def describe_chunk(keys: Tensor, height: int, width: int) -> Tensor:
    """Descriptor of a chunk in one layer from its unrotated keys (frames, height * width, heads, head_dim): float32
    (ROWS, head_dim), means over heads, frames and bands of whole rows, each of length 1, on the CPU."""
    picture = keys.float().mean(dim=(0, 2)).unflatten(0, (height, width)).permute(2, 0, 1)
    return normalize(adaptive_avg_pool2d(picture, (ROWS, 1)).flatten(1).T.cpu(), dim=-1)


@dataclass
class Remembered:
    """The descriptors of all chunks in time order, (layers, ROWS, head_dim) each. Taking one in is the same work
    however many there are, and comparing with them copies none."""

    count: int = 0
    _cells: int = 1
    _blocks: list[Tensor] = field(default_factory=list)

    def add(self, descriptor: Tensor) -> None:
        """Remember one more chunk."""
        if self.count == _BLOCK * len(self._blocks):
            self._blocks.append(descriptor.new_empty((_BLOCK, descriptor.numel())))
            self._cells = descriptor.shape[:-1].numel()
        self._blocks[-1][self.count % _BLOCK] = descriptor.flatten()
        self.count += 1

    def __getitem__(self, chunk: int) -> Tensor:
        return self._blocks[chunk // _BLOCK][chunk % _BLOCK]

    def likeness(self, chunks: Sequence[int], descriptor: Tensor) -> list[float]:
        """Mean cosine, over bands and layers, of a descriptor with those of these chunks, in order."""
        present: Tensor = descriptor.flatten() / self._cells
        found: list[float] = []
        start, stop = (chunks[0], chunks[-1] + 1) if chunks else (0, 0)
        for number in range(start // _BLOCK, -(-stop // _BLOCK)):
            first = _BLOCK * number
            rows = self._blocks[number][max(start - first, 0) : stop - first]
            found += (rows @ present).tolist()
        return [found[chunk - start] for chunk in chunks]


@dataclass
class RecallMemory:
    """What memory heads recall. `held` are the chunks whose K and V stand in the room for `size` episodes; `asleep`,
    they are held and not read, from a change until the choice. Chunks are numbered from the first that was committed,
    prefix included."""

    size: int
    share: float
    chunk_frames: int = 3
    remembered: Remembered = field(default_factory=Remembered)
    held: tuple[int, ...] = ()
    asleep: bool = False
    _chosen_at: int | None = None

    def forget(self) -> None:
        """A prompt change that drops the memory."""
        self.held = ()

    def is_due(self, settles: bool, chunks: Sequence[range], candidates: Sequence[int]) -> bool:
        """Whether a choice is to be made for the chunk after `chunks`, whose past is compressed: the first one, when a
        new text `settles`, and when the view has changed without one."""
        if settles or self._chosen_at is None:
            return True
        return self._waited(chunks) and self._view_changed(candidates)

    def choose(self, candidates: Sequence[int], present: Tensor) -> tuple[list[int], list[float]]:
        """The newest of those that are near enough to the most alike, in time order; and the likeness of all."""
        likeness = self.remembered.likeness(candidates, present)
        least = _near_enough(likeness, self.share)
        near = [chunk for chunk, each in zip(candidates, likeness, strict=True) if each >= least]
        return near[-self.size :], likeness

    def settle(self, at: int, chosen: Sequence[int]) -> None:
        """These chunks are read from chunk number `at` on."""
        self.held, self.asleep, self._chosen_at = tuple(chosen), False, at

    def _waited(self, chunks: Sequence[range]) -> bool:
        assert self._chosen_at is not None
        return chunks[-1].stop - chunks[self._chosen_at].start >= forced_spacing(self.chunk_frames)

    def _view_changed(self, candidates: Sequence[int]) -> bool:
        """Whether the last chunk is farther from the one for which was chosen than a candidate may be."""
        if len(candidates) < 2 or self._chosen_at is None:
            return False
        last = self.remembered[self.remembered.count - 1]
        then = self.remembered.likeness(range(self._chosen_at, self._chosen_at + 1), last)[0]
        return then < _near_enough(self.remembered.likeness(candidates, last), self.share)


def candidate_chunks(chunks: Sequence[range], first_frame: int, recent_from: int) -> range:
    """Numbers of the chunks that begin at or after a frame and end before the recent tier."""
    first = bisect_left(chunks, first_frame, key=lambda own: own.start)
    return range(first, max(first, bisect_right(chunks, recent_from, key=lambda own: own.stop)))


def _near_enough(likeness: Sequence[float], share: float) -> float:
    best, lowest = max(likeness), min(likeness)
    return best - share * (best - lowest)
