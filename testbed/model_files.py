"""Where trained files lie, and networks from them."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from headforcing_core.checkpoint.wan_weights import unwrap

from .network import CausalWan, Shape
from .training_state import average_weights

MODELS = Path(__file__).parent / "models"
TRAINED = Path(__file__).parents[1] / "build" / "testbed"
FILES = {  # Load AR Model tells the chunk by these names
    "chunk3": MODELS / "self_forcing_world.safetensors",
    "chunk1": MODELS / "framewise_world.safetensors",
    "decoder": MODELS / "world_vae.safetensors",
}
MODEL_FILE = FILES["chunk3"]


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights that Load AR Model would find in a file, as they are stored; or the averaged ones of a training's
    state.safetensors."""
    if file.name == "state.safetensors":
        return average_weights(file)
    return dict(unwrap(load_file(file), file.name).tensors)


def network_of(weights: Mapping[str, Tensor]) -> CausalWan:
    """A network of these weights, in float32."""
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    width = weights["head.modulation"].shape[-1]
    network = CausalWan(Shape(width, layers, weights["blocks.0.ffn.0.weight"].shape[0]))
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network.eval()
