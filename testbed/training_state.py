"""Everything that training needs to go on, in one safetensors file: weights, their average, optimizers, the step."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

AVERAGE = 0.998
_SETTINGS = "settings"


class TrainingState:
    """A network in training, and what it learns by."""

    def __init__(self, network: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self.network, self.optimizers, self.step = network, optimizers, 0
        self.average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def update(self, rate: float, most_gradient: float) -> None:
        """Take one step along the gradients with a share of the learning rate, and forget the gradients."""
        nn.utils.clip_grad_norm_(self.network.parameters(), most_gradient)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, own in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = own * rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            self.average[name].lerp_(tensor, 1 - keep)

    def save(self, path: Path, settings: str) -> None:
        """Write the file in place of an older one. `settings` says what the training was asked for."""
        tensors = {f"weights.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for number, optimizer in enumerate(self.optimizers):
            for place, entries in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{place}.{name}": tensor for name, tensor in entries.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(kept, part, {"step": str(self.step), _SETTINGS: settings})
        os.replace(part, path)

    def load(self, path: Path, settings: str) -> None:
        """Go on from a file. ValueError when that was another kind of training."""
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if metadata[_SETTINGS] != settings:
                raise ValueError(
                    f"{path.name} was trained with {metadata[_SETTINGS]}, and {settings} is asked for. The two do not "
                    "fit together. Ask for the same, or choose another folder."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.step = int(metadata["step"])
        self.network.load_state_dict(_below("weights.", tensors))
        for name, tensor in _below("average.", tensors).items():
            self.average[name].copy_(tensor)
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _below(f"optimizer.{number}.", tensors).items():
                place, entry = name.split(".")
                state.setdefault(int(place), {})[entry] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def average_weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights in a file."""
    with safe_open(path, "pt") as file:
        return _below("average.", {name: file.get_tensor(name) for name in _names("average.", file.keys())})


def _names(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensors[name] for name in _names(prefix, tensors)}
