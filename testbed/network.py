"""Wan 2.1's causal transformer in plain PyTorch, under the host's tensor names, for training on whole windows.

One pass holds every chunk of a window twice: clean, as the sampler commits it, and noisy, as it denoises it. A clean
chunk reads the clean ones up to itself, a noisy one the clean ones before it and itself: the sampler's own passes, all
chunks at once. "Group" below is one chunk in one of its two forms; clean groups come first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad, rms_norm

from headforcing_core.geometry import LATENT_CHANNELS, PATCH

HEAD_DIM, FREQ_DIM, THETA, EPS = 128, 256, 10000.0, 1e-6
TIMESTEPS = 1000.0
OPEN_GATE = 0.2  # share of every part that is let in before training


@dataclass(frozen=True)
class Shape:
    """Size of a network. Width is a multiple of 128, one head each."""

    width: int = 256
    layers: int = 12
    feed_forward: int = 512
    text_dim: int = 64
    text_tokens: int = 512


class Attention(nn.Module):
    """Tensors of one attention part, named as the host names them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(width, EPS), nn.RMSNorm(width, EPS)

    def query(self, x: Tensor) -> Tensor:
        """(..., tokens, width) -> (..., heads, tokens, head_dim)."""
        return _heads(_normed(self.q(x), self.norm_q))

    def key(self, x: Tensor) -> Tensor:
        """(..., tokens, width) -> (..., heads, tokens, head_dim)."""
        return _heads(_normed(self.k(x), self.norm_k))

    def value(self, x: Tensor) -> Tensor:
        """(..., tokens, width) -> (..., heads, tokens, head_dim)."""
        return _heads(self.v(x))


class Block(nn.Module):
    """One layer: attention over the video, attention over the text, feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.self_attn, self.cross_attn = Attention(width), Attention(width)
        self.norm3 = nn.LayerNorm(width, EPS)
        self.ffn = nn.Sequential(
            nn.Linear(width, shape.feed_forward), nn.GELU(approximate="tanh"), nn.Linear(shape.feed_forward, width)
        )
        self.modulation = nn.Parameter(torch.zeros(1, 6, width))

    def forward(self, x: Tensor, time: Tensor, turn: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """x (batch, groups, tokens, width), time (batch, groups, 6, width), turn (chunks, tokens, 64, 2)."""
        shift, scale, gate, shift_ff, scale_ff, gate_ff = (time + self.modulation).unsqueeze(3).unbind(2)
        x = x + gate * self._attend(_plain_norm(x) * (1 + scale) + shift, turn)
        x = x + self._read(self.norm3(x), text, text_bias)
        return x + gate_ff * self.ffn(_plain_norm(x) * (1 + scale_ff) + shift_ff)

    def _attend(self, x: Tensor, turn: Tensor) -> Tensor:
        part, chunks = self.self_attn, x.shape[1] // 2
        turn = torch.view_as_complex(turn.repeat(2, 1, 1, 1)[:, None])  # (groups, 1, tokens, 64)
        # one tensor a chunk before anything is joined: gradients of slices would each be as large as the whole
        q, k, v = (each.unbind(1) for each in (_turned(part.query(x), turn), _turned(part.key(x), turn), part.value(x)))
        outs: list[Tensor] = []  # (batch, heads, tokens, head_dim)
        for group in range(2 * chunks):
            seen = [*range(group % chunks), group]
            outs.append(_attention(q[group], *(torch.cat([each[i] for i in seen], dim=2) for each in (k, v))))
        return part.o(torch.stack(outs, dim=1).transpose(2, 3).flatten(3))

    def _read(self, x: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        part = self.cross_attn
        return part.o(_attention(part.query(x), part.key(text), part.value(text), text_bias).transpose(2, 3).flatten(3))


class Head(nn.Module):
    """From tokens to the flow of their patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, PATCH * PATCH * LATENT_CHANNELS)
        self.modulation = nn.Parameter(torch.zeros(1, 2, width))


class CausalWan(nn.Module):
    """The network, weights drawn from PyTorch's generator."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.shape = shape
        self.patch_embedding = nn.Conv3d(LATENT_CHANNELS, width, (1, PATCH, PATCH), (1, PATCH, PATCH))
        self.text_embedding = nn.Sequential(
            nn.Linear(shape.text_dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.time_embedding = nn.Sequential(nn.Linear(FREQ_DIM, width), nn.SiLU(), nn.Linear(width, width))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.head = Head(width)
        self._draw()

    def _draw(self) -> None:
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        nn.init.normal_(self.time_projection[1].weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.head.weight)
        for block in self.blocks:
            with torch.no_grad():
                block.modulation[:, [2, 5]] = OPEN_GATE  # type: ignore[index]

    def forward(self, clean: Tensor, noisy: Tensor, sigmas: Tensor, texts: Tensor) -> Tensor:
        """The flow of every noisy chunk, like `noisy`.

        clean, noisy: (batch, 16, frames, height, width); sigmas: (batch, chunks), of the noisy chunks; texts:
        (batch, 2, chunks, words, text_dim), of clean and noisy chunks, without padding.
        """
        batch, _, frames, height, width = noisy.shape
        chunks, rows, columns = sigmas.shape[1], height // PATCH, width // PATCH
        x = self.patch_embedding(torch.cat([clean, noisy]))  # (2 batch, width, frames, rows, columns)
        x = x.flatten(2).mT.unflatten(1, (chunks, -1)).unflatten(0, (2, batch))
        x = x.transpose(0, 1).flatten(1, 2).float()  # (batch, groups, tokens, width)
        steps = torch.cat([torch.zeros_like(sigmas), sigmas], dim=1) * TIMESTEPS
        time = self.time_embedding(_waves(steps))  # (batch, groups, width)
        parts = self.time_projection(time).unflatten(2, (6, -1)).float()
        turn = rotation(frames, rows, columns, x.device).unflatten(0, (chunks, -1))
        text = self.text_embedding(pad(texts.flatten(1, 2), (0, 0, 0, 1)))  # one row stands for all the padding
        bias = torch.zeros(text.shape[2], device=x.device)
        bias[-1] = math.log(self.shape.text_tokens - texts.shape[3])
        for block in self.blocks:
            x = block(x, parts, turn, text, bias)
        x, time = x[:, chunks:], time[:, chunks:].float()
        shift, scale = (time[:, :, None] + self.head.modulation).unsqueeze(3).unbind(2)
        flow = self.head.head(_plain_norm(x) * (1 + scale) + shift).float()  # (batch, chunks, tokens, patch)
        flow = flow.flatten(1, 2).unflatten(1, (frames, rows, columns)).unflatten(4, (PATCH, PATCH, LATENT_CHANNELS))
        return flow.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)


def rotation(frames: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Cosine and sine of the turns of all tokens, (tokens, 64, 2): 22 pairs for time, 21 each for row and column."""
    side = 2 * (HEAD_DIM // 6)
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (frames, rows, columns)), indexing="ij")
    sizes = (HEAD_DIM - 2 * side, side, side)
    speeds = [THETA ** -(torch.arange(0, size, 2, dtype=torch.float64) / size) for size in sizes]
    angle = torch.cat([place.flatten()[:, None] * speed for place, speed in zip(places, speeds, strict=True)], dim=1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float().to(device)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    scores = (q * HEAD_DIM**-0.5) @ k.mT
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ v


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, HEAD_DIM)).transpose(-2, -3)


def _normed(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    return rms_norm(x.float(), norm.normalized_shape, norm.weight, EPS)


def _plain_norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], eps=EPS)


def _waves(steps: Tensor) -> Tensor:
    half = FREQ_DIM // 2
    angle = steps.float()[..., None] * 10000 ** -(torch.arange(half, device=steps.device) / half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
