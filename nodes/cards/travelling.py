"""What of a run's inputs cannot go to other processes, by name; asked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..sockets import Conditioning


def check_model_travels(model: ModelPatcher) -> None:
    """ValueError, by name, for what other nodes have put on a MODEL that another process cannot be given, and for a
    MODEL that it could not load."""
    raise NotImplementedError


def check_texts_travel(texts: Sequence[Conditioning], name: str) -> None:
    """ValueError, by name, for what a CONDITIONING carries that is neither a tensor nor a plain value."""
    raise NotImplementedError


def check_noise_travels(noise: str) -> None:
    """ValueError for noise that is drawn on the device."""
    raise NotImplementedError
