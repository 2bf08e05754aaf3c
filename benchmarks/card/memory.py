"""The most memory that a run holds on a card, the VAE included."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from benchmarks.card.video_vae import inside_a_video, made_up_latent
from benchmarks.card.workbench import IN_8_BITS, NEEDS_CUDA, POLICIES, Workbench
from benchmarks.shared.stage import CHUNK_FRAMES
from benchmarks.shared.stopwatch import take
from benchmarks.shared.tables import Row
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import first_compressed_chunk
from headforcing_core.policy.presets import PRESETS

GIGA = 1e9
LIMITS = {"paper": 16 * GIGA, "low_vram": 12 * GIGA}
Peak = tuple[int, int, int]


def measure_memory(bench: Workbench) -> None:
    """Table: the most memory that a run holds on a card, from its first chunk to its steady state, with nothing else
    beside it but the VAE, which decodes the last chunk of warm-up and a later one; two policies on as much of the card
    as they are meant to fit. Filled chunks lie between those that the model makes.

    Each policy is measured in a thread of its own: PyTorch keeps cuDNN's choices by thread, and those that were made
    where memory was short may be slow. What a decode takes there afterwards, with all memory, is told.
    """
    bench.clear()
    rows: list[Row] = []
    for policy in (*POLICIES, IN_8_BITS):
        with ThreadPoolExecutor(1) as thread:
            rows.append(thread.submit(_memory_row, bench, policy).result())
    bench.findings.add("memory", "Memory of a run", rows)


def _memory_row(bench: Workbench, policy: str) -> Row:
    most = LIMITS.get(policy)
    decode = inside_a_video(bench) if bench.on_card else None
    start = PRESETS[policy].compress_from_chunk
    compressed = start if start > 0 else first_compressed_chunk(CHUNK_FRAMES, SELF_FORCING.trained_frames)
    full = first_compressed_chunk(CHUNK_FRAMES, SELF_FORCING.trained_frames) + 2  # by now every tier is
    made_by_model = {0, compressed - 1, compressed, compressed + 1, full}
    rolling = bench.rolling(policy, compressed, lambda chunk: chunk in made_by_model)
    ends = (compressed, full + 1)
    diffusion: list[Peak] = []
    whole: list[Peak] = []
    note = "" if bench.on_card else f"peaks: {NEEDS_CUDA}"
    kv = beside = 0
    _forget_peak(bench)
    try:
        with bench.stage.open(), _at_most(bench, most):
            for chunk in ends:
                rolling.go_to(chunk)
                diffusion += _peak(bench)
                if decode is not None:
                    decode(made_up_latent(bench))
                whole += _peak(bench)
            kv, beside = rolling.memory.kv_bytes, rolling.memory.chunk_bytes
    except torch.OutOfMemoryError:
        note = "does not fit"
    finally:
        rolling.close()
    if len(whole) == len(ends):
        bench.findings.figures[f"peak, {policy}"] = max(float(peak[1] + peak[2]) for peak in diffusion + whole)
    figures = (*_greatest(diffusion)[:2], *_greatest(diffusion + whole))
    names = ("peak allocated", "peak reserved", "allocated with VAE", "reserved with VAE", "outside PyTorch")
    return {
        "what": policy,
        "may take GB": None if most is None else most / GIGA,
        "KV GB": kv / GIGA,
        "beside GB": beside / GIGA,
        **{
            f"{name} GB": None if figure is None else figure / GIGA for name, figure in zip(names, figures, strict=True)
        },
        "decode after it, seconds": _seconds_after(bench),
        "note": note,
    }


def _seconds_after(bench: Workbench) -> float | None:
    if not bench.on_card:
        return None
    decode, latent = inside_a_video(bench), made_up_latent(bench)
    return min(take(lambda: decode(latent)).clock for _ in range(2))


@contextmanager
def _at_most(bench: Workbench, most: float | None) -> Iterator[None]:
    """Inside, PyTorch gets only what is left of so many bytes of a card: what runs there fits a card of that size."""
    if not bench.on_card or most is None:
        yield
        return
    total = torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (most - _outside()) / total), bench.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)


def _forget_peak(bench: Workbench) -> None:
    gc.collect()
    if bench.on_card:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(bench: Workbench) -> list[Peak]:
    """Bytes since the last one: most allocated and most reserved by PyTorch, and what is in use on the card beside
    that. Nothing without a card."""
    if not bench.on_card:
        return []
    torch.cuda.synchronize()
    found = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), _outside()
    torch.cuda.reset_peak_memory_stats()
    return [found]


def _greatest(peaks: list[Peak]) -> tuple[int | None, ...]:
    return tuple(max(figures) for figures in zip(*peaks, strict=True)) or (None,) * 3


def _outside() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()
