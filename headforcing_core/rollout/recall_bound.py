"""How many passes of the model recalling can take, counted before the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    due = _due(plan)
    there = _candidates(plan, due)
    looks = sum(count > 1 for count in there)
    loads = sum(min(count, _room(plan, chunk)) for count, chunk in zip(there, due, strict=True))
    repeats = sum(count > 0 and plan.steps_of(chunk).count == 1 for chunk, count in zip(due, there, strict=True))
    spacing = -(-forced_spacing(policy.chunk_frames) // policy.chunk_frames)
    ends = [*due[1:], plan.chunks][: len(due)]
    return RecallBound(
        looks,
        loads,
        looks + loads + repeats,
        _made_anyway(plan),
        sum((end - chunk - 1) // spacing for chunk, end in zip(due, ends, strict=True)),
        1 + policy.episodes + (len(plan.sigmas) == 2),  # none of these is chunk 0
    )


def _due(plan: RolloutPlan[Any]) -> list[int]:
    """The chunks for which it is chosen whatever they show: the first one for which memory heads drop something, and
    where a text settles."""
    policy, later, before = plan.policy, plan.all_segments[1:], plan.numbers_before
    starts = ((chunk, plan.prefix_frames + chunk * policy.chunk_frames) for chunk in range(plan.chunks))
    drops = (
        chunk for chunk, at in starts if not (policy.warms_up(before + chunk, at) or policy.has_room("memory", at))
    )
    first = next(drops, plan.chunks)
    forgets = (segment.first_chunk for segment in later if TRANSITIONS[segment.transition].forgets)
    first = max(0, min([first, *forgets]))
    settling = {segment.settles_at for segment in later if plan.settles(segment.settles_at)}
    return sorted(chunk for chunk in {first, *settling} if first <= chunk < plan.chunks)


def _candidates(plan: RolloutPlan[Any], due: Sequence[int]) -> list[int]:
    """How many chunks may be recalled for each of these, or a few more after a cut."""
    policy, before = plan.policy, plan.prefix_frames
    starts = [before + policy.chunk_frames * chunk for chunk in range(plan.chunks)]
    chunks = [*plan.before, *(range(s, s + policy.chunk_frames) for s in starts)]
    later = [s for s in plan.all_segments[1:] if s.first_chunk >= 0]
    emptied = [s.first_chunk for s in later if TRANSITIONS[s.transition].forgets]
    counts: list[int] = []
    for chunk in due:
        floor = max((starts[at] - 1 for at in emptied if at <= chunk), default=0)
        recent_from = starts[chunk] - policy.memory.recent
        found = candidate_chunks(chunks, max(policy.memory.sink, floor), recent_from)
        pinned = _shot(plan, chunk - 1) if policy.pinned("memory") else None
        is_found = pinned is not None and len(chunks) - plan.chunks + pinned in found
        counts.append(len(found) - is_found if _room(plan, chunk) else 0)
    return counts


def _shot(plan: RolloutPlan[Any], chunk: int) -> int | None:
    """The first chunk of the shot that a chunk is of, if it is of one."""
    begun = [s for s in plan.all_segments[1:] if s.first_chunk <= chunk]
    deciding = [s for s in begun if TRANSITIONS[s.transition].is_shot or TRANSITIONS[s.transition].forgets]
    return deciding[-1].first_chunk if deciding and TRANSITIONS[deciding[-1].transition].is_shot else None


def _room(plan: RolloutPlan[Any], chunk: int) -> int:
    """How many old chunks can be read with a chunk."""
    return plan.policy.episodes if _shot(plan, chunk) is None else plan.policy.episodes_beside_pinned


def _made_anyway(plan: RolloutPlan[Any]) -> int:
    """Steps and commits of all chunks, those of the prefix and those that a recache commits again, at most."""
    prefix = len(plan.before)
    again = recached_chunks(plan.policy.memory.recent, plan.policy.chunk_frames)
    later = [s for s in plan.all_segments[1:] if 0 <= s.first_chunk < plan.chunks]
    recached = [s.first_chunk for s in later if s.transition == "recache"]
    steps = sum(plan.passes_of(chunk) for chunk in range(plan.chunks))
    committed = prefix if plan.carried is None else 1
    return committed + steps + plan.chunks - 1 + sum(min(again, prefix + chunk) for chunk in recached)
