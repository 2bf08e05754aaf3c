"""A small random video transformer whose self-attention is a plug, and the backbone that plugs the core into it.

Wan's layout where the core depends on it: 2x2 patches of a 16-channel latent, q and k normalised over the full width
before heads are split, heads turned in adjacent pairs, first by time, then by height, then by width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, pad, rms_norm

from headforcing_core.kv_memory.rollout_memory import RolloutMemory
from headforcing_core.rollout.loop import Recipe
from headforcing_core.rollout.told import NOTHING, Told

CHANNELS = 16
BESIDE = 5  # channels beside those, where any are given
PATCH = 2
THETA = 10000.0

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"(layer, q, k, v) -> out; q, k, v (batch, tokens, heads, head_dim), not rotated; out (batch, tokens, width)."


class TinyModel:
    """Weights from a seed. `sharpness` scales the attention logits, whose standard deviation is about its square."""

    def __init__(
        self,
        seed: int = 0,
        layers: int = 4,
        heads: int = 4,
        head_dim: int = 24,
        sharpness: float = 1.4,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layers, self.heads, self.head_dim, self.width = layers, heads, head_dim, heads * head_dim
        self.dtype = dtype
        self._generator = torch.Generator("cpu").manual_seed(seed)
        patch = CHANNELS * PATCH * PATCH
        self.embed = self._matrix(patch, self.width)
        self.sigma_features = self._matrix(8, self.width)
        self.text_features = self._matrix(self.width, self.width)
        self.blocks = [
            {
                "modulation": self._matrix(self.width, 2 * self.width, gain=0.3),
                "q": self._matrix(self.width, self.width),
                "k": self._matrix(self.width, self.width),
                "v": self._matrix(self.width, self.width),
                "out": self._matrix(self.width, self.width, gain=0.8),
                "norm_q": self._norm(sharpness),
                "norm_k": self._norm(sharpness),
                "up": self._matrix(self.width, 2 * self.width),
                "down": self._matrix(2 * self.width, self.width),
            }
            for _ in range(layers)
        ]
        self.head = self._matrix(self.width, patch)
        self.beside = self._matrix(BESIDE * PATCH * PATCH, self.width)

    def _matrix(self, rows: int, columns: int, gain: float = 1.0) -> Tensor:
        weights = torch.randn(rows, columns, generator=self._generator) * (gain / rows**0.5)
        return weights.to(self.dtype)

    def _norm(self, sharpness: float) -> Tensor:
        return (sharpness * (1 + 0.2 * torch.randn(self.width, generator=self._generator))).to(self.dtype)

    def text(self, seed: int) -> Tensor:
        """A prompt of two to four tokens: (tokens, width)."""
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(2 + seed % 3, self.width, generator=generator).to(self.dtype)

    def clean(
        self,
        x: Tensor,
        sigma: float,
        text: Tensor,
        attend: Attend,
        timesteps: Tensor | None = None,
        concat: Tensor | None = None,
    ) -> Tensor:
        """The clean chunk as the model sees it: x - sigma * v, all (batch, channels, frames, height, width). It may be
        told a timestep for each frame, in place of sigma, and channels beside x."""
        batch, channels, frames, height, width = x.shape
        grid = (frames, height // PATCH, width // PATCH)
        waves = sigma * torch.arange(1, 5, dtype=torch.float64)
        if timesteps is not None:  # (tokens, 4)
            waves = (timesteps.double() / 1000)[:, None] * torch.arange(1, 5, dtype=torch.float64)
            waves = waves.repeat_interleave(grid[1] * grid[2], dim=0)
        waves = torch.cat([waves.sin(), waves.cos()], dim=-1).to(self.dtype)
        read = (text / torch.arange(1, len(text) + 1)[:, None]).sum(dim=0)  # (width,); every place in the text matters
        condition = torch.tanh(waves @ self.sigma_features + read @ self.text_features)
        tokens = _patches(x) @ self.embed
        if concat is not None:
            tokens = tokens + _patches(concat.to(self.dtype)) @ self.beside
        tokens = self.through(tokens, condition, attend)
        picture = (layer_norm(tokens, (self.width,)) + 0.3 * condition) @ self.head  # (batch, tokens, patch)
        picture = picture.unflatten(1, grid).unflatten(4, (channels, PATCH, PATCH))
        picture = picture.permute(0, 4, 1, 2, 5, 3, 6).flatten(3, 4).flatten(4, 5)
        return x - sigma * (x - picture)

    def through(self, tokens: Tensor, condition: Tensor, attend: Attend) -> Tensor:
        """Tokens through all blocks; `condition` (width,), or (tokens, width) where each has its own."""
        for layer, block in enumerate(self.blocks):
            shift, scale = (condition @ block["modulation"]).chunk(2, dim=-1)
            normal = layer_norm(tokens, (self.width,)) * (1 + scale) + shift
            q = rms_norm(normal @ block["q"], (self.width,), block["norm_q"], 1e-6)
            k = rms_norm(normal @ block["k"], (self.width,), block["norm_k"], 1e-6)
            split = (self.heads, self.head_dim)
            out = attend(layer, q.unflatten(2, split), k.unflatten(2, split), (normal @ block["v"]).unflatten(2, split))
            tokens = tokens + out @ block["out"]
            tokens = tokens + gelu(layer_norm(tokens, (self.width,)) @ block["up"]) @ block["down"]
        return tokens


def _patches(x: Tensor) -> Tensor:
    patches = x.unflatten(3, (-1, PATCH)).unflatten(5, (-1, PATCH))  # (batch, c, frames, rows, 2, columns, 2)
    return patches.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)  # (batch, tokens, patch)


def blend(old: Tensor, new: Tensor, share: float) -> Tensor:
    """What the core is given to mix two texts with; zeros at the end of the shorter one."""
    tokens = max(len(old), len(new))
    old, new = (pad(text, (0, 0, 0, tokens - len(text))) for text in (old, new))
    return torch.lerp(old, new, share)


class CoreBackbone:
    """The tiny model with the core's KVMemory as its self-attention; counts forward passes."""

    def __init__(self, model: TinyModel, memory: RolloutMemory) -> None:
        self.model, self.memory = model, memory
        self.passes = 0

    def sample(self, recipe: Recipe, noise: Tensor, sigmas: Tensor, text: Tensor) -> Tensor:
        def predict(x: Tensor, sigma: Tensor, told: Told = NOTHING) -> Tensor:
            self.passes += 1
            frames, height, width = x.shape[2:]
            rotation = wan_rotation(range(frames), height // PATCH, width // PATCH, self.model.head_dim)

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return self.memory.attend(layer, q, k, v, rotation)[0]

            beside = {} if told is NOTHING else {"timesteps": told.timesteps, "concat": told.concat}
            return self.model.clean(x, float(sigma.reshape(-1)[0]), text, attend, **beside)

        return recipe(predict, noise.to(self.model.dtype), sigmas)


def wan_rotation(times: Sequence[float], rows: int, columns: int, head_dim: int) -> Tensor:
    """What the host gives to a block: float32 (1, tokens, 1, pairs, 2, 2)."""
    axis = 2 * (head_dim // 6)
    time = torch.tensor(times, dtype=torch.float64).view(-1, 1, 1, 1) * _speeds(head_dim - 2 * axis)
    row = torch.arange(rows, dtype=torch.float64).view(1, -1, 1, 1) * _speeds(axis)
    column = torch.arange(columns, dtype=torch.float64).view(1, 1, -1, 1) * _speeds(axis)
    shape = (len(times), rows, columns, -1)
    angle = torch.cat([time.expand(shape), row.expand(shape), column.expand(shape)], dim=-1).flatten(0, 2)
    matrix = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).unflatten(-1, (2, 2))
    return matrix[None, :, None].float()


def _speeds(dim: int) -> Tensor:
    return THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
