"""Train the model of the world. The same command goes on where it was stopped.

usage: python -m testbed.train --steps 20000 [--name chunk3] [--device cuda]

Writes to build/testbed/NAME: state.safetensors every --save-every steps, loss.csv as it goes. A larger --steps later
goes on from there; the last fifth of the steps lowers the learning rate to 0, and only what was trained to its end is
worth shipping.
"""

import argparse
import json
import logging
from dataclasses import asdict
from random import Random
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.utils.data import DataLoader

from .batches import LEVELS, Batch, Windows, spread
from .model_files import TRAINED
from .network import CausalWan, Shape
from .text_encoder import load_texts
from .training_state import TrainingState

_WARM_UP, _DECAY = 200, 0.2
_MOST_GRADIENT = 1.0
OWN_LEVELS = LEVELS[-2:]  # before them the noise decides, and not the truth

log = logging.getLogger(__name__)


def losses(network: CausalWan, batch: Batch, clean: Tensor) -> Tensor:
    """Mean squared error of the flow by chunk, (batch, chunks), with this history."""
    with torch.autocast(clean.device.type, torch.bfloat16):
        flow = network(clean, batch.noisy, batch.sigmas, batch.texts)
    error = (flow - batch.flow).square().mean(dim=(1, 3, 4))
    return error.unflatten(1, (batch.sigmas.shape[1], -1)).mean(dim=2)


@torch.no_grad()
def own_history(network: CausalWan, batch: Batch, level: float) -> Tensor:
    """What the network itself makes of the window from a noise level, in place of the clean history: its own errors,
    from which it then learns to go on to the truth."""
    sigmas = torch.full_like(batch.sigmas, level)
    noisy = torch.lerp(batch.truth, batch.noise, level)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        flow = network(batch.clean, noisy, sigmas, batch.texts)
    return noisy - spread(sigmas, noisy) * flow


def draw_own_level(step: int, share: float) -> float:
    """The noise level from which a step's history is made, 0 for a clean one; so many of all steps have their own."""
    drawn = Random(step)
    return drawn.choice(OWN_LEVELS) if drawn.random() < share else 0.0


def learning_rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step."""
    return min(1.0, (step + 1) / _WARM_UP, (steps - step) / (_DECAY * steps))


def optimizers(network: CausalWan, rate: float) -> tuple[Optimizer, Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for all else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        inside = name.startswith("blocks.") and name.endswith("weight") and parameter.ndim == 2
        (matrices if inside else others).append(parameter)
    return (
        Muon(matrices, rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, rate / 4, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    )


def training_step(state: TrainingState, network: CausalWan, batch: Batch, rate: float, own_level: float) -> Tensor:
    """Learn from one batch, with the history that the network makes from a noise level, or the clean one at level 0;
    the losses by chunk before the step."""
    clean = own_history(network, batch, own_level) if own_level else batch.clean
    by_chunk = losses(network, batch, clean)
    by_chunk.mean().backward()
    state.update(rate, _MOST_GRADIENT)
    return by_chunk.detach()


def train(given: argparse.Namespace) -> None:
    """Train up to a step, saving now and then."""
    device, folder = torch.device(given.device), TRAINED / given.name
    torch.manual_seed(given.seed)
    shape = Shape(given.width, given.layers, given.feed_forward)
    network = CausalWan(shape).to(device)
    state = TrainingState(network, optimizers(network, given.learning_rate))
    settings = json.dumps({**asdict(shape), "chunk_frames": given.chunk_frames})
    path = folder / "state.safetensors"
    if path.exists():
        state.load(path, settings)
        log.info("going on from step %d", state.step)
    folder.mkdir(parents=True, exist_ok=True)
    windows = Windows(given.seed, given.batch, given.chunk_frames, load_texts())
    started, sums = perf_counter(), LossRow()
    for batch in DataLoader(
        windows,
        batch_size=None,
        sampler=range(state.step, given.steps),
        num_workers=given.workers,
        persistent_workers=given.workers > 0,
    ):
        batch = batch.to(device)
        rate, own_level = learning_rate(state.step, given.steps), draw_own_level(state.step, given.own_history)
        sums.add(training_step(state, network, batch, rate, own_level), batch.sigmas)
        if state.step % given.log_every == 0 or state.step == given.steps:
            row = sums.take(state.step, perf_counter() - started)
            log.info("%s", row)
            with (folder / "loss.csv").open("a") as file:
                file.write(row + "\n")
            started = perf_counter()
        if state.step % given.save_every == 0 or state.step == given.steps:
            state.save(path, settings)


class LossRow:
    """Sums losses up to one row of loss.csv: step, mean loss, loss at each noise level of the sampler, seconds a
    step."""

    def __init__(self) -> None:
        self._steps, self._all = 0, 0.0
        self._levels = {level: [0.0, 0] for level in LEVELS}

    def add(self, by_chunk: Tensor, sigmas: Tensor) -> None:
        """Count the losses of a step."""
        self._steps += 1
        self._all += by_chunk.mean().item()
        for level, sums in self._levels.items():
            found = by_chunk[(sigmas - level).abs() < 1e-6]
            sums[0] += found.sum().item()
            sums[1] += found.numel()

    def take(self, step: int, seconds: float) -> str:
        """The row, and begin anew."""
        levels = (total / max(1, count) for total, count in self._levels.values())
        numbers = (self._all / self._steps, *levels, seconds / self._steps)
        self.__init__()
        return f"{step}," + ",".join(f"{number:.4f}" for number in numbers)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--steps", type=int, required=True, help="steps in all, those of earlier runs included")
    parser.add_argument("--name", default="chunk3", help="folder below build/testbed")
    parser.add_argument("--chunk-frames", type=int, default=3, choices=(1, 3))
    parser.add_argument("--batch", type=int, default=2, help="windows a step")
    parser.add_argument("--own-history", type=float, default=0.0, help="share of steps on the model's own frames")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--feed-forward", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw windows; worth it beside a GPU")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=100)
    return parser.parse_args(arguments)


def main() -> None:
    """Train as the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = parse()
    torch.set_num_threads(given.threads)
    train(given)


if __name__ == "__main__":
    main()
