"""Training learns, goes on where it stopped, and ends in a file that Load AR Model takes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from headforcing_core.checkpoint.wan_weights import unwrap
from testbed.batches import Batch, make_batch
from testbed.export import export
from testbed.network import CausalWan, Shape
from testbed.text_encoder import Texts
from testbed.train import losses, optimizers, own_history, training_step
from testbed.training_state import TrainingState, average_weights

SMALL = Shape(width=128, layers=2, feed_forward=128)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(torch.randn(1296, 17, 64, generator=torch.Generator().manual_seed(0)))


def batch_of(step: int, texts: Texts, chunk_frames: int = 3) -> Batch:
    return make_batch(0, step, 1, chunk_frames, texts)


def fresh(seed: int = 0) -> tuple[TrainingState, CausalWan]:
    torch.manual_seed(seed)
    network = CausalWan(SMALL)
    return TrainingState(network, optimizers(network, 4e-3)), network


def learn(state: TrainingState, network: CausalWan, batches: list[Batch]) -> list[float]:
    return [training_step(state, network, batch, 1.0, own_level=0.0).mean().item() for batch in batches]


def test_the_loss_on_one_batch_falls(texts: Texts) -> None:
    state, network = fresh()
    by_step = learn(state, network, [batch_of(0, texts)] * 12)
    assert by_step[-1] < 0.85 * by_step[0]


def test_the_same_step_gives_the_same_batch_and_another_step_another(texts: Texts) -> None:
    first, again, other = batch_of(4, texts), batch_of(4, texts), batch_of(5, texts)
    assert torch.equal(first.noisy, again.noisy) and torch.equal(first.texts, again.texts)
    assert not torch.equal(first.truth, other.truth)


def test_noise_levels_of_chunks_are_mostly_those_of_the_sampler(texts: Texts) -> None:
    sigmas = torch.cat([batch_of(step, texts, 1).sigmas for step in range(4)]).flatten()
    exact = (sigmas[:, None] - torch.tensor([1.0, 0.9375, 0.8333333134651184, 0.625])).abs().min(dim=1).values < 1e-6
    assert 0.6 < exact.float().mean() < 0.95


def test_resumed_training_equals_training_in_one_go(texts: Texts, tmp_path: Path) -> None:
    batches = [batch_of(step, texts) for step in range(3)]
    whole, network = fresh()
    learn(whole, network, batches)
    begun, network = fresh()
    learn(begun, network, batches[:2])
    begun.save(tmp_path / "state.safetensors", "a")
    resumed, network = fresh(seed=1)
    resumed.load(tmp_path / "state.safetensors", "a")
    assert resumed.step == 2
    learn(resumed, network, batches[2:])
    ended, expected = network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(ended[name], expected[name]) for name in expected)
    assert all(torch.equal(resumed.average[name], whole.average[name]) for name in expected)


def test_another_kind_of_training_is_not_gone_on_with(tmp_path: Path) -> None:
    state, _ = fresh()
    state.save(tmp_path / "state.safetensors", "a")
    with pytest.raises(ValueError, match="trained with a, and b"):
        state.load(tmp_path / "state.safetensors", "b")


def test_a_network_that_knows_nothing_makes_nothing_of_the_window_and_one_that_knows_all_the_truth(
    texts: Texts,
) -> None:
    _, network = fresh()
    batch = batch_of(0, texts)
    with torch.no_grad():
        # the flow of a new network is 0: then what it makes is what it was given
        given = torch.lerp(batch.truth, batch.noise, 0.625)
        assert torch.allclose(own_history(network, batch, 0.625), given, atol=1e-5)
        error = losses(network, batch, batch.clean)
    assert torch.allclose(error.mean(), (batch.noise - batch.truth).square().mean(), rtol=1e-2)


def test_framewise_windows_have_a_noise_level_a_frame(texts: Texts) -> None:
    batch = batch_of(0, texts, chunk_frames=1)
    assert batch.sigmas.shape == (1, 21) and batch.texts.shape[2] == 21
    drawn = (batch.noisy - batch.sigmas[:, None, :, None, None] * batch.noise).flatten(3).norm(dim=3)
    assert (drawn[:, :, batch.sigmas[0] == 1] < 1e-4).all() and (drawn[:, :, batch.sigmas[0] < 1] > 0.1).any()


def test_the_exported_file_is_a_causal_wan_of_averaged_weights_in_bfloat16(tmp_path: Path) -> None:
    state, _ = fresh()
    state.save(tmp_path / "state.safetensors", "a")
    export(tmp_path / "state.safetensors", tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    weights = unwrap(found, "model.safetensors")
    assert (weights.layers, weights.heads, weights.text_dim) == (2, 1, 64)
    average = average_weights(tmp_path / "state.safetensors")
    assert all(torch.equal(found[name], average[name].to(torch.bfloat16)) for name in average)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"])["transformer"] == {"causal_ar": True, "text_dim": 64}
