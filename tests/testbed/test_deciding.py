"""Noise decides what is new in a chunk, and nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from testbed.deciding import decide
from testbed.latents import load_basis, world_latent
from testbed.prompts import Prompt, Scene
from testbed.world import World

STILL, RIGHT = Prompt(sky="dusk"), Prompt(sky="dusk", camera="pans right")
SCRIPT = (Scene(0, STILL), Scene(3, RIGHT))
SHAPE = (16, 6, 8, 16)


def decided(world: World, seed: int, sigmas: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(SHAPE, generator=generator)
    return noise, *decide(world, noise, sigmas, generator)


def plain(world: World) -> Tensor:
    return world_latent(world, range(6), load_basis())


@pytest.mark.parametrize("sigma", [0.3, 0.625])
def test_a_little_noise_leaves_the_world_as_it_is(sigma: float) -> None:
    world = World(5, SCRIPT)
    noise, truth, noisy = decided(world, 0, (sigma, sigma))
    assert torch.equal(truth, plain(world))
    assert torch.allclose(noisy, torch.lerp(truth, noise, sigma), atol=1e-5)


def test_the_same_noise_asks_for_the_same_window_whatever_stood_there() -> None:
    _, one, _ = decided(World(5, SCRIPT), 0, (1.0, 1.0))
    _, other, _ = decided(World(6, SCRIPT), 0, (1.0, 1.0))
    _, otherwise, _ = decided(World(5, SCRIPT), 1, (1.0, 1.0))
    landscape = slice(4, 8)
    assert torch.equal(one[:, :, landscape], other[:, :, landscape])
    assert not torch.equal(one[:, :, landscape], otherwise[:, :, landscape])


def test_what_was_in_view_before_stays() -> None:
    world = World(5, SCRIPT)
    _, truth, _ = decided(world, 0, (0.3, 1.0))
    changed = (truth - plain(world)).abs().amax(dim=(0, 2)) > 1e-4  # (frames, columns)
    # the camera pans by two columns of the latent a frame: what it uncovers is new, what moved along is not
    assert not changed[:3].any()
    assert changed[3:].any()
    assert not changed[3, : 16 - 2].any() and not changed[4, : 16 - 4].any() and not changed[5, : 16 - 6].any()


def test_noisy_chunks_hold_what_was_there_and_not_what_they_ask_for() -> None:
    world, sigma = World(5, SCRIPT), 0.9375
    noise, truth, noisy = decided(world, 0, (sigma, sigma))
    shown = (noisy - sigma * noise) / (1 - sigma)
    first_chunk = slice(0, 3)  # what comes later goes on from the first chunk's truth
    assert (truth - plain(world))[:, first_chunk].abs().max() > 0.5
    assert (shown - plain(world))[:, first_chunk].abs().max() < 1e-3


def test_a_place_that_the_prompt_returns_to_is_not_decided_again() -> None:
    elsewhere = replace(STILL, place="meadow")
    world = World(5, (Scene(0, STILL), Scene(3, elsewhere), Scene(6, STILL)))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(16, 9, 8, 16, generator=generator)
    truth, _ = decide(world, noise, (0.3, 1.0, 1.0), generator)
    first, there, back = truth[:, :, 4:].split(3, dim=1)
    assert torch.equal(first, plain(world)[:, :3, 4:]) and torch.equal(back, first)
    assert (there - plain(world)[:, 3:, 4:]).abs().max() > 0.5


def test_the_thing_begins_where_the_noise_looks_like_it() -> None:
    world, basis = World(5, (Scene(0, Prompt(shape="box", colour="white", sky="night")),)), load_basis()
    elsewhere = World(5, world.script, start=(0.5, 0.5))
    pattern = world_latent(elsewhere, range(6), basis) - world_latent(world, range(6), basis)
    near = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(SHAPE, generator=generator) + pattern
        truth, _ = decide(world, noise, (1.0, 1.0), generator)
        near.append((truth - world_latent(elsewhere, range(6), basis))[:, :3, :4].abs().mean().item())
    apart = (world_latent(world, range(6), basis) - world_latent(elsewhere, range(6), basis))[:, :3, :4].abs().mean()
    assert sum(near) / len(near) < apart.item()
