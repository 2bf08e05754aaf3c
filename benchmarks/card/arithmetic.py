"""What a pass of the model has to compute and what its history takes: counted from shapes, nothing measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.shared.host_process import HEAD_DIM, WanShape
from benchmarks.shared.stage import CHUNK_FRAMES, FOUR_STEPS
from benchmarks.shared.tables import Row
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import PATCH, WAN21, first_compressed_chunk
from headforcing_core.kv_memory.rope import temporal_pairs
from headforcing_core.policy.head_types import Labels
from headforcing_core.policy.presets import PRESETS

PASSES = len(FOUR_STEPS)  # four steps and the pass that commits
WANTED_FPS = 30
PIXEL_FRAMES = 4 * CHUNK_FRAMES
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one pass: linear layers by shape (`square`, `up` and `down` of the feed-forward
    part), and attention, that to the text included."""

    linear: Mapping[str, float]
    attention: float

    @property
    def total(self) -> float:
        """Everything that is counted."""
        return sum(self.linear.values()) + self.attention

    def bound(self, rates: Mapping[str, float]) -> float:
        """Least seconds of a chunk on a machine that computes so many operations a second, by shape."""
        linear = sum(flop / rates[shape] for shape, flop in self.linear.items())
        return PASSES * (linear + self.attention / rates["attention"])


@dataclass(frozen=True)
class Task:
    """A model, the picture and the text that it works on."""

    shape: WanShape
    labels: Labels
    tokens: int
    text_tokens: int
    text_dim: int

    @property
    def rows(self) -> int:
        """Tokens of a chunk."""
        return CHUNK_FRAMES * self.tokens

    def work(self, policy: str) -> Work:
        """One pass with full tiers."""
        read = [PRESETS[policy].tiers(label).frames + CHUNK_FRAMES for layer in self.labels for label in layer]
        return self._work(sum(read), text_passes=1.0)

    def own_work(self, chunk: int) -> Work:
        """One pass of the host's own sampler, which computes K and V of the text once for a chunk's five passes."""
        frames = (chunk + 1) * CHUNK_FRAMES
        return self._work(frames * self.shape.layers * self.shape.heads, text_passes=1 / PASSES)

    def kv_bytes(self, policy: str, element_bytes: int) -> int:
        """History with full tiers."""
        frames = sum(PRESETS[policy].tiers(label).frames for layer in self.labels for label in layer)
        return frames * self._frame_head_bytes(element_bytes)

    def warm_up_bytes(self, policy: str, element_bytes: int) -> int:
        """Most that the buffers of all heads take in warm-up, with the chunk's places and the unturned part of keys."""
        start = PRESETS[policy].compress_from_chunk
        last = (start if start > 0 else first_compressed_chunk(CHUNK_FRAMES, SELF_FORCING.trained_frames)) - 1
        frames = CHUNK_FRAMES * (last + 1) * self.shape.layers * self.shape.heads
        return frames * self._stored_bytes(element_bytes)

    def beside_bytes(self, policy: str, element_bytes: int) -> int:
        """With full tiers: the chunk's places, and the unturned part of keys."""
        heads = self.shape.layers * self.shape.heads
        history = self.kv_bytes(policy, element_bytes)
        frames = history // self._frame_head_bytes(element_bytes) + CHUNK_FRAMES * heads
        return frames * self._stored_bytes(element_bytes) - history

    def _work(self, frame_heads: int, text_passes: float) -> Work:
        d, f, layers = self.shape.dim, self.shape.ffn_dim, self.shape.layers
        rows, text = self.rows, self.text_tokens
        ends = 2 * rows * WAN21.channels * PATCH**2 * d * 2  # into tokens and out of them
        to_text = text_passes * layers * 2 * 2 * text * d * d + 2 * text * (self.text_dim + d) * d
        linear = {
            "square": layers * 6 * 2 * rows * d * d + to_text + ends,
            "up": layers * 2 * rows * d * f,
            "down": layers * 2 * rows * d * f,
        }
        keys = frame_heads * self.tokens + layers * self.shape.heads * text
        return Work(linear, 4 * rows * keys * HEAD_DIM)

    def _frame_head_bytes(self, element_bytes: int) -> int:
        return 2 * self.tokens * HEAD_DIM * element_bytes

    def _stored_bytes(self, element_bytes: int) -> int:
        unturned = 2 * temporal_pairs(HEAD_DIM) * self.tokens * element_bytes
        return self._frame_head_bytes(element_bytes) + unturned


def arithmetic_rows(task: Task, policies: tuple[str, ...], element_bytes: int) -> list[Row]:
    """The table: a row for each policy, and for the host's own sampler at the last of its first 21 frames."""
    uniform = task.work("uniform_21").total
    last = SELF_FORCING.trained_frames // CHUNK_FRAMES - 1
    rows = [_row(policy, task.work(policy), uniform) for policy in policies]
    for row, policy in zip(rows, policies, strict=True):
        row |= {
            "history KV GB": task.kv_bytes(policy, element_bytes) / GIGA,
            "beside GB": task.beside_bytes(policy, element_bytes) / GIGA,
            "most in warm-up GB": task.warm_up_bytes(policy, element_bytes) / GIGA,
        }
    own = _row(f"host's own, chunk {last}", task.own_work(last), uniform)
    head_frames = SELF_FORCING.trained_frames * task.shape.layers * task.shape.heads
    held = head_frames * 2 * task.tokens * HEAD_DIM * element_bytes
    return [*rows, own | {"history KV GB": held / GIGA, "beside GB": None, "most in warm-up GB": None}]


def _row(name: str, work: Work, uniform: float) -> Row:
    return {
        "what": name,
        "linear TFLOP": sum(work.linear.values()) / TERA,
        "attention TFLOP": work.attention / TERA,
        "a chunk TFLOP": PASSES * work.total / TERA,
        "attention share": work.attention / work.total,
        "uniform_21 over it": uniform / work.total,
        f"TFLOP/s for {WANTED_FPS} fps": PASSES * work.total * WANTED_FPS / PIXEL_FRAMES / TERA,
    }
