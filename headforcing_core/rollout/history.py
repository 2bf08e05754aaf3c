"""What each head type holds as a rollout goes on."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kv_memory.memory import EVERY_HEAD
from ..kv_memory.rollout_memory import RolloutMemory
from ..policy.fitting import FittedPolicy
from ..policy.head_types import HEAD_TYPES
from ..policy.positions import chunk_position, moved_on
from ..policy.tiers import KeptFrames, all_frames, kept_frames
from .episodes import Decision, EpisodicMemory, describe, descriptor_layers, is_candidate
from .layout import Layout
from .passes import Commit, Recache
from .recall import RecallMemory, candidate_chunks, captured_layers, describe_chunk


@dataclass
class History:
    """The committed frames by their chunks, and the tiers over them. Sinks begin at `base`, recent tiers not before
    `floor`; a flush ends warm-up for good, and with it that tiers are filled. The first chunk of a shot is pinned while
    the shot lasts. What was `decided` about episodes before is not judged again."""

    policy: FittedPolicy
    labels: Sequence[Sequence[str]]
    decided: Mapping[int, Decision]

    def __post_init__(self) -> None:
        policy = self.policy
        self._most_episodes = 0 if policy.recalls else policy.episodes
        n, share = policy.chunk_frames, policy.recall_share
        size, percentile = self._most_episodes, policy.novelty_percentile
        self.episodic = EpisodicMemory(policy.memory.sink, size, percentile, self.decided, n)
        self.recall = RecallMemory(policy.episodes, share, n) if policy.recalls and policy.episodes else None
        self.committed = 0
        self.chunks: list[range] = []
        self._candidates: set[int] = set()
        self._base = self._floor = 0
        self._flushed = False
        self._shots: list[int] = []  # by their first frames
        self._pinned = range(0)
        self._chunks_before = 0

    def goes_on(self, policy: FittedPolicy, decided: Mapping[int, Decision], chunks: int) -> None:
        """From now on chunks count from the one after so many that were made, under the same policy as it is fitted to
        a longer video."""
        self.policy, self.episodic.replay, self._chunks_before = policy, decided, chunks

    def kept(self, chunk: int, head_type: str, committed: int | None = None) -> KeptFrames:
        """What a head type holds for a chunk, after all committed frames or after so many."""
        at = self.committed if committed is None else committed
        if self._holds_all(chunk, head_type, at):
            sink = self.policy.memory.sink if self._warms_up(chunk) else self.policy.tiers(head_type).sink
            return all_frames(at, sink)
        if self.recall is not None:
            episodes = [frame for number in self.recall.held for frame in self.chunks[number]]
        else:
            episodes = [frame for episode in self.episodic.episodes for frame in self._span(episode)]
        tiers = self.policy.beside_pinned(head_type) if self._pinned else self.policy.tiers(head_type)
        return kept_frames(tiers, at, episodes, self._base, self._floor, self._pinned_by(head_type))

    def read(self, chunk: int, head_type: str) -> KeptFrames:
        """What of that the chunk reads: all of it, or as the first one of a shot what stands within the trained range
        on the far side of the gap."""
        return self._near(self.kept(chunk, head_type))

    def groups(self, chunk: int, committed: int | None = None) -> dict[str, KeptFrames]:
        """What every group in use holds for a chunk."""
        if self._warms_up(chunk):
            return {EVERY_HEAD: self.kept(chunk, EVERY_HEAD, committed)}
        used = {label for layer in self.labels for label in layer}
        return {name: self.kept(chunk, name, committed) for name in HEAD_TYPES if name in used}

    def frames(self, chunk: int) -> dict[str, tuple[int, ...]]:
        """Ids of the frames that every group in use holds for a chunk."""
        return {group: kept.frames for group, kept in self.groups(chunk).items()}

    def layout(self, chunk: int, frames: int, far: bool = False) -> Layout:
        """The layout of the next chunk, of so many frames."""
        groups = {group: self._near(kept) for group, kept in self.groups(chunk).items()}
        return self._layout(self.committed, frames, groups, far)

    def layout_again(self, chunk: int, own: range, held: Mapping[str, tuple[int, ...]]) -> Layout:
        """The layout of an earlier chunk that is committed again before `chunk`, over the frames that are still held.

        Example: frames 21 to 23 again before chunk 9, under `paper`. The first time memory heads read the sink 0, 1, 2
        at positions 9, 10, 11 and the recent 15 to 20 at 12 to 17. Those have left since, so that the sink now stands
        right before the chunk, at 15, 16, 17.
        """
        there = self.groups(chunk, own.start)
        over = {group: replace(kept, frames=held[group]) for group, kept in there.items()}
        return self._layout(own.start, len(own), over, far=False)

    def observe(self, memory: RolloutMemory, own: range, grid: tuple[int, int]) -> None:
        """Describe a chunk, or its sink frames and candidates, from the keys that its first commit pass computed."""
        if self.recall is not None:
            self.recall.remembered.add(self.describe(memory, grid))
        if not self._most_episodes:
            return
        for place, frame in enumerate(own):
            n = self.policy.chunk_frames
            candidate = is_candidate(frame, self.episodic.sink.stop, own.start, n)
            if candidate:
                self._candidates.add(frame)
            if candidate or frame in self.episodic.sink:
                described = [
                    describe(self._memory_heads(memory.captured_keys(layer)[0, place : place + 1], layer), *grid)[0]
                    for layer in descriptor_layers(len(self.labels))
                ]
                self.episodic.observe(frame, memory.agreed(torch.stack(described)))

    def describe(self, memory: RolloutMemory, grid: tuple[int, int]) -> Tensor:
        """Descriptor of the chunk that the last pass saw: (layers, ROWS, head_dim)."""
        layers = captured_layers(self.policy, len(self.labels))
        keys = [self._memory_heads(memory.captured_keys(layer)[0], layer) for layer in layers]
        return memory.agreed(torch.stack([describe_chunk(each, *grid) for each in keys]))

    def candidates(self, chunk: int) -> Sequence[int]:
        """Numbers of the committed chunks that may be recalled for a chunk: whole ones after the sink, and after what
        was flushed, that have left the recent tier of memory heads and are not pinned. None, if there is no room."""
        if self.recall is None or not self.recall.size:
            return range(0)
        kept = self.kept(chunk, "memory")
        found = candidate_chunks(self.chunks, max(kept.sink_end, self._floor), kept.recent_from)
        if not kept.pinned:
            return found
        return [number for number in found if self.chunks[number].start not in kept.pinned]

    def numbers_of(self, chunk: int, first_frames: Sequence[int]) -> list[int]:
        """Numbers of the chunks that begin at these frames and are to be recalled for a chunk, in time order.
        ValueError where one is no candidate, and for more than there is room for."""
        assert self.recall is not None
        candidates, frames = self.candidates(chunk), sorted(set(first_frames))
        found = [bisect_left(self.chunks, frame, key=lambda own: own.start) for frame in frames]
        fit = all(
            number in candidates and self.chunks[number].start == frame
            for number, frame in zip(found, frames, strict=True)
        )
        if not fit or len(found) > self.recall.size:
            raise ValueError(
                f"Chunk {chunk} is to recall the chunks that begin at the frames {frames}. It can recall at most "
                f"{self.recall.size} whole ones between the sink and the recent frames, so these are of another run. "
                "Put a good copy of journal.jsonl back, or make the run anew."
            )
        return found

    def recall_is_due(self, chunk: int, settles: bool, by_view: bool = True) -> bool:
        """Whether it is to be chosen for the next chunk what memory heads recall; not `by_view`, whether that is so
        whatever the last chunk shows."""
        if self.recall is None or self._holds_all(chunk, "memory", self.committed):
            return False
        return self.recall.is_due(settles, self.chunks, self.candidates(chunk) if by_view else range(0))

    def load(self, chunk: int, chosen: Sequence[int], latent: Callable[[int], Tensor]) -> Recache:
        """Let memory heads hold these chunks, and no others, as episodes: what has to be committed again for it. Each
        is read with the sink alone."""
        recall = self.recall
        assert recall is not None
        new = [number for number in chosen if number not in recall.held]
        held: list[dict[str, tuple[int, ...]]] = []
        for count in range(len(new) + 1):
            recall.held = tuple(number for number in chosen if number not in new[count:])
            held.append(self.frames(chunk))
        commits: list[Commit] = []
        for number in new:
            own = self.chunks[number]
            alone = {group: self._near(kept).sink_before(own.start) for group, kept in self.groups(chunk).items()}
            commits.append(Commit(latent(number), self._layout(own.start, len(own), alone, far=False), "full"))
        recall.settle(len(self.chunks), chosen)
        return Recache(tuple(commits), tuple(held))

    def advance(self, own: range) -> tuple[Decision, ...]:
        """Count a committed chunk, and judge the candidates whose first kept frame leaves the recent tier of memory
        heads. One that is pinned is not."""
        before = self.committed - self.policy.memory.recent
        self.chunks.append(own)
        self.committed += len(own)
        leaving = range(max(self._floor, before), max(self._floor, before + len(own)))
        left = sorted(frame for frame in self._candidates if self._span(frame).start in leaving)
        self._candidates.difference_update(left)
        pinned = self._pinned_by("memory")
        for frame in left:
            if frame in pinned:
                self.episodic.leave_out(frame)
        return tuple(self.episodic.judge(frame) for frame in left if frame not in pinned)

    def flush(self) -> None:
        """Forget all but the sink and the last frame."""
        self._flushed = True
        self._floor, self._pinned = self.committed - 1, range(0)
        self._candidates = {frame for frame in self._candidates if self._span(frame).start >= self._floor}
        self.episodic.forget(self._floor)
        self.episodic.resize(self._most_episodes)
        if self.recall is not None:
            self.recall.forget()
            self.recall.size = self.policy.episodes

    def begin_shot(self) -> None:
        """The next chunk is the first one of a shot: what it recalls has to have room beside it later."""
        self._shots.append(self.committed)
        if self.recall is not None:
            self.recall.size = self.policy.episodes_beside_pinned

    def pin(self, first_frame: int) -> None:
        """Keep the chunk that begins at a frame while its shot lasts, in place of that of the shot before."""
        self._pinned = range(first_frame, first_frame + self.policy.chunk_frames)
        self.episodic.resize(min(self._most_episodes, self.policy.episodes_beside_pinned))

    def start_anew(self, first_frame: int) -> None:
        """Forget everything before a frame, at which the sink begins."""
        self._base = self._floor = first_frame

    def _span(self, candidate: int) -> range:
        """The frames that a candidate's episode keeps."""
        if self.policy.episode_frames == 1:
            return range(candidate, candidate + 1)
        return self.chunks[bisect_right(self.chunks, candidate, key=lambda own: own.start) - 1]

    def _warms_up(self, chunk: int) -> bool:
        return not self._flushed and self.policy.warms_up(self._chunks_before + chunk, self.committed)

    def _holds_all(self, chunk: int, head_type: str, committed: int) -> bool:
        return self._warms_up(chunk) or (not self._flushed and self.policy.has_room(head_type, committed))

    def _pinned_by(self, head_type: str) -> range:
        return self._pinned if self.policy.pinned(head_type) else range(0)

    def _near(self, kept: KeptFrames) -> KeptFrames:
        """What the next chunk reads of what is held. Absolute positions have no end of a range to stay within."""
        if self.policy.rope == "absolute" or self.committed not in self._shots[-1:]:
            return kept
        return kept.nearest(self.policy.trained_frames - self.policy.chunk_frames - self.policy.gap)

    def _layout(self, first_frame: int, frames: int, groups: Mapping[str, KeptFrames], far: bool) -> Layout:
        rope, n, gap = self.policy.rope, self.policy.chunk_frames, self.policy.gap
        # absolute positions keep every gap, others that of the shot which begins now
        shots = tuple(shot for shot in self._shots if rope == "absolute" or shot == first_frame == self.committed)
        position = chunk_position(rope, moved_on(first_frame, shots, gap), n, self.policy.trained_frames)
        if self.recall is not None and self.recall.asleep:
            asleep = {frame for number in self.recall.held for frame in self.chunks[number]}
            groups = {name: kept.without(asleep if name == "memory" else ()) for name, kept in groups.items()}
        return Layout(first_frame, frames, position, rope, groups, far, shots, gap)

    def _memory_heads(self, keys: Tensor, layer: int) -> Tensor:
        heads = [head for head, label in enumerate(self.labels[layer]) if label == "memory"]
        return keys[..., heads, :] if heads else keys
