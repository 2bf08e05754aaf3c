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
from ...headforcing_core.run_store.record import COMMITTED

if TYPE_CHECKING:
    from ...headforcing_core.heads.profile import HeadProfile
    from ..sockets import Conditioning

KEY = "head_forcing"
"""Beside `samples` in a LATENT."""
TAKEN = "another sampler has gone on from it before, and keys and values are held once"


class EndOfRun(NamedTuple):
    """What a rollout held at its end: all that goes on, and K and V in main memory."""

    carried: Carried[Conditioning]
    kv: CarriedKV


@dataclass(frozen=True)
class MadeWith:
    """What a memory belongs to: `facts` of its run by what they are called; which head did what, and the profile that
    this is from, if from one; `text`, a hash of the prompt in force at the end, and whether it was written."""

    facts: Mapping[str, object]
    labels: Labels
    profile: HeadProfile | None
    text: tuple[bool, str]


class CarriedMemory:
    """The memory of a run at its end, of the video whose `samples` have this SHA-256, "" if nothing was kept. It goes
    into one run; once that has come to its end, or if nothing was kept, `gone` says why there is none. Who copies a
    LATENT has the same one."""

    def __init__(self, samples_hash: str, made_with: MadeWith | None, end: EndOfRun | None, gone: str) -> None:
        self.samples_hash, self.made_with, self.gone = samples_hash, made_with, gone
        self._end = end

    def __deepcopy__(self, memo: object) -> CarriedMemory:
        return self

    @property
    def carried(self) -> Carried[Conditioning] | None:
        """All of it but K and V, while it is there."""
        return None if self._end is None else self._end.carried

    @property
    def kv(self) -> CarriedKV:
        """K and V, while they are there."""
        assert self._end is not None
        return self._end.kv

    def let_go(self) -> None:
        """A run has gone on from it to its end; one that was stopped can do so once more."""
        self._end, self.gone = None, TAKEN


@dataclass(frozen=True)
class Past:
    """By which `way` a run comes to the memory of what is there before its first chunk: COMMITTED, by a pass over each
    chunk of it, or CARRIED, as the run before had it. That one is in `memory`; where it has to be and is not, `lost`
    says why."""

    way: str = COMMITTED
    memory: CarriedMemory | None = None
    lost: str = ""

    def check(self) -> None:
        """RuntimeError where a run that was begun with the memory of the run before has to go on without."""
        if self.lost:
            raise RuntimeError(
                f"The run was begun with the memory of the run before it, which it cannot have now: {self.lost}. What "
                "would be made now would not go together with what is kept. Let the sampler before run anew, for which "
                "ComfyUI's node cache is to be freed, or set on_existing_run to new (another folder) or replace "
                "(delete the run and begin anew)."
            )


def sha256(tensor: Tensor) -> str:
    """Of the numbers of a tensor."""
    return hashlib.sha256(tensor.float().cpu().contiguous().numpy().tobytes()).hexdigest()
