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


def goes_on(dynprompt: DynamicPrompt | None, node_id: str | None, output: int) -> bool:
    """Whether another sampler may go on from this output of one: it leads to a `previous`, whatever stands between, or
    back into a loop; or the node is a copy that a loop made, after which others may come."""
    if dynprompt is None or node_id is None:
        return False
    if dynprompt.get_display_node_id(node_id) != node_id:
        return True
    nodes = {each: dynprompt.get_node(each) for each in dynprompt.all_node_ids()}
    given = nodes[node_id]["inputs"].get("previous")
    begins = [given[0]] if is_link(given) and nodes[given[0]]["class_type"] != SAMPLER else []
    waiting, seen = [node_id], {node_id}
    while waiting:
        at = waiting.pop()
        for each, node in nodes.items():
            links = {name: value for name, value in node["inputs"].items() if is_link(value)}
            reached = [name for name, (where, out) in links.items() if where == at and (at != node_id or out == output)]
            if reached and node["class_type"] == SAMPLER and "previous" in reached:
                return True
            if reached and any(where in begins for where, _ in links.values()):
                return True  # the end of a loop, which knows its beginning
            if reached and each not in seen:
                seen.add(each)
                waiting.append(each)
    return False


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
