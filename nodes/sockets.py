"""The pack's own sockets and what travels through them; everything else is the host's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..headforcing_core.schedule.scenes import Scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfy.sd import CLIP
    from torch import Tensor

    Conditioning = Sequence[Sequence[Tensor | dict[str, object]]]

CATEGORY = "Head Forcing"

HeadProfileSocket = io.Custom("HEAD_PROFILE")  # headforcing_core.profile.HeadProfile
CachePolicySocket = io.Custom("HEAD_CACHE_POLICY")  # headforcing_core.policy.CachePolicy
CardsSocket = io.Custom("HEAD_FORCING_CARDS")  # cards.card_group.CardGroup
PromptScheduleSocket = io.Custom("PROMPT_SCHEDULE")  # PromptSchedule


@dataclass(frozen=True)
class PromptSchedule:
    """Scenes and their encoded texts, with the text encoder for prompts that come later."""

    scenes: tuple[Scene, ...]
    conditionings: tuple[Conditioning, ...]
    transition: str
    soft_chunks: int
    clip: CLIP

    def encode(self, prompt: str) -> Conditioning:
        """A prompt as the texts of the scenes are encoded."""
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))
