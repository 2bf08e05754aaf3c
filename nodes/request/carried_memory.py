"""What travels in a LATENT beside `samples`: the memory that a run had at its end, for the sampler that goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from ...headforcing_core.kv_memory.carried_kv import CarriedKV
from ...headforcing_core.policy.head_types import Labels
from ...headforcing_core.rollout.carried import Carried
from ...headforcing_core.rollout.plan import RolloutPlan
from ...headforcing_core.run_store.record import ANEW, COMMITTED

if TYPE_CHECKING:
    from ...headforcing_core.heads.profile import HeadProfile
    from ..sockets import Conditioning

KEY = "head_forcing"
"""Beside `samples` in a LATENT."""


class EndOfRun(NamedTuple):
    """What a rollout held at its end: all that goes on, and K and V in main memory."""

    carried: Carried[Conditioning]
    kv: CarriedKV


@dataclass(frozen=True)
class MadeWith:
    """What a memory belongs to: `facts` of its run by what they are called; which head did what, and the profile that
    this is from, if from one; `text`, a hash of the prompt in force at the end, and whether it was written. K and V
    come again by `plan`, all chunks of which are finished, over what was held `before` its run, if it went on."""

    facts: Mapping[str, object]
    labels: Labels
    profile: HeadProfile | None
    text: tuple[bool, str]
    plan: RolloutPlan[Conditioning]
    before: HeldMemory | None


@dataclass
class HeldMemory:
    """The memory of a run at its end. Its K and V go into one run, and are None once that has come to its end: another
    one has them made anew."""

    made_with: MadeWith
    carried: Carried[Conditioning]
    kv: CarriedKV | None


@dataclass(frozen=True)
class CarriedMemory:
    """The memory of a run, of the video whose `samples` have this SHA-256; or why it is `gone`. Who copies a LATENT has
    the same one."""

    samples_hash: str = ""
    held: HeldMemory | None = None
    gone: str = ""

    def __deepcopy__(self, memo: object) -> CarriedMemory:
        return self


@dataclass(frozen=True)
class Past:
    """By which `way` a run comes to the memory of what is there before its first chunk: COMMITTED, by a pass over each
    chunk of it, or CARRIED, as the run before had it. That one is in `memory`; where it has to be and is not, `lost`
    says why."""

    way: str = COMMITTED
    memory: HeldMemory | None = None
    lost: str = ""

    def check(self) -> None:
        """RuntimeError where a run that was begun with the memory of the run before has to go on without."""
        if self.lost:
            raise RuntimeError(
                f"The run was begun with the memory of the run before it, which it cannot have now: {self.lost}. What "
                "would be made now would not go together with what is kept. Take back what was changed since, let the "
                f"sampler before run anew, for which ComfyUI's node cache is to be freed, or {ANEW}."
            )


def sha256(tensor: Tensor) -> str:
    """Of the numbers of a tensor."""
    return hashlib.sha256(tensor.float().cpu().contiguous().numpy().data).hexdigest()  # without a copy
