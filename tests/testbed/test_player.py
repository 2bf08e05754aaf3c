"""The network under the core's rollout does what it was trained to do on whole windows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headforcing_core.families.family import FOUR_STEPS
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.noise import PerChunkNoise
from testbed.network import CausalWan, Shape
from testbed.player import play
from testbed.prompts import Prompt, Scene
from testbed.text_encoder import Texts

LABELS = [["memory"]] * 2
FULL = replace(PRESETS["full"], rope="absolute")
CHUNK_FRAMES, LATENT = 3, (8, 16)


@pytest.fixture(scope="module")
def network() -> CausalWan:
    torch.manual_seed(0)
    network = CausalWan(Shape(width=128, layers=2, feed_forward=128))
    with torch.no_grad():
        network.head.head.weight.normal_(std=0.05)
    return network.eval()


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(torch.randn(1296, 17, 64, generator=torch.Generator().manual_seed(0)))


@torch.no_grad()
def by_window(network: CausalWan, history: Tensor, text: Tensor, seed: int) -> Tensor:
    """The chunk after a history of one chunk, sampled with passes over the whole window."""
    noise = PerChunkNoise(seed, (1, 16, CHUNK_FRAMES, *LATENT))
    x, texts = noise.initial(1), text[None, None, None].expand(1, 2, 2, -1, -1)
    for step, (sigma, following) in enumerate(zip(FOUR_STEPS.sigmas, FOUR_STEPS.sigmas[1:], strict=False)):
        clean = torch.cat([history, torch.zeros_like(x)], dim=2)
        flow = network(clean, torch.cat([history, x], dim=2), torch.tensor([[0.5, sigma]]), texts)[:, :, CHUNK_FRAMES:]
        x = x - sigma * flow
        if following:
            x = (1 - following) * x + following * noise.fresh(1, step, x)
    return x


def test_a_chunk_is_what_passes_over_the_whole_window_make_of_it(network: CausalWan, texts: Texts) -> None:
    history = torch.randn(1, 16, CHUNK_FRAMES, *LATENT, generator=torch.Generator().manual_seed(1))
    (first, chunk) = play(network, texts, (Scene(0, Prompt()),), 3, 2, CHUNK_FRAMES, FULL, LABELS, given=history)
    assert torch.equal(first.latent, history)
    expected = by_window(network, history, texts.tokens[texts.index(Prompt())], 3)
    assert (chunk.latent - expected).abs().max() < 1e-4
    assert (chunk.latent - by_window(network, 0 * history, texts.tokens[0], 3)).abs().max() > 1e-2


def test_a_scene_changes_the_video_from_its_chunk_on(network: CausalWan, texts: Texts) -> None:
    still = (Scene(0, Prompt()),)
    changed = (*still, Scene(6, Prompt(sky="fog")))
    one, other = (play(network, texts, script, 3, 4, CHUNK_FRAMES, FULL, LABELS) for script in (still, changed))
    same = [torch.equal(a.latent, b.latent) for a, b in zip(one, other, strict=True)]
    assert same == [True, True, False, False]


def test_half_precision_stays_near_with_roles_mixed_in_a_layer(texts: Texts) -> None:
    torch.manual_seed(0)
    network = CausalWan(Shape(width=256, layers=2, feed_forward=128))
    with torch.no_grad():
        network.head.head.weight.normal_(std=0.05)
    policy, labels = replace(PRESETS["paper"], compress_from_chunk=1), [["local", "memory"], ["anchor", "memory"]]
    script = (Scene(0, Prompt()),)
    whole, half = (
        play(network, texts, script, 3, 4, CHUNK_FRAMES, policy, labels, half=each)[-1] for each in (False, True)
    )
    assert half.kv_bytes * 2 == whole.kv_bytes
    assert 0 < (half.latent - whole.latent).abs().mean() < 0.1 * whole.latent.abs().mean()
