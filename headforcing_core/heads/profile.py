"""A head profile: labels and masses of every layer and head (method.md section 2)."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from ..policy.fitting import FittedPolicy
from ..policy.head_types import HEAD_TYPES, Labels
from ..rollout.recall import MOST_LAYERS, captured_layers
from .attention_masses import RELIABLE
from .rules import REGIONS, LabelRule

MOST = 256  # layers, or heads a layer


@dataclass(frozen=True)
class HeadProfile:
    """Which head is local, anchor or memory in one checkpoint.

    `masses` is float32 (layers, heads, REGIONS), or None for a rule that measures nothing; `reliability` the split-half
    rank correlations; `sink_frames` what counted as the sink region; `attention` what computed meanwhile, if known.
    `recall_layers` and `recall_share` are by which layers, and within which share of the way from the most alike chunk
    to the least, this checkpoint recalls best; None: nobody has found out. ValueError when labels are ragged or
    unknown, the masses have another shape, or layers or share cannot be.
    """

    fingerprint: str
    protocol: str
    rule: LabelRule
    labels: Labels
    masses: Tensor | None
    reliability: dict[str, float]
    sink_frames: int = 3
    attention: tuple[str, ...] = ()
    recall_layers: tuple[int, ...] | None = None
    recall_share: float | None = None

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.labels}
        unknown = {label for row in self.labels for label in row} - set(HEAD_TYPES)
        if len(widths) != 1 or 0 in widths or unknown:
            raise ValueError(
                f"The labels of a profile are not a full table of {', '.join(HEAD_TYPES)} "
                f"(row lengths {sorted(widths)}, unknown {sorted(unknown)}). The file is damaged or was "
                "edited. Profile the model again."
            )
        if self.layers > MOST or self.heads > MOST:
            raise ValueError(
                f"The profile has {self.layers} layers of {self.heads} heads. No model this pack knows has more than "
                f"{MOST} of either. The file is damaged or was made up. Profile the model again."
            )
        expected = (self.layers, self.heads, len(REGIONS))
        if self.masses is not None and tuple(self.masses.shape) != expected:
            raise ValueError(
                f"The masses of a profile have shape {tuple(self.masses.shape)}, the labels need {expected}. "
                "The file is damaged. Profile the model again."
            )
        self._check_recall()

    @property
    def settings(self) -> tuple[str, LabelRule, str, int]:
        """What a profile is of and made by: fingerprint, rule, protocol and sink frames."""
        return self.fingerprint, self.rule, self.protocol, self.sink_frames

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return len(self.labels)

    @property
    def heads(self) -> int:
        """Heads a layer."""
        return len(self.labels[0])

    @property
    def counts(self) -> dict[str, int]:
        """Heads of each type."""
        flat = [label for row in self.labels for label in row]
        return {head_type: flat.count(head_type) for head_type in HEAD_TYPES}

    @property
    def reliability_text(self) -> str:
        """The split-half rank correlations in words."""
        values = ", ".join(f"{name} {value:.3f}" for name, value in self.reliability.items())
        return f"split-half rank correlation {values}"

    @property
    def reliable(self) -> bool:
        """Whether the two halves of the measurement rank heads alike."""
        return all(value >= RELIABLE for value in self.reliability.values())

    def as_used(self, policy: FittedPolicy) -> Self:
        """The same with the layers and the share that a policy goes by; without any if it does not recall."""
        if not policy.recalls:
            return replace(self, recall_layers=None, recall_share=None)
        return replace(self, recall_layers=captured_layers(policy, self.layers), recall_share=policy.recall_share)

    def check_fits(self, layers: int, heads: int, fingerprints: Collection[str]) -> str | None:
        """ValueError for a model of another architecture; a warning for the same one with other weights, which none of
        these fingerprints names."""
        if (self.layers, self.heads) != (layers, heads):
            raise ValueError(
                f"The profile is for {self.layers} layers of {self.heads} heads, the model has {layers} of {heads}. "
                "A profile belongs to one checkpoint. Run Profile Heads on this model."
            )
        if self.fingerprint not in fingerprints:
            return "The profile was made on other weights of the same architecture. Run Profile Heads on this model."
        return None

    def _check_recall(self) -> None:
        layers, share = self.recall_layers, self.recall_share
        if layers is not None:
            whole = all(type(layer) is int for layer in layers) and 1 <= len(layers) <= MOST_LAYERS
            if not whole or list(layers) != sorted({*layers} & {*range(self.layers)}):
                raise ValueError(
                    f"recall_layers of a profile is {layers}. It names 1 to {MOST_LAYERS} layers, from 0 to "
                    f"{self.layers - 1}, each once and in order. Find them again with benchmarks/recall_probe.py, or "
                    "take them out."
                )
        if share is not None and (type(share) not in (int, float) or not 0 <= share < 1):
            raise ValueError(
                f"recall_share of a profile is {share!r}. It is a number, 0 or more and below 1. Find it again with "
                "benchmarks/recall_probe.py, or take it out."
            )
