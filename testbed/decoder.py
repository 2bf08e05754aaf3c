"""The picture: a narrow Wan VAE in the host's own class, and what it is trained on."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from headforcing_core.geometry import WAN21

from .latents import Basis
from .prompts import training_script
from .world import HEIGHT, WIDTH, World, first_picture, last_picture

if TYPE_CHECKING:
    from comfy.ldm.wan.vae import WanVAE

DIM = 8
CROP = HEIGHT  # pixels; crops are square
PAIRS_SEEN = (0, 0, 1, 2, 4)  # pairs of frames between the first and the one that is learned from
_MOST_SPOILED = 0.15  # noise on the latent, as a model leaves some


def new_vae() -> "WanVAE":
    """A Wan VAE that passes everything on as it is: residual parts begin at zero."""
    from comfy.ldm.wan.vae import CausalConv3d, ResidualBlock, WanVAE

    vae = WanVAE(
        dim=DIM,
        z_dim=WAN21.channels,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    for part in vae.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
            if isinstance(part, CausalConv3d) and part.kernel_size[0] == 3:
                # spread over time as a picture is: most of the weight on the present
                part.weight.data[:, :, :-1] *= 0.3
            assert part.bias is not None
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Parameter):
            nn.init.ones_(part)
    for name, parameter in vae.named_parameters():
        if name.endswith("gamma"):
            nn.init.ones_(parameter)
        elif name.endswith(("time_conv.weight", "proj.weight")):
            nn.init.zeros_(parameter)
    for part in vae.modules():
        if isinstance(part, ResidualBlock):
            nn.init.zeros_(part.residual[6].weight)  # type: ignore[arg-type]
    for name, part in vae.decoder.named_modules():
        if name.endswith("time_conv"):
            assert isinstance(part, nn.Conv3d)
            channels = part.in_channels
            part.weight.data[:, :, -1, 0, 0] = torch.eye(channels).repeat(2, 1)  # both pictures are the frame
    return vae


def vae_space(latent: Tensor) -> Tensor:
    """From model space to what the host's VAE takes and gives, (batch, 16, frames, height, width)."""
    from comfy.latent_formats import Wan21

    return Wan21().process_out(latent)


def decode(vae: "WanVAE", latent: Tensor, learned_pairs: int) -> Tensor:
    """The last pictures of a latent in VAE space, decoded as the host does: the first frame alone, then pairs. Only the
    last `learned_pairs` carry gradients and are returned; with none, the first frame."""
    from comfy.ldm.wan.vae import count_cache_layers

    memory: list[Tensor | str | None] = [None] * count_cache_layers(vae.decoder)
    pictures: list[Tensor] = []
    pairs = (latent.shape[2] - 1) // 2
    x = vae.conv2(latent)
    for number, frames in enumerate(x.split([1, *pairs * [2]], dim=2)):
        is_learned = number > pairs - learned_pairs or not pairs
        with torch.set_grad_enabled(is_learned and torch.is_grad_enabled()):
            made = vae.decoder(frames if is_learned else frames.detach(), feat_cache=memory, feat_idx=[0])
        if is_learned:
            pictures += made
    return torch.cat(pictures, dim=2)


def decoder_batch(seed: int, basis: Basis, pairs: int) -> tuple[Tensor, Tensor]:
    """A latent in VAE space, (1, 16, 1 + 2 * pairs, 8, 8), and the pictures of its last pair, or of its only frame,
    (1, 3, pictures, 64, 64) of -1 to 1."""
    generator = torch.Generator().manual_seed(seed)
    world = World(seed, training_script(seed, 3))
    first = int(torch.randint(15, (), generator=generator)) if pairs else 0
    frames = range(first, first + 1 + 2 * pairs)
    left = int(torch.randint((WIDTH - CROP) // WAN21.stride + 1, (), generator=generator)) * WAN21.stride

    def pictures(numbers: list[int]) -> Tensor:
        drawn = np.stack([world.picture(number) for number in numbers])
        return torch.from_numpy(drawn[:, :, left : left + CROP])

    latent = basis.latent(pictures([last_picture(frame) for frame in frames]))[None]
    noise = torch.randn(latent.shape, generator=generator)
    latent = torch.lerp(latent, noise, _MOST_SPOILED * torch.rand((), generator=generator).item() ** 2)
    end = last_picture(frames[-1]) + 1
    wanted = pictures(list(range(first_picture(frames[-2]), end)) if pairs else [last_picture(first)])
    return vae_space(latent), wanted.movedim(-1, 0)[None] * 2 - 1
