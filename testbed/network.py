"""Wan 2.1's causal transformer in plain PyTorch, under the host's tensor names, for training on whole windows.

One pass holds every chunk of a window twice: clean, as the sampler commits it, and noisy, as it denoises it. A clean
chunk reads the clean ones up to itself, a noisy one the clean ones before it and itself: the sampler's own passes, all
chunks at once. "Group" below is one chunk in one of its two forms; clean groups come first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad, rms_norm

from headforcing_core.geometry import PATCH, WAN21

HEAD_DIM, FREQ_DIM, THETA, EPS = 128, 256, 10000.0, 1e-6
TIMESTEPS = 1000.0
OPEN_GATE = 0.2  # share of every part that is let in before training


Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"(layer, q, k, v) -> out; q, k, v (batch, tokens, heads, head_dim), not turned; out (batch, tokens, width)."


@dataclass(frozen=True)
class Shape:
    """Size of a network. Width is a multiple of 128, one head each."""

    width: int = 256
    layers: int = 12
    feed_forward: int = 512
    text_dim: int = 64
    text_tokens: int = 512

    @property
    def heads(self) -> int:
        """Heads a layer."""
        return self.width // HEAD_DIM


@dataclass(frozen=True)
class Text:
    """What a group reads: (batch, groups, words + 1, width), the last for the padding, and what attention adds."""

    tokens: Tensor
    bias: Tensor


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

    def forward(self, x: Tensor, time: Tensor, attend: Callable[[Attention, Tensor], Tensor], text: Text) -> Tensor:
        """x (batch, groups, tokens, width), time (batch, groups, 6, width)."""
        shift, scale, gate, shift_ff, scale_ff, gate_ff = (time + self.modulation).unsqueeze(3).unbind(2)
        x = x + gate * self.self_attn.o(attend(self.self_attn, _plain_norm(x) * (1 + scale) + shift))
        x = x + self._read(self.norm3(x), text)
        return x + gate_ff * self.ffn(_plain_norm(x) * (1 + scale_ff) + shift_ff)

    def _read(self, x: Tensor, text: Text) -> Tensor:
        part = self.cross_attn
        out = _attention(part.query(x), part.key(text.tokens), part.value(text.tokens), text.bias)
        return part.o(out.transpose(2, 3).flatten(3))


class Head(nn.Module):
    """From tokens to the flow of their patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, PATCH * PATCH * WAN21.channels)
        self.modulation = nn.Parameter(torch.zeros(1, 2, width))


class CausalWan(nn.Module):
    """The network, weights drawn from PyTorch's generator."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.shape = shape
        self.patch_embedding = nn.Conv3d(WAN21.channels, width, (1, PATCH, PATCH), (1, PATCH, PATCH))
        self.text_embedding = nn.Sequential(
            nn.Linear(shape.text_dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.time_embedding = nn.Sequential(nn.Linear(FREQ_DIM, width), nn.SiLU(), nn.Linear(width, width))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.head = Head(width)
        self.attend_window = window_attention
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
        chunks = sigmas.shape[1]
        x = self._tokens(torch.cat([clean, noisy]))  # (2 batch, tokens, width)
        x = x.unflatten(1, (chunks, -1)).unflatten(0, (2, batch)).transpose(0, 1).flatten(1, 2)
        time = self._time(torch.cat([torch.zeros_like(sigmas), sigmas], dim=1))
        turn = rotation(frames, height // PATCH, width // PATCH, x.device).unflatten(0, (chunks, -1))
        x = self._through(x, time, partial(self.attend_window, turn), self._text(texts.flatten(1, 2)))
        return self._flow(x[:, chunks:], time[:, chunks:], (frames, height // PATCH, width // PATCH))

    def chunk_flow(self, x: Tensor, sigma: Tensor, text: Tensor, attend: Attend) -> Tensor:
        """The flow of one chunk, like x (batch, 16, frames, height, width), with the history that `attend` knows of.
        sigma: one number; text: (batch, words, text_dim), without padding."""
        layers = iter(range(len(self.blocks)))

        def attend_layer(part: Attention, tokens: Tensor) -> Tensor:
            q, k, v = (
                each[:, 0].transpose(1, 2) for each in (part.query(tokens), part.key(tokens), part.value(tokens))
            )
            return attend(next(layers), q, k, v)[:, None]

        time = self._time(sigma.reshape(1, 1).expand(len(x), 1))
        tokens = self._through(self._tokens(x)[:, None], time, attend_layer, self._text(text[:, None]))
        return self._flow(tokens, time, (x.shape[2], x.shape[3] // PATCH, x.shape[4] // PATCH))

    def _tokens(self, video: Tensor) -> Tensor:
        return self.patch_embedding(video).flatten(2).mT.float()

    def _time(self, sigmas: Tensor) -> Tensor:
        return self.time_embedding(_waves(sigmas * TIMESTEPS)).float()  # (batch, groups, width)

    def _text(self, words: Tensor) -> Text:
        tokens = self.text_embedding(pad(words, (0, 0, 0, 1)))  # one row stands for all the padding
        bias = torch.zeros(tokens.shape[2], device=tokens.device)
        bias[-1] = math.log(self.shape.text_tokens - words.shape[2])
        return Text(tokens, bias)

    def _through(self, x: Tensor, time: Tensor, attend: Callable[[Attention, Tensor], Tensor], text: Text) -> Tensor:
        parts = self.time_projection(time).unflatten(2, (6, -1)).float()
        for block in self.blocks:
            x = block(x, parts, attend, text)
        return x

    def _flow(self, x: Tensor, time: Tensor, grid: tuple[int, int, int]) -> Tensor:
        shift, scale = (time[:, :, None] + self.head.modulation).unsqueeze(3).unbind(2)
        flow = self.head.head(_plain_norm(x) * (1 + scale) + shift).float()  # (batch, groups, tokens, patch)
        flow = flow.flatten(1, 2).unflatten(1, grid).unflatten(4, (PATCH, PATCH, WAN21.channels))
        return flow.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)


def window_attention(turn: Tensor, part: Attention, x: Tensor) -> Tensor:
    """Attention of all groups of a window, (batch, groups, tokens, width); turn (chunks, tokens, 64, 2)."""
    chunks = len(turn)
    turn = torch.view_as_complex(turn.repeat(2, 1, 1, 1)[:, None])  # (groups, 1, tokens, 64)
    # one tensor a chunk before anything is joined: gradients of slices would each be as large as the whole
    q, k, v = (each.unbind(1) for each in (turned(part.query(x), turn), turned(part.key(x), turn), part.value(x)))
    outs: list[Tensor] = []  # (batch, heads, tokens, head_dim)
    for group in range(2 * chunks):
        seen = [*range(group % chunks), group]
        outs.append(_attention(q[group], *(torch.cat([each[i] for i in seen], dim=2) for each in (k, v))))
    return torch.stack(outs, dim=1).transpose(2, 3).flatten(3)


@cache
@torch.inference_mode(mode=False)
def rotation(frames: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Cosine and sine of the turns of all tokens, (tokens, 64, 2): 22 pairs for time, 21 each for row and column."""
    side = 2 * (HEAD_DIM // 6)
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (frames, rows, columns)), indexing="ij")
    sizes = (HEAD_DIM - 2 * side, side, side)
    speeds = [THETA ** -(torch.arange(0, size, 2, dtype=torch.float64) / size) for size in sizes]
    angle = torch.cat([place.flatten()[:, None] * speed for place, speed in zip(places, speeds, strict=True)], dim=1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float().to(device)


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Queries or keys turned by complex numbers of length 1."""
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
