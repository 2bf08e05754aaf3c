"""Whether a chunk that was just made can be the next one of a kept run."""

import torch
from torch import Tensor

from .record import RunSpec


def check_chunk(run: str, chunk: int, spec: RunSpec, latent: Tensor, window: Tensor | None) -> None:
    """ValueError for a chunk, or a window behind it, of another shape than the run's, and for one beyond the last;
    RuntimeError for one that is not finite."""
    if chunk >= spec.chunks:
        raise ValueError(
            f"The run {run!r} has all of its {spec.chunks} chunks. There is no further one to keep. Open it with more "
            "chunks."
        )
    if tuple(latent.shape) != spec.chunk_shape:
        raise ValueError(
            f"Chunk {chunk} has shape {tuple(latent.shape)}, those of the run {run!r} have {spec.chunk_shape}. They "
            "would not make one video. Open the run with that shape."
        )
    frames = 0 if window is None else window.shape[2]
    if frames != spec.window_frames:
        raise ValueError(
            f"{frames} noisy frames stand behind chunk {chunk}, those of the run {run!r} have {spec.window_frames}. "
            "It could not go on from there. Open the run with the solver of these chunks."
        )
    if not torch.isfinite(latent).all() or not (window is None or torch.isfinite(window).all()):
        raise RuntimeError(
            f"Chunk {chunk} of the run {run!r} holds numbers that are not finite, so it was not kept. The model "
            f"overflowed; the finished chunks ({chunk}) are safe. Use another weight_dtype or seed."
        )
