"""The chunk loop: denoise a chunk reading the history, commit it, update the tiers, go on (method.md section 1)."""

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ..families.family import ROLLING
from ..geometry import PATCH, prefix_chunks
from ..kv_memory.rollout_memory import RolloutMemory
from ..policy.head_types import HEAD_TYPES
from .carried import Carried, newest
from .chunk import Chunk
from .episodes import Decision
from .history import History
from .layout import LAST_BEFORE, PREFIX, Layout
from .memory_size import check_memory
from .noise import Noise
from .passes import Commit, Denoise, Model, OnRecall, OnStep, Pass, Recall, finite
from .plan import RolloutPlan, Segment, Text
from .recaller import Recaller
from .rolling import Window, check_rolling
from .segments import check_transitions
from .told import Predict
from .transitions import NO_CHANGE, TRANSITIONS, Transition, recached_chunks

TextIn = TypeVar("TextIn", contravariant=True)

Recipe = Callable[[Predict, Tensor, Tensor], Tensor]
"""(predict, x, sigmas) -> the finished chunk."""
OnPrefix = Callable[[int, int], None]
"""(chunks committed, prefix chunks), after every prefix chunk."""
Live = Callable[[int], Segment[Text] | None]
"""(chunk) -> a segment that begins there beyond those of the plan; asked before every later chunk that is made."""


@dataclass(frozen=True)
class Listeners:
    """Who hears of a rollout while it goes on; whatever they raise ends it."""

    on_step: OnStep = lambda chunk, step, x0: None
    on_prefix: OnPrefix = lambda done, chunks: None
    on_recall: OnRecall = lambda chunk: None
    on_end: Callable[[Carried[Any]], None] | None = None
    """Takes what another rollout can go on from, when all chunks are made and the memory still holds what it held."""


NOBODY = Listeners()


class Backbone(Protocol[TextIn]):
    """A diffusion model whose self-attention reads the rollout's memory."""

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: TextIn) -> Tensor:
        """Run a recipe with the model in place. Returns what the recipe returns, in model space."""
        ...


def rollout(
    backbone: Backbone[Text],
    memory: RolloutMemory,
    plan: RolloutPlan[Text],
    noise: Noise,
    listeners: Listeners = NOBODY,
    live: Live[Text] = lambda chunk: None,
) -> Generator[Chunk, None, None]:
    """Make a video chunk by chunk; what the caller does with a chunk happens between model calls, `live` too.

    `memory` is one made by the plan's `memory_plan`, which the backbone's model reads; its buffers are dropped when the
    generator ends, for whatever reason. ValueError, before the first pass, for a memory that was planned for something
    else, a cut with absolute positions, a shot that the model was not taught, or what cannot roll; RuntimeError for a
    chunk with NaN or infinity, which then is neither yielded nor remembered.
    """
    check_transitions(plan.all_segments, plan.policy)
    check_rolling(plan)
    carried = 0 if plan.carried is None else plan.carried.history.committed
    check_memory(memory, plan.memory_plan(memory.plan.labels), carried)
    run = _Rollout(backbone, memory, plan, noise, listeners, live)
    try:
        run.commit_past()
        chunk = None
        for index in range(plan.chunks):
            chunk = run.next_chunk(index)
            yield chunk
        if listeners.on_end is not None and chunk is not None:
            listeners.on_end(run.carried(chunk))
    finally:
        memory.release()


class _Rollout(Generic[Text]):
    """The state of one run between its chunks."""

    def __init__(
        self,
        backbone: Backbone[Text],
        memory: RolloutMemory,
        plan: RolloutPlan[Text],
        noise: Noise,
        listeners: Listeners,
        live: Live[Text],
    ) -> None:
        self._backbone, self._memory, self._plan, self._noise = backbone, memory, plan, noise
        self._listeners, self._live = listeners, live
        self._policy = plan.policy
        self._text = self._text_before = plan.segments[0].text  # in force now, and when the segment began
        if plan.carried is None:
            self._history = History(plan.policy, memory.plan.labels, plan.finished.decisions)
        else:
            self._history = plan.carried.own_history()
            self._history.goes_on(plan.policy, plan.finished.decisions, plan.carried.chunks)
            self._text_before = plan.carried.text_before
            self._text = plan.text(LAST_BEFORE, self._text_before)
        self._prefix_decisions: tuple[Decision, ...] = ()
        again = recached_chunks(plan.policy.memory.recent, plan.policy.chunk_frames)
        there = () if plan.carried is None else plan.carried.latents
        self._latents: deque[Tensor] = deque(there, maxlen=again)  # clean, of the last chunks
        self._made: list[Tensor] = []  # of all chunks, where nobody else can be asked for them
        self._grid = (plan.latent_height // PATCH, plan.latent_width // PATCH)
        self._window = Window(noise)
        self._recaller = Recaller(self._history, plan, self._grid, self._made)

    def commit_past(self) -> None:
        """Commit the frames that are there before the first chunk, under the first text; of what is carried over, the
        last chunk alone, under its own."""
        if self._plan.carried is not None:
            transition = self._plan.transition(LAST_BEFORE)
            layout = self._history.layout(LAST_BEFORE, self._policy.chunk_frames, transition.is_far)
            latent = self._commit(self._plan.carried.latent, layout)
            transition.after(self._history, layout.first_frame)
            self._prefix_decisions = self._remember(latent, layout, 0)
            self._listeners.on_prefix(1, 1)
        elif self._plan.prefix is not None:
            chunks = prefix_chunks(self._plan.prefix_frames, self._policy.chunk_frames)
            for number, own in enumerate(chunks, 1):
                layout = self._history.layout(PREFIX, len(own))
                latent = self._commit(self._plan.prefix[:, :, own.start : own.stop], layout)
                self._prefix_decisions += self._remember(latent, layout, PREFIX if number < len(chunks) else 0)
                self._listeners.on_prefix(number, len(chunks))

    def next_chunk(self, index: int) -> Chunk:
        """Change the prompt if it is time, make one chunk, or take a finished one, and commit it, unless it is the
        last."""
        is_finished, is_last = index < self._plan.finished.chunks, index == self._plan.chunks - 1
        if index and not is_finished:
            self._ask(index)
        started = perf_counter()
        self._recaller.fall_asleep(index, self._plan.settles(index))
        transition = self._take_over(index)
        layout = self._history.layout(index, self._policy.chunk_frames, transition.is_far)
        recall = self._recaller.recall(index, self._plan.settles(index), transition.is_far)
        latent = self._make(index, layout, recall, is_last) if not is_finished else self._plan.finished.read(index)
        if is_finished and recall is not None:
            self._run(recall.choose(self._memory).again, latent)
        layout = self._history.layout(index, self._policy.chunk_frames, transition.is_far)
        if is_finished and not is_last:
            latent = self._commit(latent, layout)
        seen = {name: layout.seen(self._history.read(index, name)) for name in HEAD_TYPES}
        decisions: tuple[Decision, ...] = ()
        if not is_last:
            transition.after(self._history, layout.first_frame)
            decisions = self._remember(latent, layout, index + 1)
        made = Chunk(
            index,
            (layout.own_frames.start, layout.own_frames.stop),
            layout.position,
            latent.to("cpu", torch.float32),
            seen,
            decisions,
            self._memory.kv_bytes,
            0.0 if is_finished else perf_counter() - started,
            self._prefix_decisions if index == 0 else (),
            self._recaller.choice,
            self._window.behind,
        )
        if self._policy.recalls and self._plan.read is None:
            self._made.append(made.latent)
        return made

    def carried(self, last: Chunk) -> Carried[Text]:
        """What goes on from the last chunk."""
        plan = self._plan
        return Carried(
            self._history,
            (*self._history.chunks, range(*last.frames)),
            newest(plan.all_segments, plan.chunks),
            self._text_before,
            last.latent,
            tuple(latent.to("cpu", torch.float32) for latent in self._latents),
            plan.numbers_before + plan.chunks,
            self._recaller.recallable(last.latent),
        )

    def _ask(self, index: int) -> None:
        segment = self._live(index)
        if segment is not None:
            self._plan = self._plan.with_segment(segment)
            check_transitions(self._plan.all_segments, self._policy)

    def _take_over(self, index: int) -> Transition:
        """Put the chunk's text in force; how it takes over, if a segment begins."""
        segment = self._plan.change(index)
        if segment is not None:
            self._text_before = self._text
        self._text = self._plan.text(index, self._text_before)
        if segment is None:
            return NO_CHANGE
        transition = TRANSITIONS[segment.transition]
        work = transition.before(self._memory, self._history, index, self._latents)
        if work is not None:
            self._run(work, self._latents[-1])
        return transition

    def _make(self, index: int, layout: Layout, recall: Recall | None, is_last: bool) -> Tensor:
        plan, noise = self._plan, self._noise.initial(index)
        steps, context = plan.steps_of(index), None if is_last else self._policy.commit_context
        if plan.solver == ROLLING:
            roll = self._window.roll(plan, index, layout, context, recall)
            made = self._run(roll, roll.like(noise), steps.sigmas)
            return self._window.take(finite(made, index), layout)
        start, image = plan.start_of(index, noise), plan.image if index == 0 else None
        work = Denoise(
            index, layout, self._noise, steps.sigmas, context, recall, steps.timesteps, plan.solver, start, image
        )
        return finite(self._run(work, noise, steps.sigmas), index)

    def _commit(self, latent: Tensor, layout: Layout) -> Tensor:
        return self._run(Commit(latent, layout, self._policy.commit_context), latent)

    def _run(self, work: Pass, x: Tensor, levels: tuple[float, ...] = ()) -> Tensor:
        """Let the model go through a pass, under the text in force, by other noise levels than usual if given."""

        def recipe(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
            hear, beside = self._listeners, self._plan.concat
            return work.run(Model(predict, self._memory, sigmas, hear.on_step, hear.on_recall, beside), x)

        return self._backbone.sample(recipe, x, torch.tensor(levels or self._plan.sigmas), self._text)

    def _remember(self, latent: Tensor, layout: Layout, following: int) -> tuple[Decision, ...]:
        """Keep what the chunk `following` reads of a committed one and of those before it."""
        own = layout.own_frames
        self._latents.append(latent)
        self._history.observe(self._memory, own, self._grid)
        decisions = self._history.advance(own)
        self._memory.keep(self._history.frames(following), own)
        return decisions
