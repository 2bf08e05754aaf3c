"""The naive reference (method.md section 9, truth 2), written from method.md and docs/method_decisions.md alone and
sharing no code with the core.

It keeps every frame's raw K and V of every layer for ever, decides anew for every pass which frames a head may see and
where they stand, and gathers, rotates and attends head by head. Its parts: `reference_tiers`, `reference_episodes`,
`reference_recall`, `reference_attention`, `reference_texts`, `reference_solvers`; here are noise and the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from reference_attention import History, Model, Pass
from reference_episodes import Bank, Verdict, describe, descriptor_layers, is_candidate
from reference_recall import Choice, Recall, describe_chunk
from reference_rolling import Window, roll
from reference_solvers import Way
from reference_texts import Segment, is_first_whole, text_at
from reference_tiers import (
    TYPES,
    Past,
    Rules,
    Seen,
    beside_pinned,
    chunk_place,
    ends_warm_up,
    fits,
    left_recent,
    redone_chunks,
    visible,
)
from torch import Tensor

Draw = Callable[[int, int, Tensor | None], Tensor]
"(chunk, draw, like) -> noise; draw 0 is the chunk's initial noise, i + 1 the one after step i."


def per_chunk_noise(seed: int, shape: Sequence[int]) -> Draw:
    def draw(chunk: int, number: int, like: Tensor | None) -> Tensor:
        generator = torch.Generator("cpu").manual_seed((seed * 1000003 + chunk * 64 + number) % 2**63)
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    return draw


def native_noise(seed: int, shape: Sequence[int], chunks: int) -> Draw:
    batch, channels, frames, height, width = shape
    whole = torch.randn(
        batch, channels, frames * chunks, height, width, generator=torch.Generator("cpu").manual_seed(seed)
    )

    def draw(chunk: int, number: int, like: Tensor | None) -> Tensor:
        if number == 0:
            return whole[:, :, chunk * frames : (chunk + 1) * frames]
        generator = torch.Generator("cpu").manual_seed(seed + chunk * 1000 + (number - 1))
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    return draw


@dataclass(frozen=True)
class Made:
    """One generated chunk."""

    frames: tuple[int, int]
    latent: Tensor
    text: Tensor
    seen: Mapping[str, Seen]
    verdicts: tuple[Verdict, ...]
    choice: Choice | None = None


@dataclass(frozen=True)
class Video:
    """What was decided while the prefix was committed, and the generated chunks."""

    prefix_verdicts: tuple[Verdict, ...]
    chunks: tuple[Made, ...]


class Run:
    """The state of a video in the making, and what can happen to it."""

    def __init__(
        self,
        model: Model,
        rules: Rules,
        labels: Sequence[Sequence[str]],
        chunk_frames: int,
        recorded: Mapping[int, bool] | None,
        recorded_choices: Mapping[int, tuple[int, ...]] | None,
        way: Way,
    ) -> None:
        self.way = way
        self.model, self.rules, self.labels, self.chunk_frames = model, rules, labels, chunk_frames
        self.recorded = recorded
        self.history = History(
            [{} for _ in range(model.layers)], [{} for _ in range(model.layers)], rules.kv_precision == "int8"
        )
        self.past = Past()
        self.whole = rules.episode == "chunk"
        size = rules.memory.episodes // chunk_frames if self.whole else rules.memory.episodes
        self.bank = Bank(rules.memory.sink, size, rules.percentile, chunk_frames=chunk_frames)
        self.bank_size = size
        self.descriptors: dict[int, Tensor] = {}
        self.committed: list[tuple[int, Tensor]] = []
        "(first frame, clean latent) of every committed chunk."
        self.recall = Recall(rules, chunk_frames, self.history, recorded_choices)
        self.window = Window()

    def first(self) -> int:
        """The frame that the next chunk starts at."""
        return self.committed[-1][0] + self.committed[-1][1].shape[2] if self.committed else 0

    def seen(self, first: int, across_gap: bool = True) -> dict[str, Seen]:
        episodes = self.episodic_frames()
        return {
            head_type: visible(self.rules, head_type, self.past, first, self.chunk_frames, episodes, across_gap)
            for head_type in TYPES
        }

    def chunk_of(self, frame: int) -> tuple[int, int]:
        """First frame and length of the committed chunk that a frame is in."""
        return max((start, latent.shape[2]) for start, latent in self.committed if start <= frame)

    def episodic_frames(self) -> set[int]:
        """Frames that the bank keeps, or that were chosen."""
        if not self.whole:
            return set(self.bank.episodes)
        spans = [self.chunk_of(frame) for frame in [*self.bank.episodes, *self.recall.chosen]]
        return {frame for start, length in spans for frame in range(start, start + length)}

    def arrive(self, number: int | None, text_is_new: bool = False) -> None:
        """The next chunk is due: tiers apply once warm-up is over. Nothing is recalled if it is to choose anew."""
        if ends_warm_up(self.rules, self.first(), self.chunk_frames, number):
            self.past.warm = False
        if number is not None:
            self.recall.arrive(number, self.committed, self.past, text_is_new)
        self.drop_what_has_no_tier(self.first())

    def drop_what_has_no_tier(self, first: int) -> None:
        for head_type, seen in self.seen(first, across_gap=False).items():
            self.past.held[head_type] = {frame for frame, _, _ in seen}

    def forward(
        self,
        x: Tensor,
        sigma: float,
        text: Tensor,
        first: int,
        seen: Mapping[str, Seen],
        times: Sequence[float] | None = None,
    ) -> tuple[Tensor, Pass]:
        place = chunk_place(self.rules, self.past.shots, first, self.chunk_frames)
        places = range(place, place + x.shape[2])
        one = Pass(self.history, self.labels, seen, places, x.shape[3] // 2, x.shape[4] // 2)
        beside: dict[str, Tensor] = {}
        if times is not None:
            beside["timesteps"] = torch.tensor(times)
        if self.way.concat is not None:
            beside["concat"] = self.way.concat(range(first, first + x.shape[2]))
        return self.model.clean(x, sigma, text, one.attend, **beside), one

    def denoise(self, number: int, text: Tensor, draw: Draw) -> tuple[Tensor, Mapping[str, Seen], Choice | None]:
        if self.way.solver == "rolling":
            return roll(self, number, text, draw)
        first, choice = self.first(), None
        seen = self.seen(first)
        way, (sigmas, timesteps) = self.way, self.way.steps(number)
        x = start = way.start(number, draw(number, 0, None)).to(self.model.dtype)
        predicted: list[Tensor] = []

        def fresh(step: int, like: Tensor) -> Tensor:
            return draw(number, step + 1, like).to(self.model.dtype)

        for step in range(len(sigmas) - 1):
            x = way.held(number, x)
            tells = timesteps or (number == 0 and way.image is not None)
            times = way.times(number, step, x.shape[2]) if tells else None
            x0 = way.held(number, self.forward(x, sigmas[step], text, first, seen, times)[0])
            if step == 0 and self.recall.due and not self.holds_all():
                choice = self.choose(number, x0, text, seen)
                seen = self.seen(first)
                if len(sigmas) == 2 and choice.candidates > 0:
                    x0 = way.held(number, self.forward(x, sigmas[0], text, first, seen, times)[0])
                    choice = replace(choice, passes=choice.passes + 1)
            predicted.append(x0)
            x = way.after(number, start, predicted, fresh)
        x = way.held(number, x)
        return x, seen, choice

    def holds_all(self) -> bool:
        """Whether memory heads have dropped nothing yet."""
        return self.past.warm or fits(self.rules, "memory", self.past, self.first(), self.chunk_frames)

    def choose(self, number: int, x0: Tensor, text: Tensor, seen: Mapping[str, Seen]) -> Choice:
        """What is read as episodes from now on, by what a chunk is to be."""
        clean = partial(self.clean, text)
        choice = self.recall.choose(number, x0, self.committed, self.past, seen, clean)
        self.past.held["memory"] |= self.episodic_frames()
        return choice

    def clean(self, text: Tensor, x0: Tensor, first: int, seen: Mapping[str, Seen]) -> Pass:
        return self.forward(x0, 0.0, text, first, seen)[1]

    def write(self, first: int, latent: Tensor, text: Tensor) -> Pass:
        """One commit pass: the K and V of the chunk are kept, in place of those that these frames had."""
        context = self.seen(first)
        if self.rules.commit_context == "recent":
            context = {
                head_type: tuple(entry for entry in context[head_type] if entry[2] == "recent") for head_type in TYPES
            }
        one = self.clean(text, latent, first, context)
        tokens = one.rows * one.columns
        frames = range(first, first + latent.shape[2])
        for layer in range(self.model.layers):
            for frame in frames:
                own = slice((frame - first) * tokens, (frame - first + 1) * tokens)
                self.history.keys[layer][frame] = one.own_keys[layer][own]
                self.history.values[layer][frame] = one.own_values[layer][own]
        for head_type in TYPES:
            self.past.held[head_type] |= set(frames)
        return one

    def commit(self, latent: Tensor, text: Tensor) -> tuple[Verdict, ...]:
        """A chunk's first commit, and what is decided with it."""
        first, end = self.first(), self.first() + latent.shape[2]
        self.recall.descriptors[first] = describe_chunk(self.write(first, latent, text), latent.shape[2])
        self.committed.append((first, latent))
        for frame in range(first, end):
            self.descriptors[frame] = self.descriptor(frame, latent.shape[3] // 2, latent.shape[4] // 2)

        if self.past.far:
            self.past.far = False
            self.past.first_sink = self.past.first_recent = first
            self.past.held = {head_type: set(range(first, end)) for head_type in TYPES}
            self.bank.start_again(first)
        if self.past.begins_shot:
            self.past.begins_shot, self.past.pinned = False, tuple(range(first, end))
            self.bank.size = min(self.bank_size, self.room_beside_pinned())
            while len(self.bank.episodes) > self.bank.size:
                del self.bank.episodes[0]
        if self.rules.memory.episodes == 0 or self.rules.episode_choice == "recall":
            return ()
        verdicts = []
        for frame in left_recent(self.rules, self.past, first, latent.shape[2]):
            chunk_first, length = self.chunk_of(frame)
            if self.whole and frame != chunk_first:
                continue  # the whole chunk was judged when its first frame left
            end_of_sink = self.past.first_sink + self.rules.memory.sink
            for candidate in range(chunk_first, chunk_first + length) if self.whole else (frame,):
                if candidate in self.past.pinned and self.rules.memory.sink:
                    continue
                if is_candidate(candidate, end_of_sink, self.chunk_frames, chunk_first):
                    verdicts.append(self.bank.judge(candidate, self.descriptors, self.recorded))
        return tuple(verdicts)

    def descriptor(self, frame: int, rows: int, columns: int) -> Tensor:
        keys = []
        for layer in descriptor_layers(self.model.layers):
            memory_heads = [head for head in range(self.model.heads) if self.labels[layer][head] == "memory"]
            keys.append(self.history.keys[layer][frame][:, memory_heads or range(self.model.heads)])
        return describe(keys, rows, columns)

    def change(self, segment: Segment) -> None:
        """A prompt change, before the first pass of the new segment (section 7)."""
        if segment.transition == "recache":
            self.recache(segment.text)
        if segment.transition in ("flush", "cut"):
            self.flush()
        if segment.transition == "cut":
            self.past.far = True
        if segment.transition == "shot":
            self.past.begins_shot = True
            self.past.shots.append(self.first())
            self.recall.most = min(self.recall.usual, self.room_beside_pinned())

    def room_beside_pinned(self) -> int:
        """Whole episodes that there is room for beside a pinned chunk."""
        sizes = self.rules.memory
        if sizes.sink:
            sizes = beside_pinned(self.rules, sizes, self.chunk_frames)
        return sizes.episodes // (self.chunk_frames if self.whole else 1)

    def recache(self, text: Tensor) -> None:
        again = self.committed[-redone_chunks(self.rules, self.chunk_frames) :]
        for head_type in TYPES:
            self.past.held[head_type] -= set(range(again[0][0], self.first()))
        for first, latent in again:
            self.write(first, latent, text)
            self.drop_what_has_no_tier(first + latent.shape[2])

    def flush(self) -> None:
        self.past.warm, self.past.emptied = False, True
        self.past.first_recent, self.past.pinned, self.bank.size = self.first() - 1, (), self.bank_size
        for head_type in TYPES:
            sizes = self.rules.sizes(head_type)
            self.past.held[head_type] = {
                frame
                for frame in self.past.held[head_type]
                if frame == self.first() - 1 or self.past.is_sink(frame, sizes)
            }
        self.bank.flush()
        self.recall.forget()


def generate(
    model: Model,
    rules: Rules,
    labels: Sequence[Sequence[str]],
    chunks: int,
    chunk_frames: int,
    sigmas: Sequence[float],
    segments: Sequence[Segment],
    draw: Draw,
    prefix: Tensor | None = None,
    recorded: Mapping[int, bool] | None = None,
    recorded_choices: Mapping[int, tuple[int, ...]] | None = None,
    latents: Sequence[Tensor] | None = None,
    way: Way | None = None,
) -> Video:
    """Make the whole video in the model's dtype. `recorded` says what the other side admitted, `recorded_choices` what
    it chose, by chunk (nothing where it found no candidate), for near ties. Every chunk goes on from the other side's
    `latents`, if they are given: where numbers are rounded, a hair makes a step, and steps add up. A `way` is taken in
    place of `sigmas`."""
    run = Run(model, rules, labels, chunk_frames, recorded, recorded_choices, way or Way(sigmas))
    prefix_verdicts: list[Verdict] = []
    if prefix is not None:
        for latent in prefix.to(model.dtype).split(chunk_frames, dim=2):
            run.arrive(None)
            prefix_verdicts += run.commit(latent, segments[0].text)

    made = []
    for number in range(chunks):
        run.arrive(number, is_first_whole(segments, number))
        for segment in segments[1:]:
            if segment.first_chunk == number:
                run.change(segment)
        text, first = text_at(segments, number), run.first()
        x, seen, choice = run.denoise(number, text, draw)
        clean = x if latents is None else latents[number].to(model.dtype)
        verdicts = run.commit(clean, text) if number < chunks - 1 else ()
        made.append(Made((first, first + chunk_frames), x, text, seen, verdicts, choice))
    return Video(tuple(prefix_verdicts), tuple(made))
