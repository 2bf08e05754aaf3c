"""A run that is to be spread over several cards: what is refused before anything begins, and the cards at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.model_management
import torch

from ..host.model import layers_and_heads
from .card_group import CardGroup
from .deciding import check_alike, deciding_about_bits
from .job import Arrived
from .model_recipe import ModelRecipe, recipe_of
from .rank_talk import CardError
from .travelling import check_noise_travels, check_texts_travel

if TYPE_CHECKING:
    from ..request.run_request import RunRequest
    from ..status.node_status import NodeStatus

_DEVICES = ("cuda", "cpu")


@dataclass(frozen=True)
class Spread:
    """The cards of a run, and how each comes to its model."""

    group: CardGroup
    recipe: ModelRecipe

    @contextmanager
    def at_work(self, request: RunRequest, status: NodeStatus) -> Iterator[tuple[Arrived, ...]]:
        """The cards with the model on them, which is loaded if need be. RuntimeError for what fails there."""
        cards = self.group.cards
        with self.group.at_work():
            status.say(f"loading the model on {cards} cards")
            try:
                arrived = self.group.load(self.recipe)
            except CardError as error:
                where = "" if error.card is None else f"Card {error.card + 1} of {cards} could not load the model. "
                raise RuntimeError(f"{where}{error.why}") from error
            page = deciding_about_bits(request.model)
            for number, each in enumerate(arrived, 1):
                check_alike(page, each.decides, number)
            yield arrived


def settle_spread(group: CardGroup | None, request: RunRequest) -> Spread | None:
    """The cards of a run; None for one card, on which it is made as ever. ValueError for a run that several cards
    cannot make."""
    if group is None or group.cards == 1:
        return None
    device = comfy.model_management.get_torch_device().type
    if device not in _DEVICES:
        raise ValueError(
            f"ComfyUI computes on {device} here, and only cards that PyTorch knows as CUDA or ROCm can make a video "
            "together. Set cards to 1."
        )
    there = torch.cuda.device_count()
    if device == "cuda" and group.cards > there:
        raise ValueError(
            f"cards is {group.cards}, and ComfyUI sees {there} in this machine. Set cards to {there} or less; "
            "--cuda-device and CUDA_VISIBLE_DEVICES hide cards."
        )
    heads = layers_and_heads(request.model)[1]
    if group.cards > heads:
        raise ValueError(
            f"cards is {group.cards}, and the model has {heads} attention heads a layer, of which every card needs one "
            f"at least. Set cards to {heads} or less."
        )
    check_noise_travels(request.noise)
    texts = [text for each in request.rollout.segments for text in (each.text, each.first_text) if text is not None]
    check_texts_travel(texts, "schedule" if request.schedule is not None else "positive")
    return Spread(group, recipe_of(request.model))
