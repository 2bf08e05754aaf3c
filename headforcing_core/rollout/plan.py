"""What a rollout is to make: its length, its texts and how they take over, and the frames it goes on from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Self

import torch
from torch import Tensor

from ..families.family import RENOISE, ROLLING, Steps
from ..geometry import prefix_chunks
from ..kv_memory.memory_plan import MemoryPlan
from ..policy.fitting import FittedPolicy
from .carried import Carried
from .episodes import Decision
from .memory_size import plan_memory
from .passes import Concat
from .recall import Choice, Choose
from .segments import Segment, Text, with_segment
from .transitions import NO_CHANGE, TRANSITIONS, Transition


@dataclass(frozen=True)
class FinishedChunks:
    """The first chunks of the same run, made before: how many, `read` for the latent of one (model space, float32), and
    what was decided about episodes, by frame, and chosen of the past, by chunk. They are committed again and not made
    again (method.md section 8). Without `choices` they were made otherwise, and recall nothing. `window` reads the
    noisy chunks that stood behind one, where the solver leaves any."""

    chunks: int = 0
    read: Callable[[int], Tensor] = lambda chunk: torch.empty(0)
    decisions: Mapping[int, Decision] = field(default_factory=dict)
    choices: Mapping[int, Choice] | None = None
    window: Callable[[int], Tensor] = lambda chunk: torch.empty(0)


@dataclass(frozen=True)
class RolloutPlan(Generic[Text]):
    """What to make: by which policy how many chunks of what size, by which noise levels, under which texts.

    `blend(old, new, share)` mixes two texts for the transition `soft`. `prefix` holds finished frames in model space,
    (1, channels, frames, height, width), that are committed before the first chunk; chunks are counted after them.
    `finished` holds the first chunks of a run that goes on. `read` gives the latent of any chunk that was yielded, as
    it was yielded; None: the rollout holds all of them, if the policy recalls. `choose` chooses what is recalled, in
    place of a look.

    `first` are the steps of chunk 0, where it has its own; `timesteps` what the model is told at those of all others,
    in place of their levels; `solver` goes from level to level. `image` holds the first frames of chunk 0, clean and in
    model space, which stay as they are; `concat` gives what the model is given beside every chunk, in every pass.
    `source` gives the clean latent (model space) of a video that a chunk is made of, asked between two calls of the
    model: the chunk begins with as much noise as its first step has, or as `source_level` says.

    `carried` is what another rollout held at its end, in place of a prefix: this one goes on as that one would have,
    over a memory that took over what its memory held. The first segment then takes over as any later one, if it
    `changes_text`.
    """

    policy: FittedPolicy
    chunks: int
    latent_height: int
    latent_width: int
    sigmas: tuple[float, ...]
    segments: tuple[Segment[Text], ...]
    blend: Callable[[Text, Text, float], Text] | None = None
    prefix: Tensor | None = None
    finished: FinishedChunks = FinishedChunks()
    read: Callable[[int], Tensor] | None = None
    choose: Choose | None = None
    first: Steps | None = None
    timesteps: tuple[float, ...] = ()
    solver: str = RENOISE
    image: Tensor | None = None
    concat: Concat | None = None
    source: Callable[[int], Tensor] | None = None
    source_level: float | None = None
    carried: Carried[Text] | None = None
    changes_text: bool = True

    @property
    def prefix_frames(self) -> int:
        """Frames that are committed before the first chunk."""
        if self.carried is not None:
            return self.carried.frames
        return 0 if self.prefix is None else self.prefix.shape[2]

    @property
    def before(self) -> Sequence[range]:
        """The frames of every chunk that is committed before the first one."""
        if self.carried is not None:
            return self.carried.committed
        return prefix_chunks(self.prefix_frames, self.policy.chunk_frames)

    @property
    def numbers_before(self) -> int:
        """How many chunks were made before the first one in the same video, as if in one run."""
        return 0 if self.carried is None else self.carried.chunks

    @property
    def all_segments(self) -> tuple[Segment[Text], ...]:
        """The segments in order, with those of what was carried that are still of account."""
        if self.carried is None:
            return self.segments
        return (*self.carried.segments, *(self.segments if self.changes_text else self.segments[1:]))

    def steps_of(self, chunk: int) -> Steps:
        """How a chunk is denoised."""
        return self.first if chunk == 0 and self.first is not None else Steps(self.sigmas, self.timesteps)

    def begins_anew(self, chunk: int) -> bool:
        """Whether nothing of a chunk is begun before it is its turn: of the first one, and of one after a cut."""
        segment = self.change(chunk)
        return chunk == 0 or (segment is not None and TRANSITIONS[segment.transition].is_far)

    def passes_of(self, chunk: int) -> int:
        """Passes over noise that it takes to make a chunk."""
        rolls = self.solver == ROLLING and not self.begins_anew(chunk)
        return 1 if rolls else self.steps_of(chunk).count

    def start_of(self, chunk: int, noise: Tensor) -> Tensor | None:
        """What a chunk begins as, of its noise; None: as the host scales that."""
        steps = self.steps_of(chunk)
        if self.source is not None:
            level = steps.sigmas[0] if self.source_level is None else self.source_level
            return (1.0 - level) * self.source(chunk).to(noise) + level * noise
        return noise if steps.timesteps or self.image is not None else None

    def memory_plan(self, labels: Sequence[Sequence[str]]) -> MemoryPlan:
        """What a KV memory has to hold for this, with heads of these labels, (layers, heads)."""
        before = None if self.carried is None else self.carried.chunks
        return plan_memory(self.policy, labels, self.chunks, self.prefix_frames, before)

    def with_segment(self, segment: Segment[Text]) -> Self:
        """The same plan with one more segment, on a chunk on which none begins."""
        return replace(self, segments=with_segment(self.segments, segment))

    def change(self, chunk: int) -> Segment[Text] | None:
        """The segment that a chunk begins, if it is not the first."""
        return next((segment for segment in self.all_segments[1:] if segment.first_chunk == chunk), None)

    def transition(self, chunk: int) -> Transition:
        """How a chunk's text takes over."""
        segment = self.change(chunk)
        return NO_CHANGE if segment is None else TRANSITIONS[segment.transition]

    def settles(self, chunk: int) -> bool:
        """Whether a new text is in force for the first time, and whole: with a segment, or at the end of its fade."""
        segment = [segment for segment in self.all_segments if segment.first_chunk <= chunk][-1]
        return segment is not self.all_segments[0] and chunk == segment.settles_at

    def text(self, chunk: int, before: Text) -> Text:
        """The text of a chunk. `before` is what was in force when its segment began. ValueError when texts are to be
        mixed and nothing says how."""
        segment = [segment for segment in self.all_segments if segment.first_chunk <= chunk][-1]
        if segment is not self.all_segments[0] and chunk == segment.first_chunk and segment.first_text is not None:
            return segment.first_text
        step = chunk - segment.first_chunk + 1
        fades = segment is not self.all_segments[0] and TRANSITIONS[segment.transition].fades
        share = step / segment.soft_chunks if fades else 1.0
        return segment.text if share >= 1 else self._mixed(before, segment.text, share)

    def _mixed(self, old: Text, new: Text, share: float) -> Text:
        if self.blend is None:
            raise ValueError("A soft transition over several chunks needs a way to mix texts. None was given.")
        return self.blend(old, new, share)
