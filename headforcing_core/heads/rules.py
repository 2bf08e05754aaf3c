"""From attention masses to head types: the paper's rule and the controls (method.md section 2)."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..policy.head_types import Labels

REGIONS = ("sink", "middle", "current", "last")  # `last` is the frame before the chunk and lies in the middle
RULES = ("head_forcing", "forcing_kv", "random", "all_memory", "swap")
MEASURING_RULES = ("head_forcing", "forcing_kv", "swap")
SCOPES = ("global", "per_layer")
STATIC_RATIO = 0.8


@dataclass(frozen=True)
class LabelRule:
    """How heads are told apart. ValueError for an unknown rule or scope, or a fraction outside 0 to 1."""

    rule: str = "head_forcing"
    anchor_fraction: float = 0.25
    local_fraction: float = 0.20
    scope: str = "global"
    protect_layers: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (("rule", self.rule, RULES), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}. Known are {', '.join(known)}. Choose one of them.")
        for name, fraction in (("anchor_fraction", self.anchor_fraction), ("local_fraction", self.local_fraction)):
            if not 0 <= fraction <= 1:
                raise ValueError(f"{name} is {fraction}. It is a share of heads. Set it between 0 and 1.")


def label_heads(rule: LabelRule, layers: int, heads: int, masses: Tensor | None) -> Labels:
    """Label every head local, anchor or memory.

    `masses`: float32 (layers, heads, regions) in the order of REGIONS; needed by the rules that measure. ValueError
    without them, or for a protected layer that does not exist.
    """
    for layer in rule.protect_layers:
        if not 0 <= layer < layers:
            raise ValueError(f"protect_layers names layer {layer}. The model has layers 0 to {layers - 1}. Remove it.")
    if rule.rule in MEASURING_RULES and masses is None:
        raise ValueError(
            f"rule {rule.rule} needs measured masses. There are none. Measure them, or use the rule random "
            "or all_memory."
        )
    labels = [["memory"] * heads for _ in range(layers)]
    for group in _scopes(rule.scope, layers, heads):
        for (layer, head), label in _label_group(rule, group, masses).items():
            labels[layer][head] = "memory" if layer in rule.protect_layers else label
    return tuple(tuple(row) for row in labels)


def parse_layers(text: str) -> tuple[int, ...]:
    """Layer numbers from a list such as `0, 3, 5-7`. ValueError, showing the piece, for anything else."""
    layers: set[int] = set()
    for piece in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,3})(?:\s*-\s*(\d{1,3}))?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"protect_layers holds {piece!r}. It is a list of layer numbers. Write it like 0, 3, 5-7.")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


Place = tuple[int, int]


def _scopes(scope: str, layers: int, heads: int) -> list[list[Place]]:
    rows = [[(layer, head) for head in range(heads)] for layer in range(layers)]
    return rows if scope == "per_layer" else [[place for row in rows for place in row]]


def _label_group(rule: LabelRule, places: Sequence[Place], masses: Tensor | None) -> dict[Place, str]:
    if rule.rule == "all_memory" or masses is None and rule.rule != "random":
        return {}
    if rule.rule == "forcing_kv":
        assert masses is not None
        return {place: "local" for place in places if _static_ratio(masses[place]) >= STATIC_RATIO}
    if rule.rule == "random":
        generator = torch.Generator().manual_seed((rule.seed * 1000003 + places[0][0]) % 2**63)
        order = [places[i] for i in torch.randperm(len(places), generator=generator).tolist()]
        anchors, rest = _split(order, rule.anchor_fraction)
        return _named(anchors, _split(rest, rule.local_fraction)[0])
    values = masses
    assert values is not None
    anchors, rest = _split(_ranked(places, lambda place: float(values[place][0])), rule.anchor_fraction)
    locals_, memory = _split(_ranked(sorted(rest), lambda place: float(values[place][2])), rule.local_fraction)
    return _named(anchors, memory if rule.rule == "swap" else locals_)


def _static_ratio(mass: Tensor) -> float:
    _, middle, current, last = mass.tolist()
    return (current + last) / max(middle + current, 1e-12)


def _ranked(places: Sequence[Place], value: Callable[[Place], float]) -> list[Place]:
    return sorted(places, key=lambda place: (-value(place), place))


def _split(order: Sequence[Place], fraction: float) -> tuple[list[Place], list[Place]]:
    count = math.ceil(round(fraction * len(order), 9))  # rounded, lest 0.2 * 270 counts as a little over 54
    return list(order[:count]), list(order[count:])


def _named(anchors: Sequence[Place], locals_: Sequence[Place]) -> dict[Place, str]:
    return {place: "anchor" for place in anchors} | {place: "local" for place in locals_}
