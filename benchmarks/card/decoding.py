"""The VAE beside the diffusion model: where the seconds of a decode go, by other ways, and the rate of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.card.arithmetic import PIXEL_FRAMES
from benchmarks.card.video_vae import DecodeChunk, inside_a_video, made_up_latent, new_decoder
from benchmarks.card.waiting import kernel_rows
from benchmarks.card.workbench import NEEDS_CUDA, POLICIES, Workbench
from benchmarks.shared.stopwatch import Stopwatch, in_turns, take
from benchmarks.shared.tables import Row

if TYPE_CHECKING:
    from comfy.ldm.wan.vae import WanVAE

WARM = 2
ROUNDS = {True: 4, False: 1}  # on a card, on a processor
MOST_KERNELS = 8
LOAD, FORWARD, FINISH, REST = "making room", "decoder", "to 0 ... 1", "to the processor, and the rest"
Way = Callable[[Any], AbstractContextManager[object]]


def measure_decoding(bench: Workbench) -> None:
    """Tables: seconds of decoding one chunk, round by round, with its parts; by other ways; the kernels of one; and
    pixel frames a second of the whole.

    Every way has a thread of its own, since PyTorch keeps cuDNN's choices by thread.
    """
    rows: list[Row] = []
    expected = None
    for name, way in _ways().items():
        with ThreadPoolExecutor(1) as thread:
            try:
                more, pictures = thread.submit(_rounds, bench, name, way).result()
            except (RuntimeError, TypeError, AttributeError) as error:  # a build or host on which this cannot be done
                rows.append({**dict.fromkeys(rows[0] if rows else ("way",)), "way": name, "note": _said(error)})
                continue
        expected = pictures if expected is None else expected
        more[-1]["note"] = f"pictures apart by {float((pictures - expected).abs().max()):.1e}"
        rows += more
        bench.findings.tables["decoding rounds"] = rows
    bench.findings.add("decoding rounds", f"Decoding {PIXEL_FRAMES} pictures, round by round", rows)
    decode = inside_a_video(bench)
    latent = made_up_latent(bench)
    warm = WARM if bench.on_card else 0
    seconds = median(run.clock for run in in_turns({"": lambda: decode(latent)}, warm, ROUNDS[bench.on_card])[""])
    bench.findings.figures["seconds, decode"] = seconds
    if bench.on_card:
        kernels = kernel_rows(lambda: decode(latent), MOST_KERNELS)[0]
        bench.findings.add("decoding kernels", "Kernels of one decode", kernels)
    title = f"With decoding, {PIXEL_FRAMES} pictures a chunk"
    whole = [_whole_row(bench, policy, seconds) for policy in POLICIES]
    bench.findings.add("decoding", title, whole)
    if bench.on_card:
        for row in whole[:2]:
            row["pixel fps, decoding in a second thread"] = _overlapped(bench, str(row["what"]), decode)
        bench.findings.add("decoding", title, whole)


def _ways() -> dict[str, Way]:
    return {
        "as it is": lambda decoder: nullcontext(),
        "channels last": _channels_last,
        "three frames in one call": lambda decoder: _decoding_by(
            decoder, partial(_three_at_once, decoder._vae.first_stage_model)
        ),
        "cuDNN tries its kernels": lambda decoder: torch.backends.cudnn.flags(enabled=True, benchmark=True),
    }


def _rounds(bench: Workbench, name: str, way: Way) -> tuple[list[Row], Tensor]:
    """Rounds of one way, the first of which makes its choices, and the pictures of that one."""
    decoder, latent = new_decoder(bench), made_up_latent(bench)
    decoder.decode(latent)
    rows: list[Row] = []
    made: list[Tensor] = []
    with way(decoder):
        for number in range(1 + ROUNDS[bench.on_card]):
            watch = Stopwatch(bench.on_card)
            with _watched(watch, decoder):
                seconds = take(lambda: made.append(decoder.decode(latent))).clock
            parts = {part: watch.seconds.get(part, 0.0) for part in (LOAD, FORWARD, FINISH, REST)}
            rows.append({"way": name, "round": number, "seconds": seconds, **parts, "note": ""})
    decoder.close()
    return rows, made[0]


@contextmanager
def _watched(watch: Stopwatch, decoder: Any) -> Iterator[None]:
    vae = decoder._vae
    parts = ((LOAD, decoder, "load"), (FINISH, vae, "process_output"))
    with ExitStack() as patches:
        patches.enter_context(_decoding_by(decoder, watch.timed(FORWARD, decoder._decoder.decode)))
        for name, owner, attribute in parts:
            patches.enter_context(patch.object(owner, attribute, watch.timed(name, getattr(owner, attribute))))
        patches.enter_context(watch.measure(REST))
        yield


def _decoding_by(
    decoder: Any, decode: Callable[[Tensor, list[Any]], tuple[Tensor, list[Any]]]
) -> AbstractContextManager[object]:
    """A decoder whose own decode is replaced while this lasts."""
    return patch.object(decoder, "_decoder", replace(decoder._decoder, decode=decode))


@contextmanager
def _channels_last(decoder: Any) -> Iterator[None]:
    """Weights and latent with the channels innermost, as a card's tensor cores read them."""
    decode = decoder._decoder.decode
    weights = [
        (module._parameters, name, weight)
        for module in decoder._vae.first_stage_model.modules()
        for name, weight in module._parameters.items()
        if weight is not None and weight.ndim in (4, 5)
    ]

    def from_channels_last(latent: Tensor, memory: list[Any]) -> tuple[Tensor, list[Any]]:
        return decode(latent.contiguous(memory_format=torch.channels_last_3d), memory)

    for of_module, name, weight in weights:
        innermost = torch.channels_last_3d if weight.ndim == 5 else torch.channels_last
        laid = weight.detach().contiguous(memory_format=innermost)
        of_module[name] = torch.nn.Parameter(laid, requires_grad=False)
    try:
        with _decoding_by(decoder, from_channels_last):
            yield
    finally:
        for of_module, name, weight in weights:
            of_module[name] = weight


def _three_at_once(model: WanVAE, latent: Tensor, memory: list[Any]) -> tuple[Tensor, list[Any]]:
    """The frames of a chunk in one call of the decoder, which the pack makes in two, as the host does."""
    pictures = model.decoder(model.conv2(latent), feat_cache=memory, feat_idx=[0])
    return torch.cat(pictures, dim=2), memory


def _said(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__


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


def _overlapped(bench: Workbench, policy: str, decode: DecodeChunk) -> float:
    """Pixel frames a second when a chunk is decoded in another thread and stream while the next one is made."""
    latent, stream = made_up_latent(bench), torch.cuda.Stream()

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
