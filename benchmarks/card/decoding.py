"""The VAE beside the diffusion model: seconds to decode a chunk, the rate of the whole, and memory on a card."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.card.arithmetic import PIXEL_FRAMES
from benchmarks.card.workbench import NEEDS_CUDA, POLICIES, Workbench
from benchmarks.shared.host_process import pack_module
from benchmarks.shared.stage import CHUNK_FRAMES
from benchmarks.shared.stopwatch import in_turns
from benchmarks.shared.tables import Row, say
from headforcing_core.geometry import LATENT_CHANNELS, TRAINED_FRAMES, first_compressed_chunk
from headforcing_core.policy.presets import PRESETS

if TYPE_CHECKING:
    from comfy.sd import VAE

WIDTH = {True: 96, False: 8}  # of Wan 2.1's VAE, and of the one that stands for it on a CPU
WARM = 2
GIGA = 1e9
LIMITS = {"paper": 16 * GIGA, "low_vram": 12 * GIGA}
DecodeChunk = Callable[[Tensor], Tensor]
Peak = tuple[int, int, int]


def measure_memory(bench: Workbench) -> None:
    """Table: the most memory that a run holds on a card, from its first chunk to its steady state, with nothing else
    beside it but the VAE, which decodes the last chunk of warm-up and a later one; two policies on as much of the card
    as they are meant to fit. Filled chunks lie between those that the model makes."""
    bench.clear()
    bench.findings.add("memory", "Memory of a run", [_memory_row(bench, policy) for policy in POLICIES])


def measure_decoding(bench: Workbench) -> None:
    """Table: seconds of decoding one chunk, and pixel frames a second of the whole."""
    decode = _decoder(bench)
    latent = _latent(bench)
    seconds = median(run.clock for run in in_turns({"": lambda: decode(latent)}, WARM, max(3, bench.rounds // 2))[""])
    title = f"With decoding, {PIXEL_FRAMES} pictures a chunk"
    rows = [_whole_row(bench, policy, seconds) for policy in POLICIES]
    bench.findings.add("decoding", title, rows)
    if bench.on_card:
        for row in rows:
            row["pixel fps, decoding in a second thread"] = _overlapped(bench, str(row["what"]), decode)
        bench.findings.add("decoding", title, rows)


def _whole_row(bench: Workbench, policy: str, decode_seconds: float) -> Row:
    alone = bench.findings.figures.get(f"seconds, {policy}")
    return {
        "what": policy,
        "decode, seconds": decode_seconds,
        "diffusion, seconds": alone,
        "pixel fps, one after the other": None if alone is None else PIXEL_FRAMES / (alone + decode_seconds),
        "pixel fps, decoding in a second thread": None,
        "note": "" if bench.on_card else f"the last: {NEEDS_CUDA}",
    }


def _memory_row(bench: Workbench, policy: str) -> Row:
    most = LIMITS.get(policy)
    decode = _decoder(bench) if bench.on_card else _nothing
    start = PRESETS[policy].compress_from_chunk
    compressed = start if start > 0 else first_compressed_chunk(CHUNK_FRAMES, TRAINED_FRAMES)
    made_by_model = {0, compressed - 1, compressed, compressed + 1, compressed + 2}
    rolling = bench.rolling(policy, compressed, lambda chunk: chunk in made_by_model)
    ends = (compressed, max(made_by_model) + 1)
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
                decode(_latent(bench))
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
        "note": note,
    }


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


def _overlapped(bench: Workbench, policy: str, decode: DecodeChunk) -> float:
    """Pixel frames a second when a chunk is decoded in another thread and stream while the next one is made."""
    latent, stream = _latent(bench), torch.cuda.Stream()

    def decode_aside() -> None:
        with torch.cuda.stream(stream):
            decode(latent)
            stream.synchronize()

    with bench.stage.open(), ThreadPoolExecutor(1) as thread:
        rolling = bench.at(policy, bench.chunk)

        def both() -> None:
            decoding = thread.submit(decode_aside)
            rolling.next()
            decoding.result()

        runs = in_turns({"": both}, 1, 3)[""]
    return PIXEL_FRAMES / median(run.clock for run in runs)


def _nothing(latent: Tensor) -> Tensor:
    return latent


def _latent(bench: Workbench) -> Tensor:
    generator = torch.Generator().manual_seed(51)
    return torch.randn(1, LATENT_CHANNELS, CHUNK_FRAMES, *bench.size.latent, generator=generator)


def _decoder(bench: Workbench) -> DecodeChunk:
    """The pack's decoder, which stands inside a video, where a chunk has four pictures a frame."""
    decoder = pack_module("host.chunk_decoder").ChunkDecoder(_vae(bench.on_card))
    decoder.decode(_latent(bench))
    return decoder.decode


@cache
def _vae(real_size: bool) -> VAE:
    import comfy.sd
    from comfy.ldm.wan.vae import WanVAE

    say("  building the VAE")
    with torch.device("meta"):
        empty = WanVAE(
            dim=WIDTH[real_size],
            z_dim=LATENT_CHANNELS,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
        )
    generator = torch.Generator().manual_seed(50)
    weights = {}
    for name, tensor in empty.state_dict().items():
        if tensor.ndim > 1 and not name.endswith("gamma"):
            numbers = torch.randn(tensor.shape, generator=generator)
            weights[name] = 1.4 * numbers * tensor[0].numel() ** -0.5
        else:
            weights[name] = torch.ones(tensor.shape) if name.endswith("gamma") else torch.zeros(tensor.shape)
    return comfy.sd.VAE(sd=weights)
