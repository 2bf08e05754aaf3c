"""Train the model of the grown world. A run lasts as long as it is told and goes on from a 16-bit checkpoint.

usage: python -m testbed.grown.train --seconds 440 [--device cuda] [--from FILE] [--folder build/testbed/grown]

Without --from it begins with layers of the old world's model and a fitted text layer (start.py). Writes to the folder,
every minute and at the end: grown_world.safetensors, averaged weights in bfloat16, which is a model and what a later
run goes on from; and loss.csv as it goes. The learning rate falls to 0 over the last fifth of the seconds; the model's
own history (testbed/README.md) comes in after two fifths of them.
"""

import argparse
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import perf_counter

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from ..batches import Batch, levels, spread
from ..model_files import TRAINED, network_of
from ..network import CausalWan
from ..train import OWN_LEVELS, losses, optimizers, own_history
from ..training_state import TrainingState
from .attention import masked_attention
from .batches import Scripts, ScriptSource, make_batch
from .start import started_weights

MODEL = "grown_world.safetensors"
_WARM_UP, _DECAY, _OWN_FROM = 200, 0.2, 0.4
_MOST_GRADIENT, _SAVE_SECONDS = 1.0, 60.0

log = logging.getLogger(__name__)


def learning_rate(step: int, passed: float) -> float:
    """Share of the learning rate at a step of this run, of whose seconds such a share has passed."""
    return max(0.0, min(1.0, (step + 1) / _WARM_UP, (1 - passed) / _DECAY))


def own_level(step: int, passed: float, share: float) -> float:
    """The noise level from which a step's history is made, 0 for a clean one."""
    drawn = Random(step)
    return drawn.choice(OWN_LEVELS) if passed >= _OWN_FROM and drawn.random() < share else 0.0


def learn(state: TrainingState, network: CausalWan, batch: Batch, weights: Tensor, rate: float, level: float) -> Tensor:
    """Learn from one batch; the losses by chunk before the step, (films, chunks). What counts nothing is not made by
    the network itself either."""
    clean = batch.clean
    if level:
        clean = torch.where(spread(weights, clean) > 0, own_history(network, batch, level), clean)
    by_chunk = losses(network, batch, clean)
    ((by_chunk * weights).sum() / weights.sum()).backward()
    state.update(rate, _MOST_GRADIENT)
    return by_chunk.detach()


class LossRows:
    """Sums losses on the device up to one row of loss.csv: step, mean loss, loss at each noise level of the sampler,
    seconds a step."""

    def __init__(self) -> None:
        self._steps, self._sums = 0, torch.zeros(1)

    def add(self, by_chunk: Tensor, batch: Batch, weights: Tensor) -> None:
        """Count the losses of a step."""
        known = levels(by_chunk.device)[:, None, None]
        at = torch.cat([weights[None], weights * ((batch.sigmas - known).abs() < 1e-6)])
        sums = torch.stack([(at * by_chunk).sum(dim=(1, 2)), at.sum(dim=(1, 2))])
        self._steps, self._sums = self._steps + 1, self._sums.to(sums.device) + sums

    def take(self, step: int, seconds: float) -> str:
        """The row, and begin anew."""
        total, count = self._sums.cpu()
        numbers = [*(total / count.clamp(min=1)).tolist(), seconds / self._steps]
        self.__init__()
        return f"{step}," + ",".join(f"{number:.4f}" for number in numbers)


def train(given: argparse.Namespace) -> None:
    """Train for so many seconds, saving now and then."""
    begun, device = perf_counter(), torch.device(given.device)
    network, first = _begin(given.start)
    network = network.to(device).train()
    network.attend_window = masked_attention
    state = TrainingState(network, optimizers(network, given.learning_rate))
    given.folder.mkdir(parents=True, exist_ok=True)
    rows, row_begun, saved = LossRows(), perf_counter(), perf_counter()
    for scripts in _scripts(first, given):
        passed = (perf_counter() - begun) / given.seconds
        step = first + state.step
        if passed >= 1 or state.step == given.steps:
            break
        batch, weights = make_batch(scripts, device)
        level = own_level(step, passed, given.own_history)
        by_chunk = learn(state, network, batch, weights, learning_rate(state.step, passed), level)
        rows.add(by_chunk, batch, weights)
        if state.step % given.log_every == 0:
            row = rows.take(first + state.step, (perf_counter() - row_begun) / given.log_every)
            row_begun = perf_counter()
            log.info("%s", row)
            with (given.folder / "loss.csv").open("a") as file:
                file.write(row + "\n")
        if perf_counter() - saved >= _SAVE_SECONDS:
            save(state, first, given.folder / MODEL)
            saved = perf_counter()
    save(state, first, given.folder / MODEL)
    log.info("step %d after %.0f s", first + state.step, perf_counter() - begun)


def save(state: TrainingState, first: int, path: Path) -> None:
    """Write the averaged weights under the host's names, with the number of steps so far."""
    weights = {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in state.average.items()}
    config = json.dumps({"transformer": {"causal_ar": True, "text_dim": weights["text_embedding.0.weight"].shape[1]}})
    save_file(weights, path.with_suffix(".part"), {"config": config, "step": str(first + state.step)})
    os.replace(path.with_suffix(".part"), path)


def _begin(file: Path | None) -> tuple[CausalWan, int]:
    if file is None:
        return network_of(started_weights()), 0
    with safe_open(file, "pt") as opened:
        step = int((opened.metadata() or {}).get("step", 0))
        return network_of({name: opened.get_tensor(name) for name in opened.keys()}), step  # noqa: SIM118


def _scripts(first: int, given: argparse.Namespace) -> Iterator[Scripts]:
    return iter(
        DataLoader(
            ScriptSource(given.batch),
            batch_size=None,
            sampler=range(first, first + 10**7),
            num_workers=given.workers,
            prefetch_factor=8 if given.workers else None,
            pin_memory=given.device != "cpu",
        )
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.grown.train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, required=True, help="that this run lasts, the start included")
    parser.add_argument("--steps", type=int, help="end earlier, after so many steps")
    parser.add_argument("--from", type=Path, dest="start", metavar="FILE", help="a model to go on from")
    parser.add_argument("--folder", type=Path, default=TRAINED / "grown")
    parser.add_argument("--batch", type=int, default=48, help="windows a step")
    parser.add_argument("--own-history", type=float, default=0.5, help="share of later steps on the model's own frames")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=4, help="processes that draw scripts")
    parser.add_argument("--log-every", type=int, default=20)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(0)
    train(parse(arguments))


if __name__ == "__main__":
    main()
