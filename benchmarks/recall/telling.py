"""How well layers tell a scene that is returned to from others, and which layers and share choose right."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from headforcing_core.policy.fitting import USUAL_SHARE
from headforcing_core.rollout.episodes import descriptor_layers

_STEPS = 100
_WELL = 5  # steps from either end
SHARES = torch.arange(_STEPS) / _STEPS
_TOGETHER = 3  # layers


@dataclass(frozen=True)
class Look:
    """What one look saw, at a chunk: of each candidate in time order whether it is of the `same` scene, and its
    likeness by each layer, (layers, candidates), mean cosine over bands; and how many are recalled."""

    chunk: int
    same: tuple[bool, ...]
    likeness: Tensor
    recalled: int = 2

    @property
    def tells(self) -> bool:
        """Whether there is something to choose: candidates of the scene, and of others."""
        return any(self.same) and not all(self.same)


@dataclass(frozen=True)
class Telling:
    """How one set of layers tells scenes apart. `margin` is the least lead, within one look, of the least alike chunk
    of the scene over the most alike of another. `right` gives, for every share of SHARES, in how many of the looks the
    rule chooses the newest chunks of the scene."""

    layers: tuple[int, ...]
    same_least: float
    same_mean: float
    other_mean: float
    other_greatest: float
    margin: float
    right: tuple[float, ...]

    @property
    def best(self) -> float:
        """In how many of the looks the choice is right with the best share."""
        return max(self.right)

    @property
    def shares(self) -> tuple[int, int]:
        """First and last of the widest range of SHARES that are best."""
        ranges: list[list[int]] = []
        for step in range(_STEPS):
            if self.right[step] == self.best:
                if ranges and ranges[-1][1] == step - 1:
                    ranges[-1][1] = step
                else:
                    ranges.append([step, step])
        first, last = max(ranges, key=lambda found: found[1] - found[0])
        return first, last

    @property
    def share(self) -> float:
        """The usual share where it lies well within that range, else the middle of it."""
        first, last = self.shares
        usual = round(USUAL_SHARE * _STEPS)
        return (usual if first + _WELL <= usual <= last - _WELL else (first + last) // 2) / _STEPS

    @property
    def width(self) -> int:
        """How many shares that range has."""
        first, last = self.shares
        return last - first + 1

    def right_at(self, share: float) -> float:
        """In how many of the looks the choice is right with the share that is nearest."""
        return self.right[min(round(share * _STEPS), _STEPS - 1)]


def tell(looks: Sequence[Look], sets: Sequence[Sequence[int]]) -> list[Telling]:
    """Judge sets of equally many layers by the looks that tell, of which there is one at least."""
    looks = [look for look in looks if look.tells]
    chosen = torch.tensor(sets)
    right = torch.zeros(len(sets), _STEPS)
    same, other, lead = [], [], []
    for look in looks:
        likeness, is_same = look.likeness[chosen].mean(dim=1), torch.tensor(look.same)  # (sets, candidates)
        right += _is_right(likeness, is_same, look.recalled)
        same.append(likeness[:, is_same])
        other.append(likeness[:, ~is_same])
        lead.append(same[-1].amin(dim=1) - other[-1].amax(dim=1))
    alike, apart = torch.cat(same, dim=1), torch.cat(other, dim=1)
    margin, share_right = torch.stack(lead).amin(dim=0), right / len(looks)
    return [
        Telling(
            tuple(layers),
            same_least=float(alike[row].min()),
            same_mean=float(alike[row].mean()),
            other_mean=float(apart[row].mean()),
            other_greatest=float(apart[row].max()),
            margin=float(margin[row]),
            right=tuple(share_right[row].tolist()),
        )
        for row, layers in enumerate(sets)
    ]


def recommend(looks: Sequence[Look]) -> tuple[Telling, list[Telling]]:
    """What to look at, and all sets of three layers, best first. The usual layers are kept where they are right as
    often as any, over at least half as wide a range of shares: of thousands of sets some are best by chance."""
    layers = len(looks[0].likeness)
    ranked = tell(looks, list(combinations(range(layers), min(_TOGETHER, layers))))
    ranked.sort(key=lambda each: (each.best, each.width, each.margin), reverse=True)
    first, (usual,) = ranked[0], tell(looks, [descriptor_layers(layers)])
    keeps = usual.best == first.best and 2 * usual.width >= first.width
    return usual if keeps else first, ranked


def _is_right(likeness: Tensor, same: Tensor, recalled: int) -> Tensor:
    """Whether the rule, with every share of SHARES, chooses just the newest chunks of the scene: (sets, shares)."""
    best, lowest = likeness.amax(dim=1, keepdim=True), likeness.amin(dim=1, keepdim=True)
    least = best - SHARES * (best - lowest)  # (sets, shares)
    near = likeness[:, None] >= least[..., None]
    return (_newest(near, recalled) == _newest(same, recalled)).all(dim=-1)


def _newest(marked: Tensor, count: int) -> Tensor:
    """The last marked ones of the last dimension, so many at most."""
    from_the_end = marked.flip(-1).cumsum(-1).flip(-1)
    return marked & (from_the_end <= count)
