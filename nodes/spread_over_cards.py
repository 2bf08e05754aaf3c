"""Spread over Cards: how many cards of this machine make one video together."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from .cards.card_group import CardGroup
from .cards.local_ray import LOCAL, check_ray
from .sockets import CATEGORY, CardsSocket

_USUAL_CARDS, _MOST_CARDS = 2, 64


class SpreadOverCards(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingCards",
            display_name="Spread over Cards",
            category=CATEGORY,
            description="Makes one video on several cards of this machine: each keeps the past of its own attention "
            "heads, and makes its share of every picture. Needs Linux and Ray.",
            search_aliases=["multi gpu", "several gpus", "ray", "distributed", "ulysses", "sequence parallel"],
            is_experimental=True,
            inputs=[
                io.Int.Input(
                    "cards",
                    default=_USUAL_CARDS,
                    min=1,
                    max=_MOST_CARDS,
                    optional=True,
                    tooltip="How many cards make the video together. 1: as without this node. Typical: 2",
                ),
                io.Boolean.Input(
                    "exact",
                    default=False,
                    optional=True,
                    tooltip="The same bits as one card; slower, since each card computes all but attention. Off: the "
                    "last bits differ, and with them small things in the picture. Typical: off",
                ),
                io.String.Input(
                    "address",
                    default=LOCAL,
                    optional=True,
                    advanced=True,
                    tooltip="local: Ray is started for this ComfyUI alone. Else the address of a Ray cluster that "
                    "this machine belongs to; the cards are those of this machine all the same. Typical: local",
                ),
            ],
            outputs=[CardsSocket.Output(display_name="cards", tooltip="The cards, for the Head-Forced Sampler.")],
        )

    @classmethod
    @override
    def execute(cls, cards: int = _USUAL_CARDS, exact: bool = False, address: str = LOCAL) -> io.NodeOutput:
        if cards > 1:
            check_ray()
        return io.NodeOutput(CardGroup(cards, exact, address.strip() or LOCAL))
