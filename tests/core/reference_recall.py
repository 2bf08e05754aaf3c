"""The naive reference: episodes by recall, old chunks that look like the present one, committed again to be read.

A chunk of which a choice is due looks at itself once, after its first step; the newest of the old chunks that are most
like it are committed again, reading the sink alone, and stand as episodes until the next choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reference_attention import History, Pass
from reference_episodes import NEAR_TIE, alike, describe, descriptor_layers
from reference_tiers import TYPES, Past, Rules, Seen, visible
from torch import Tensor

Committed = Sequence[tuple[int, Tensor]]
"(first frame, clean latent) of every committed chunk, in order."

Clean = Callable[[Tensor, int, Mapping[str, Seen]], Pass]
"(latent, its first frame, what it sees) -> the pass at sigma 0 under the present chunk's text."


@dataclass(frozen=True)
class Choice:
    """What was chosen at a chunk: first frames of old chunks in time order, and how like the chunk each of them is."""

    frames: tuple[int, ...]
    likeness: tuple[float, ...]
    candidates: int
    passes: int
    lowest: float
    best: float


def describe_chunk(one: Pass, frames: int) -> Tensor:
    """Descriptor of a whole chunk from the raw keys of a pass at sigma 0: (layers, 6, head_dim)."""
    keys = []
    for layer in descriptor_layers(len(one.labels)):
        heads = [head for head, head_type in enumerate(one.labels[layer]) if head_type == "memory"]
        own = one.own_keys[layer].unflatten(0, (frames, -1)).mean(dim=0)  # (tokens of a frame, heads, head_dim)
        keys.append(own[:, heads] if heads else own)
    return describe(keys, one.rows, one.columns)


def next_frame(committed: Committed) -> int:
    return committed[-1][0] + committed[-1][1].shape[2]


def candidates(rules: Rules, past: Past, committed: Committed) -> list[int]:
    """Chunks that the next one may choose: after the sink and the last flush or cut, none of it recent any more."""
    recent = max(next_frame(committed) - rules.memory.recent, past.first_recent)
    pinned = past.pinned if rules.memory.sink else ()
    start = max(past.first_sink + rules.memory.sink, past.first_recent)
    return [
        frame
        for frame, latent in committed
        if start <= frame and frame + latent.shape[2] <= recent and frame not in pinned
    ]


def bound(likeness: Sequence[float], share: float) -> float:
    """A share of the way from the greatest likeness down to the smallest."""
    return max(likeness) - share * (max(likeness) - min(likeness))


def newest_alike(
    likeness: Mapping[int, float], share: float, most: int, recorded: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The newest candidates that are alike enough. The recorded ones, where rounding alone tells the two apart."""
    if not likeness:
        return ()
    least = bound(list(likeness.values()), share)
    if recorded:
        doubtful = {frame for frame in likeness if abs(likeness[frame] - least) < NEAR_TIE}
        sure = {frame for frame in likeness if likeness[frame] >= least} - doubtful
        if sorted(sure | doubtful.intersection(recorded))[-most:] == list(recorded):
            return tuple(recorded)
    return tuple(sorted(frame for frame in likeness if likeness[frame] >= least)[-most:])


class Recall:
    """Descriptors of all chunks, the chunks that are read as episodes, and those whose K and V are still there."""

    def __init__(
        self, rules: Rules, chunk_frames: int, history: History, recorded: Mapping[int, tuple[int, ...]] | None
    ) -> None:
        self.rules, self.chunk_frames, self.history, self.recorded = rules, chunk_frames, history, recorded
        self.usual = rules.memory.episodes // chunk_frames if rules.episode_choice == "recall" else 0
        self.most = self.usual
        self.descriptors: dict[int, Tensor] = {}
        "By first frame, as each chunk was when it was committed first."
        self.chosen: tuple[int, ...] = ()
        self.still_held: tuple[int, ...] = ()
        self.last: int | None = None
        "First frame of the chunk at which a choice was last due."
        self.due = False

    def arrive(self, number: int, committed: Committed, past: Past, text_is_new: bool) -> None:
        """A chunk is to be made: has it to choose, once the past is compressed? Until it has, nothing is read."""
        self.due = self.usual > 0 and (
            self.last is None or text_is_new or self.view_has_changed(number, committed, past, self.last)
        )
        if self.due:
            self.chosen = ()

    def view_has_changed(self, number: int, committed: Committed, past: Past, last: int) -> bool:
        """Whether the newest chunk is less like the one of the last choice than the share of the way allows. A view is
        not looked for again before 24 frames and 8 chunks have passed."""
        among = candidates(self.rules, past, committed) if self.most else []
        if next_frame(committed) - last < max(24, 8 * self.chunk_frames) or len(among) < 2:
            return False
        now = self.descriptors[committed[-1][0]]
        least = bound([alike(now, self.descriptors[frame]) for frame in among], self.rules.recall_share)
        likeness = alike(now, self.descriptors[last])
        if self.recorded is not None and abs(likeness - least) < NEAR_TIE:
            return number in self.recorded
        return likeness < least

    def choose(
        self, number: int, x0: Tensor, committed: Committed, past: Past, seen: Mapping[str, Seen], clean: Clean
    ) -> Choice:
        """Look, if there is something to decide, choose, and commit again. `seen` is what the first step read."""
        among, self.last = candidates(self.rules, past, committed) if self.most else [], next_frame(committed)
        likeness, looks = dict.fromkeys(among, 1.0), 0
        if len(among) > 1:
            looks = 1
            look = describe_chunk(clean(x0, self.last, seen), x0.shape[2])
            likeness = {frame: alike(look, self.descriptors[frame]) for frame in among}
        recorded = None if self.recorded is None else self.recorded.get(number)
        self.chosen = newest_alike(likeness, self.rules.recall_share, self.most, recorded)
        return Choice(
            self.chosen,
            tuple(likeness[frame] for frame in self.chosen),
            len(among),
            looks + self.commit_again(dict(committed), past, seen, clean),
            min(likeness.values(), default=0.0),
            max(likeness.values(), default=0.0),
        )

    def commit_again(self, latents: Mapping[int, Tensor], past: Past, seen: Mapping[str, Seen], clean: Clean) -> int:
        """Make K and V of the chosen chunks that are not there any more. Returns how many passes it took."""
        kept = {
            frame
            for start in self.chosen
            if start in self.still_held
            for frame in range(start, start + latents[start].shape[2])
        }
        self.history.again = {place: kv for place, kv in self.history.again.items() if place[1] in kept}
        missing = [start for start in self.chosen if start not in self.still_held]
        for start in missing:
            one = clean(latents[start], start, self.sink_alone(past, seen, start))
            tokens = one.rows * one.columns
            for i in range(latents[start].shape[2]):
                own = slice(i * tokens, (i + 1) * tokens)
                for layer, (keys, values) in enumerate(zip(one.own_keys, one.own_values, strict=True)):
                    self.history.again[layer, start + i] = keys[own], values[own]
        self.still_held = self.chosen
        return len(missing)

    def sink_alone(self, past: Past, seen: Mapping[str, Seen], first: int) -> dict[str, Seen]:
        """What of the present sink lies before a chunk, as all of its history, however near it is."""
        held = {
            head_type: {frame for frame, _, tier in seen[head_type] if tier == "sink" and frame < first}
            for head_type in TYPES
        }
        sink = Past(held, warm=False, emptied=True, first_sink=past.first_sink, first_recent=first, shots=past.shots)
        return {head_type: visible(self.rules, head_type, sink, first, self.chunk_frames, ()) for head_type in TYPES}

    def forget(self) -> None:
        """What a flush or cut drops."""
        self.chosen = self.still_held = ()
        self.history.again = {}
        self.most = self.usual
