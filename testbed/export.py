"""Write what was trained as the files that the host loads.

usage: python -m testbed.export chunk3     testbed/models/self_forcing_world.safetensors
       python -m testbed.export decoder    testbed/models/world_vae.safetensors
       python -m testbed.export chunk1     testbed/models/framewise_world.safetensors

Reads build/testbed/NAME/state.safetensors: averaged weights, stored in bfloat16. Prints size and SHA-256.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .model_files import FILES, TRAINED
from .training_state import average_weights


def export(state: Path, target: Path) -> None:
    """Write averaged weights under the host's names; the host reads of the metadata that a model is causal."""
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in average_weights(state).items()}
    metadata = {}
    if "text_embedding.0.weight" in weights:
        text_dim = weights["text_embedding.0.weight"].shape[1]
        metadata["config"] = json.dumps({"transformer": {"causal_ar": True, "text_dim": text_dim}})
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, target, metadata)


def main() -> None:
    """Export one of the three."""
    parser = argparse.ArgumentParser(prog="python -m testbed.export", description=__doc__, allow_abbrev=False)
    parser.add_argument("name", choices=FILES)
    target = FILES[parser.parse_args().name]
    export(TRAINED / parser.parse_args().name / "state.safetensors", target)
    print(f"{target.name}  {target.stat().st_size} bytes  sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
