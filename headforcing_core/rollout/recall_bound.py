"""How many passes of the model recalling can take, counted before the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..geometry import prefix_chunks
from .episodes import forced_spacing
from .plan import RolloutPlan
from .recall import candidate_chunks
from .transitions import TRANSITIONS, recached_chunks


@dataclass(frozen=True)
class RecallBound:
    """The most that recalling takes. At the changes that are known: `looks`, `loads` of old chunks that are committed
    again, and in all `passes` of the model, beside those that are `made_anyway`. Where the view changes without a new
    text: at most so many `views`. Each of those, and of changes that nobody knows yet, takes `a_choice` passes."""

    looks: int
    loads: int
    passes: int
    made_anyway: int
    views: int
    a_choice: int

    @property
    def most(self) -> int:
        """Passes of all that is told, without changes that nobody knows yet."""
        return self.passes + self.views * self.a_choice


def recall_bound(plan: RolloutPlan[Any]) -> RecallBound | None:
    """The bound of a plan; None where its policy recalls nothing."""
    policy = plan.policy
    if not policy.recalls or not policy.episodes:
        return None
    repeats = plan.is_one_step
    due = _due(plan)
    there = _candidates(plan, due)
    looks = sum(count > 1 for count in there)
    loads = sum(min(count, policy.episodes) for count in there)
    spacing = -(-forced_spacing(policy.chunk_frames) // policy.chunk_frames)
    ends = [*due[1:], plan.chunks][: len(due)]
    return RecallBound(
        looks,
        loads,
        looks + loads + repeats * sum(count > 0 for count in there),
        _made_anyway(plan),
        sum((end - chunk - 1) // spacing for chunk, end in zip(due, ends, strict=True)),
        1 + policy.episodes + repeats,
    )


def _due(plan: RolloutPlan[Any]) -> list[int]:
    """The chunks for which it is chosen whatever they show: the first one for which memory heads drop something, and
    where a text settles."""
    policy, later = plan.policy, plan.segments[1:]
    starts = ((chunk, plan.prefix_frames + chunk * policy.chunk_frames) for chunk in range(plan.chunks))
    drops = (chunk for chunk, at in starts if not (policy.warms_up(chunk, at) or policy.has_room("memory", at)))
    first = next(drops, plan.chunks)
    first = min([first, *(segment.first_chunk for segment in later if TRANSITIONS[segment.transition].forgets)])
    settling = {segment.settles_at for segment in later if plan.settles(segment.settles_at)}
    return sorted(chunk for chunk in {first, *settling} if first <= chunk < plan.chunks)


def _candidates(plan: RolloutPlan[Any], due: Sequence[int]) -> list[int]:
    """How many chunks may be recalled for each of these, or a few more after a cut."""
    policy, before = plan.policy, plan.prefix_frames
    starts = [before + policy.chunk_frames * chunk for chunk in range(plan.chunks)]
    chunks = [*prefix_chunks(before, policy.chunk_frames), *(range(s, s + policy.chunk_frames) for s in starts)]
    emptied = [s.first_chunk for s in plan.segments[1:] if TRANSITIONS[s.transition].forgets]
    counts: list[int] = []
    for chunk in due:
        floor = max((starts[at] - 1 for at in emptied if at <= chunk), default=0)
        recent_from = starts[chunk] - policy.memory.recent
        counts.append(len(candidate_chunks(chunks, max(policy.memory.sink, floor), recent_from)))
    return counts


def _made_anyway(plan: RolloutPlan[Any]) -> int:
    """Steps and commits of all chunks, those of the prefix and those that a recache commits again, at most."""
    prefix = len(prefix_chunks(plan.prefix_frames, plan.policy.chunk_frames))
    again = recached_chunks(plan.policy.memory.recent, plan.policy.chunk_frames)
    recached = [s.first_chunk for s in plan.segments[1:] if s.transition == "recache" and s.first_chunk < plan.chunks]
    steps = len(plan.sigmas) - 1
    return prefix + plan.chunks * (steps + 1) - 1 + sum(min(again, prefix + chunk) for chunk in recached)
