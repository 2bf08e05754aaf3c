"""The host's own AR sampler, and its stock sampling, to compare with."""

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

LATENT_HEIGHT, LATENT_WIDTH = 6, 8
WIDTH, HEIGHT = 8 * LATENT_WIDTH, 8 * LATENT_HEIGHT


def native_video(model: object, frames: int, chunk_frames: int, seed: int, text: list) -> Tensor:
    """What SamplerARVideo makes in four steps."""
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
    return _sample(
        model, frames, seed, text, sigmas, comfy.samplers.ksampler("ar_video", {"num_frame_per_block": chunk_frames})
    )


def euler_video(model: object, frames: int, seed: int, text: list) -> Tensor:
    """What the stock euler sampler makes of all frames at once."""
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 3)
    return _sample(model, frames, seed, text, sigmas, comfy.samplers.ksampler("euler"))


def _sample(model: object, frames: int, seed: int, text: list, sigmas: Tensor, sampler: object) -> Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": text})
    empty = torch.zeros(1, 16, frames, LATENT_HEIGHT, LATENT_WIDTH)
    noise = comfy.sample.prepare_noise(empty, seed)
    with torch.inference_mode():
        return guider.sample(noise, empty, sampler, sigmas, disable_pbar=True, seed=seed)
