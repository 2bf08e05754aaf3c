"""The real host in this process, on the CPU: the pack's nodes/host.py, and Wan models of any size to run on it."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "fixtures"))

from tiny_wan import HEAD_DIM, TEXT_DIM, WanShape, causal_wan  # noqa: E402

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PACK = "comfyui_head_forcing"
FFN_RATIO = 8960 / 1536  # of Wan 2.1 1.3B
FFN_STEP = 64
KERNELS = ("pytorch", "host")


def enter_host(threads: int, kernel: str) -> ModuleType:
    """Import the host and the pack, once a process. Returns nodes/host.py.

    `kernel`: the host's attention is PyTorch's, as on an NVIDIA card (`pytorch`), or what it takes on a CPU (`host`).
    RuntimeError when COMFYUI_PATH names no ComfyUI.
    """
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

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.use_pytorch_cross_attention = kernel == "pytorch"
    torch.set_num_threads(threads)
    if PACK not in sys.modules:
        _load_pack()
    return importlib.import_module(f"{PACK}.nodes.host")


def model_shape(layers: int, heads: int) -> WanShape:
    """A model with the head dimension and the feed-forward ratio of Wan 2.1 1.3B."""
    dim = heads * HEAD_DIM
    return WanShape(dim, layers, round(dim * FFN_RATIO / FFN_STEP) * FFN_STEP)


def build_model(shape: WanShape) -> "ModelPatcher":
    """A MODEL of the host's causal Wan class with seeded weights; `enter_host` comes first."""
    import comfy.sd

    metadata = {"config": json.dumps({"transformer": {"causal_ar": True, "text_dim": TEXT_DIM}})}
    model = comfy.sd.load_diffusion_model_state_dict(causal_wan(shape, seed=0), metadata=metadata)
    if model is None:
        raise RuntimeError(
            f"This ComfyUI does not take {shape} for a causal Wan model. Use the one that dev.py sets up."
        )
    return model


def make_text(tokens: int) -> list[list[object]]:
    """A CONDITIONING of the width that these models read."""
    return [[torch.randn(1, tokens, TEXT_DIM, generator=torch.Generator().manual_seed(3)), {}]]


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


def _load_pack() -> None:
    entry = REPOSITORY / "__init__.py"
    spec = importlib.util.spec_from_file_location(PACK, entry, submodule_search_locations=[str(REPOSITORY)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
