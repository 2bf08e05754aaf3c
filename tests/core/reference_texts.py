"""The naive reference: which text a chunk is made under (method.md section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """A prompt from a chunk on, and how the video passes into it (section 7). The first one's transition is unused."""

    first_chunk: int
    text: Tensor
    transition: str = "soft"
    soft_chunks: int = 1
    first_text: Tensor | None = None
    "Of a shot: what its first chunk is made under."


def mix(old: Tensor, new: Tensor, share: float) -> Tensor:
    """Linear blend of two texts (tokens, width); the shorter one is padded with zeros at the end."""
    tokens = max(len(old), len(new))
    padded = []
    for text in (old, new):
        nothing = torch.zeros(tokens - len(text), text.shape[1], dtype=text.dtype)
        padded.append(torch.cat([text, nothing]))
    return (1 - share) * padded[0] + share * padded[1]


def text_at(segments: Sequence[Segment], chunk: int) -> Tensor:
    """The text that a chunk is made under."""
    begun = [segment for segment in segments if segment.first_chunk <= chunk]
    segment, j = begun[-1], chunk - begun[-1].first_chunk + 1
    if len(begun) > 1 and segment.first_text is not None and j == 1:
        return segment.first_text
    if len(begun) == 1 or segment.transition != "soft" or j >= segment.soft_chunks:
        return segment.text
    old = text_at(begun[:-1], segment.first_chunk - 1)
    return mix(old, segment.text, j / segment.soft_chunks)


def is_first_whole(segments: Sequence[Segment], chunk: int) -> bool:
    """Whether a new text is in force whole for the first time. A fade that the next one interrupts never is."""
    begun = [segment for segment in segments if segment.first_chunk <= chunk]
    if len(begun) == 1:
        return False
    return chunk == begun[-1].first_chunk + (begun[-1].soft_chunks - 1 if begun[-1].transition == "soft" else 0)
