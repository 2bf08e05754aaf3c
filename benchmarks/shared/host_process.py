"""The real host in this process: the pack's nodes/host/backbone.py, and Wan models of any size to run on it."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "fixtures"))

from tiny_wan import FREQ_DIM, HEAD_DIM, TEXT_DIM, WanShape, causal_wan, fill  # noqa: E402

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PACK = "comfyui_head_forcing"
FFN_RATIO = 8960 / 1536  # of Wan 2.1 1.3B
FFN_STEP = 64
KERNELS = ("pytorch", "host")


def enter_host(threads: int, kernel: str, device: str = "cpu") -> ModuleType:
    """Import the host and of the pack what runs on it, once a process. Returns nodes/host/backbone.py.

    `kernel`: the host's attention is PyTorch's, as on an NVIDIA card (`pytorch`), or what it takes on a CPU (`host`).
    RuntimeError when COMFYUI_PATH names no ComfyUI.
    """
    start_host(threads, kernel, device)
    return pack_module("host.backbone")


def start_host(threads: int, kernel: str = "host", device: str = "cpu") -> None:
    """Make the host importable, on a device; of the pack nothing is imported. RuntimeError as in `enter_host`."""
    root = os.environ.get("COMFYUI_PATH", "")
    if not (Path(root) / "comfy").is_dir():
        raise RuntimeError(
            f"COMFYUI_PATH is {root!r}. The benchmarks run on a real ComfyUI. "
            "Start them with: python dev.py run -- python benchmarks/NAME.py"
        )
    sys.path.insert(0, root)
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = device == "cpu"
    comfy.cli_args.args.use_pytorch_cross_attention = kernel == "pytorch"
    torch.set_num_threads(threads)


def pack_module(name: str) -> ModuleType:
    """A file of the pack's nodes by itself, without those that need the host's server; `enter_host` comes first."""
    for package, folder in ((PACK, REPOSITORY), (f"{PACK}.nodes", REPOSITORY / "nodes")):
        if package not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(folder)]
    return importlib.import_module(f"{PACK}.nodes.{name}")


def model_shape(layers: int, heads: int) -> WanShape:
    """A model with the head dimension and the feed-forward ratio of Wan 2.1 1.3B."""
    dim = heads * HEAD_DIM
    return WanShape(dim, layers, round(dim * FFN_RATIO / FFN_STEP) * FFN_STEP)


def build_model(shape: WanShape, text_dim: int = TEXT_DIM) -> "ModelPatcher":
    """A MODEL of the host's causal Wan class with seeded weights; `enter_host` comes first.

    With another `text_dim` than the test models have, all layers have the same weights, in bfloat16.
    """
    import comfy.sd

    weights = causal_wan(shape, seed=0) if text_dim == TEXT_DIM else repeated_layers(shape, text_dim)
    metadata = {"config": json.dumps({"transformer": {"causal_ar": True, "text_dim": text_dim}})}
    model = comfy.sd.load_diffusion_model_state_dict(weights, metadata=metadata)
    if model is None:
        raise RuntimeError(
            f"This ComfyUI does not take {shape} for a causal Wan model. Use the one that dev.py sets up."
        )
    return model


def make_text(tokens: int, text_dim: int = TEXT_DIM) -> list[list[object]]:
    """A CONDITIONING of the width that these models read."""
    return [[torch.randn(1, tokens, text_dim, generator=torch.Generator().manual_seed(3)), {}]]


def named_functions(diffusion_model: torch.nn.Module) -> list[tuple[str, object, str, Callable[..., object]]]:
    """What a profile tells apart in the host's model: (name, owner, attribute, function) of every linear layer, of
    cross-attention, and of the model as a whole."""
    import comfy.ldm.wan.model as wan

    layers = [module for module in diffusion_model.modules() if isinstance(module, torch.nn.Linear)]
    return [
        *(("linear layers", layer, "forward", layer.forward) for layer in layers),
        ("cross-attention", wan, "optimized_attention", wan.optimized_attention),
        ("norms, modulation, activations", diffusion_model, "forward", diffusion_model.forward),
    ]


def empty_model(shape: WanShape, text_dim: int, dtype: torch.dtype, operations: object) -> torch.nn.Module:
    """The host's causal Wan class, of these operations, without numbers."""
    from comfy.ldm.wan.ar_model import CausalWanModel

    return CausalWanModel(
        model_type="t2v",
        dim=shape.dim,
        ffn_dim=shape.ffn_dim,
        num_heads=shape.heads,
        num_layers=shape.layers,
        in_dim=shape.channels,
        out_dim=shape.channels,
        freq_dim=FREQ_DIM,
        text_dim=text_dim,
        device="meta",
        dtype=dtype,
        operations=operations,
    )


def repeated_layers(shape: WanShape, text_dim: int) -> dict[str, Tensor]:
    """Weights of a large model in seconds: one layer is drawn, and copied to all the others."""
    # the host's own operations have no weights to name while it pages them
    empty = empty_model(replace(shape, layers=1), text_dim, torch.bfloat16, torch.nn)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in fill(empty.state_dict(), seed=0).items()}
    first = "blocks.0."
    for name in [name for name in weights if name.startswith(first)]:
        for layer in range(1, shape.layers):
            weights[f"blocks.{layer}.{name.removeprefix(first)}"] = weights[name].clone()
    return weights
