"""Whether a run goes on with the memory of the run before, or commits its frames anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...headforcing_core.families.family import CONCAT
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.policy.fitting import FittedPolicy
from ...headforcing_core.policy.head_types import Labels
from ...headforcing_core.policy.presets import PRESETS
from ...headforcing_core.policy.tiers import Tiers
from ...headforcing_core.rollout.transitions import check_transition
from ...headforcing_core.run_store.record import CARRIED, COMMITTED
from ..host.model import layers_and_heads
from .carried_memory import KEY, CarriedMemory, HeldMemory, MadeWith, Past, sha256
from .run_scenes import as_taught, recorded

if TYPE_CHECKING:
    from ...headforcing_core.rollout.plan import RolloutPlan, Segment
    from ..sockets import Conditioning
    from .run_request import RunRequest

_ANY: CachePolicy = PRESETS["paper"]
_TIERS = Tiers(0, 0, 1)
_AS_ONE_RUN = "the video goes on as one run of all its scenes."
GOES_ON = f"The memory of the video before was taken over: {_AS_ONE_RUN}"
MADE_ANEW = (
    "Another run has gone on from the video before, and keys and values are held once, so they were made anew, by a "
    f"pass over each of its chunks: {_AS_ONE_RUN}"
)
ROLLS = "this model makes several chunks at once, and what is begun of them is not carried over"
NOBODY_GOES_ON = "nothing went on from it when it was made, so it was not kept"
ON_CARDS = "several cards make the video, each with its own part of the memory"


def settle_past(request: RunRequest, begun_by: str | None, on_cards: bool) -> RunRequest:
    """The run with the memory of the run before, where `previous` has one that fits. `begun_by` is the way in which it
    was begun, if it is kept and goes on."""
    previous = request.beginning.previous
    if previous is None:
        return request
    memory = previous.get(KEY)
    if not isinstance(memory, CarriedMemory):
        return _by_passes(request, begun_by, "", "previous has no memory beside its samples")
    why = ON_CARDS if on_cards else ""
    if begun_by == COMMITTED:
        why = "the run was begun before without it, and goes on as it began"
    held, why = memory.held, why or memory.gone or _changed(request, memory)
    if held is None or why:
        return _by_passes(request, begun_by, why, why)
    if request.needs_profile and request.profile is None:
        request = with_profile(request, held)
    if why := _unlike(request, held.made_with):
        return _by_passes(request, begun_by, why, why)
    return _with_memory(request, held)


def made_with(
    request: RunRequest, labels: Labels, profile: HeadProfile | None, plan: RolloutPlan[Conditioning]
) -> MadeWith:
    """What the memory of a run belongs to that made all chunks of this plan."""
    last = [segment for segment in plan.segments if segment.first_chunk < plan.chunks][-1]
    return MadeWith(_facts(request), labels, profile, _text(request, last), plan, request.past.memory)


def _by_passes(request: RunRequest, begun_by: str | None, told: str, lost: str) -> RunRequest:
    """The run whose past is committed anew, as is `told`; or what it `lost`, where it was begun otherwise."""
    if begun_by == CARRIED:
        return replace(request, past=Past(CARRIED, None, lost))
    note = f"The frames of previous were committed anew under the first prompt, without the memory of its run: {told}."
    return replace(request, notes=(*request.notes, *[note] * bool(told)))


def _with_memory(request: RunRequest, memory: HeldMemory) -> RunRequest:
    plan = request.rollout
    first, *later = plan.segments
    if changes := _text(request, first) != memory.made_with.text:
        first = first if request.schedule is None else as_taught(first, request.schedule, plan.policy.shots)
    plan = replace(plan, segments=(first, *later), prefix=None, carried=memory.carried, changes_text=changes)
    told = MADE_ANEW if memory.kv is None else GOES_ON
    return replace(request, rollout=plan, past=Past(CARRIED, memory), notes=(*request.notes, told))


def with_profile(request: RunRequest, memory: HeldMemory) -> RunRequest:
    """The run with the heads of the run before, where it has no profile of its own."""
    profile = memory.made_with.profile
    if profile is None:
        return request
    fitted = request.fitted.recalling(profile.recall_layers, profile.recall_share)
    return replace(request, profile=profile.as_used(fitted), rollout=replace(request.rollout, policy=fitted))


def _changed(request: RunRequest, memory: CarriedMemory) -> str:
    if request.beginning.previous_hash == memory.samples_hash:
        return ""
    return "its samples were changed on their way, as by a node that cuts or rescales them"


def _unlike(request: RunRequest, made: MadeWith) -> str:
    """What of the two runs is not the same, in words."""
    plan = request.rollout
    unlike = [called for called, value in _facts(request).items() if value != made.facts[called]]
    if not unlike and labels_of(request) != made.labels:
        unlike = ["the profile (which head does what)"]
    if unlike:
        return f"{unlike[0]} is not the one that it was made with"
    if _text(request, plan.segments[0]) == made.text:
        return ""
    word = plan.segments[0].transition
    try:
        check_transition(word, plan.policy)
    except ValueError as error:
        return str(error).removesuffix(".")
    return ""


def labels_of(request: RunRequest) -> Labels | None:
    """Which head of a run does what, if that is known by now; all are alike where its policy tells none apart."""
    if request.profile is not None:
        return request.profile.labels
    if request.needs_profile:
        return None
    layers, heads = layers_and_heads(request.model)
    return tuple(("memory",) * heads for _ in range(layers))


def _facts(request: RunRequest) -> dict[str, object]:
    """What decides about the K and V of a run's frames, by what it is called."""
    facts, beside = request.facts, request.beginning.start_image
    return {
        "the model": (facts.fingerprint, facts.family, request.model.model.get_dtype_inference()),
        "the LoRA": request.weight_patches[0],
        "chunk_frames": request.fitted.chunk_frames,
        "the size": (request.video.width, request.video.height),
        "the policy": _for_any_length(request.fitted),
        "the start_image": None if beside is None or facts.record.image != CONCAT else sha256(beside[:1, ..., :3]),
    }


def _for_any_length(fitted: FittedPolicy) -> FittedPolicy:
    """A policy without what it was asked by, and without what comes of the length of the video alone."""
    fitted = replace(fitted, asked=_ANY)
    if not fitted.keep_everything:
        return fitted
    return replace(fitted, local=_TIERS, anchor=_TIERS, memory=_TIERS, compress_from_chunk=1)


def _text(request: RunRequest, segment: Segment[Conditioning]) -> tuple[bool, str]:
    is_written = request.schedule is not None
    return is_written, recorded((segment,), is_written)[0].text
