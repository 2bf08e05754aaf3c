"""Measure which heads of the grown world's model are local, anchor or memory.

usage: python -m testbed.grown.head_profile [--model FILE --profile FILE]

As testbed/head_profile.py, on prompts of training scripts. Writes testbed/models/grown_profile.safetensors.
"""

import argparse
from pathlib import Path

import torch

from headforcing_core.heads.profile_file import save_profile

from ..head_profile import PROMPTS, measured_profile
from .batches import CHUNKS
from .evaluate import MODEL_FILE, PROFILE_FILE
from .scripts import training_prompts
from .words import encode


def main(arguments: list[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.grown.head_profile", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, default=MODEL_FILE)
    parser.add_argument("--profile", type=Path, default=PROFILE_FILE)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    profile = measured_profile(given.model, [encode(training_prompts(seed, CHUNKS)[0]) for seed in range(PROMPTS)])
    save_profile(profile, given.profile)
    print(profile.counts, profile.reliability_text)


if __name__ == "__main__":
    main()
