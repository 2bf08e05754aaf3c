"""What the machine can do at most: matrix products and attention at the shapes used, and a copy. Random data."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from itertools import cycle

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.card.workbench import NEEDS_CUDA, Workbench
from benchmarks.shared.stage import CHUNK_FRAMES
from benchmarks.shared.stopwatch import seconds_per_call
from benchmarks.shared.tables import Row
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.kv_memory.attention import Attention, dense_attention
from headforcing_core.policy.head_types import HEAD_TYPES
from headforcing_core.policy.presets import PRESETS

SETS = 4  # of inputs, taken in turns: more than a card's cache holds
LARGE = {True: 8192, False: 1024}
COPIED_BYTES = {True: 4_000_000_000, False: 100_000_000}
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
TERA, GIGA = 1e12, 1e9


def describe_machine(bench: Workbench) -> None:
    """Table: what this is."""
    import comfy.ldm.modules.attention as host_attention
    import comfy.quant_ops

    stage, cuda = bench.stage, bench.on_card
    rotary = [
        name
        for name, backend in comfy.quant_ops.ck.list_backends().items()
        if backend["available"] and not backend["disabled"] and "apply_rope1" in backend["capabilities"]
    ]
    rows: list[Row] = [
        {"what": "device", "value": torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU"},
        {"what": "memory GB", "value": torch.cuda.get_device_properties(0).total_memory / GIGA if cuda else None},
        {"what": "driver", "value": _driver() if cuda else None},
        {"what": "Python", "value": platform.python_version()},
        {"what": "PyTorch", "value": torch.__version__},
        {"what": "cuDNN", "value": torch.backends.cudnn.version() if cuda else None},
        {"what": "threads", "value": torch.get_num_threads()},
        {"what": "type that the model computes in", "value": str(stage.dtype).removeprefix("torch.")},
        {"what": "weights are held by", "value": type(stage.model).__name__},
        {"what": "host's attention", "value": host_attention.optimized_attention.__name__},
        {"what": "host's rotary kernels", "value": ", ".join(rotary)},
    ]
    bench.findings.add("machine", "Machine", rows)


def measure_ceilings(bench: Workbench) -> None:
    """Tables: matrix products, attention, copy. Their rates are those that bounds are reckoned with."""
    bench.findings.add("products", "Matrix products and a copy", [*_products(bench), _copy(bench)])
    bench.findings.add(
        "attention", "Attention: 12 heads and 21 frames, and what paper's head types read", _heads(bench)
    )


def attention_kernels(bench: Workbench) -> dict[str, Attention]:
    """What the pack calls, the host's function, and on a card PyTorch's kernels one by one."""
    kernels: dict[str, Attention] = {"pack": bench.stage.backbone.attention, "host": hosts_order}
    if bench.on_card:
        kernels |= {name: _with(backend) for name, backend in BACKENDS.items()}
    return kernels


def hosts_order(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The host's function as it is, which asks PyTorch's kernels in one order on every card."""
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, heads=heads)


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"


def _products(bench: Workbench) -> list[Row]:
    d, f, rows = bench.task.shape.dim, bench.task.shape.ffn_dim, bench.task.rows
    large = LARGE[bench.on_card]
    shapes = {"square": (rows, d, d), "up": (rows, d, f), "down": (rows, f, d), "large": (large, large, large)}
    return [_product(bench, name, *shape) for name, shape in shapes.items()]


def _product(bench: Workbench, name: str, m: int, k: int, n: int) -> Row:
    pairs = cycle([(_random(bench, m, k), _random(bench, n, k)) for _ in range(SETS)])

    def multiply() -> Tensor:
        x, weight = next(pairs)
        return x @ weight.T

    seconds = seconds_per_call(multiply)
    rate = bench.findings.rates[name] = 2 * m * k * n / seconds
    return {"what": name, "shape": f"{m} x {k} x {n}", "microseconds": 1e6 * seconds, "TFLOP/s": rate / TERA}


def _copy(bench: Workbench) -> Row:
    source = torch.empty(COPIED_BYTES[bench.on_card], dtype=torch.uint8, device=bench.device).random_()
    target = torch.empty_like(source)
    seconds = seconds_per_call(lambda: target.copy_(source))
    moved = bench.findings.rates["copy"] = 2 * source.nbytes / seconds
    return {
        "what": f"copy, {moved / GIGA:.0f} GB/s read and written",
        "shape": f"{source.nbytes} bytes",
        "microseconds": 1e6 * seconds,
        "TFLOP/s": None,
    }


def _heads(bench: Workbench) -> list[Row]:
    every = bench.task.shape.heads
    kernels = attention_kernels(bench)
    rows = [
        _attention(bench, place, name, kernel, heads, frames)
        for place, heads, frames in (("every head", every, SELF_FORCING.trained_frames), *_usual_groups(bench))
        for name, kernel in kernels.items()
    ]
    rates = bench.findings.rates
    whole = [row for row in rows if row["read by"] == "every head" and row["TFLOP/s"] is not None]
    rates["fastest attention"] = max(float(row["TFLOP/s"] or 0) for row in whole) * TERA
    if not bench.on_card:
        rows.append({**dict.fromkeys(rows[0]), "read by": "every head", "kernel": "others", "note": NEEDS_CUDA})
    return rows


def _usual_groups(bench: Workbench) -> list[tuple[str, int, int]]:
    """(head type, heads, frames read) as it occurs most often in a layer."""
    groups = []
    for head_type in HEAD_TYPES:
        counts = Counter(layer.count(head_type) for layer in bench.labels)
        usual = max((count for count in counts if count), key=lambda count: counts[count], default=0)
        if usual:
            groups.append((head_type, usual, PRESETS["paper"].tiers(head_type).frames + CHUNK_FRAMES))
    return groups


def _attention(bench: Workbench, place: str, name: str, kernel: Attention, heads: int, frames: int) -> Row:
    tokens, width = bench.task.tokens, heads * bench.stage.head_dim
    q, keys = bench.task.rows, frames * tokens
    inputs = cycle(
        [
            (_random(bench, 1, q, width), _random(bench, 1, keys, width), _random(bench, 1, keys, width))
            for _ in range(2)
        ]
    )
    row: Row = {"read by": place, "heads": heads, "frames": frames, "kernel": name}
    try:
        seconds = seconds_per_call(lambda: kernel(*next(inputs), heads))
    except RuntimeError as error:  # a kernel that this machine or build does not have
        return row | {"milliseconds": None, "TFLOP/s": None, "note": str(error).splitlines()[0][:60]}
    rate = 4 * bench.task.rows * frames * tokens * width / seconds
    if (place, name) == ("every head", "pack"):
        bench.findings.rates["attention"] = rate
    return row | {"milliseconds": 1e3 * seconds, "TFLOP/s": rate / TERA, "note": ""}


def _with(backend: SDPBackend) -> Attention:
    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        with sdpa_kernel([backend]):
            return dense_attention(q, k, v, heads)

    return attention


def _random(bench: Workbench, *shape: int) -> Tensor:
    return torch.randn(shape, device=bench.device, dtype=bench.stage.dtype)
