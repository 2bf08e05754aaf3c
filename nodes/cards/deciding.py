"""What decides about the bits of a run in a process: ranks that differ from the page in it would make another video,
and nobody would see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def deciding_about_bits(model: ModelPatcher) -> dict[str, str]:
    """By name: versions, attention, and the flags that the host was started with."""
    raise NotImplementedError


def check_alike(page: Mapping[str, str], rank: Mapping[str, str], number: int) -> None:
    """RuntimeError, by name, for what differs in the process of a rank."""
    raise NotImplementedError
