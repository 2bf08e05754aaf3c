"""Train the decoder of the world's latents. The same command goes on where it was stopped.

usage: COMFYUI_PATH=<ComfyUI folder> python -m testbed.train_decoder --steps 9600

Writes build/testbed/decoder/state.safetensors and loss.csv (step, peak signal to noise in decibels, seconds a step).
The learning rate falls to 0 over the last half of the steps.
"""

import argparse
import json
import logging
import math
from time import perf_counter

import torch
from torch.nn.functional import mse_loss
from torch.optim import AdamW

from .decoder import DIM, PAIRS_SEEN, decode, decoder_batch, new_vae
from .latents import load_basis
from .model_files import TRAINED
from .text_encoder import enter_host
from .training_state import TrainingState

FOLDER = TRAINED / "decoder"
_FIRST_SEED = 2_000_000
_WARM_UP = 50
_RATE = 1.5e-3

log = logging.getLogger(__name__)


def train(given: argparse.Namespace) -> None:
    """Train up to a step, saving now and then."""
    torch.manual_seed(0)
    vae, basis = new_vae(), load_basis()
    learned = [*vae.decoder.parameters(), *vae.conv2.parameters()]
    state = TrainingState(vae, (AdamW(learned, _RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),))
    path, settings = FOLDER / "state.safetensors", json.dumps({"dim": DIM})
    if path.exists():
        state.load(path, settings)
        log.info("going on from step %d", state.step)
    FOLDER.mkdir(parents=True, exist_ok=True)
    errors: list[float] = []
    started = perf_counter()
    while state.step < given.steps:
        pairs = PAIRS_SEEN[state.step % len(PAIRS_SEEN)]
        latent, wanted = decoder_batch(_FIRST_SEED + state.step, basis, pairs)
        with torch.autocast("cpu", torch.bfloat16):
            made = decode(vae, latent, 1).float()
        loss = mse_loss(made, wanted) + 0.1 * (made - wanted).abs().mean()
        loss.backward()
        state.update(min(1.0, (state.step + 1) / _WARM_UP, 2 * (given.steps - state.step) / given.steps), 1.0)
        errors.append(mse_loss(made.detach(), wanted).item() / 4)
        if state.step % given.log_every == 0:
            decibels = -10 * math.log10(sum(errors) / len(errors))
            row = f"{state.step},{decibels:.2f},{(perf_counter() - started) / len(errors):.3f}"
            log.info("%s", row)
            with (FOLDER / "loss.csv").open("a") as file:
                file.write(row + "\n")
            errors, started = [], perf_counter()
        if state.step % given.save_every == 0 or state.step == given.steps:
            state.save(path, settings)


def main() -> None:
    """Train as the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m testbed.train_decoder", description=__doc__, allow_abbrev=False)
    parser.add_argument("--steps", type=int, required=True, help="steps in all, those of earlier runs included")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--save-every", type=int, default=250)
    given = parser.parse_args()
    enter_host()
    torch.set_num_threads(given.threads)
    train(given)


if __name__ == "__main__":
    main()
