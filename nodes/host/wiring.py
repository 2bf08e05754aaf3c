"""What the host's graph says of a node at work: whether an output is used, and which scene of a film it makes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from comfy_execution.graph_utils import is_link

if TYPE_CHECKING:
    from comfy_execution.graph import DynamicPrompt

SAMPLER = "HeadForcingSampler"
_ROUND = re.compile(r"\.(\d+)_")  # in the id of a copy that a loop of the host made: loop.0.0.1_sampler


def is_used(dynprompt: DynamicPrompt | None, node_id: str | None, output: int) -> bool:
    """Whether an output of a node goes anywhere."""
    if dynprompt is None or node_id is None:
        return False
    nodes = [dynprompt.get_node(each) for each in dynprompt.all_node_ids()]
    return any([node_id, output] == value for node in nodes for value in node["inputs"].values())


def scene_number(dynprompt: DynamicPrompt | None, node_id: str | None) -> str:
    """Which scene a sampler makes, from 1 on: the round of the loop that it is copied by, of a loop within a loop both
    (2-1); elsewhere one more than there are samplers that it goes on from, one after the other."""
    if dynprompt is None or node_id is None:
        return "1"
    rounds = _ROUND.findall(node_id) if dynprompt.get_display_node_id(node_id) != node_id else []
    if rounds:
        return "-".join(str(int(each) + 1) for each in rounds)
    return str(1 + len(set(_samplers_before(dynprompt, node_id))))


def _samplers_before(dynprompt: DynamicPrompt, node_id: str) -> Iterator[str]:
    """Ids of the samplers that a sampler goes on from by `previous`, whatever stands between."""
    waiting, seen = [dynprompt.get_node(node_id)["inputs"].get("previous")], set()
    while waiting:
        link = waiting.pop()
        if not is_link(link) or link[0] in seen:
            continue
        seen.add(link[0])
        node = dynprompt.get_node(link[0])
        if node["class_type"] == SAMPLER:
            yield link[0]
            waiting.append(node["inputs"].get("previous"))
        else:
            waiting.extend(node["inputs"].values())
