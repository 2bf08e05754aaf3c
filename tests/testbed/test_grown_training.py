"""The grown world's model begins with layers of the old one, learns, and goes on from its own 16-bit file."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from testbed.grown.attention import masked_attention
from testbed.grown.batches import ScriptSource, make_batch
from testbed.grown.start import SHAPE, fitted_words, started_weights
from testbed.grown.train import MODEL, learning_rate, main, own_level
from testbed.grown.words import load_words, vocabulary
from testbed.network import CausalWan, Shape
from testbed.prompts import every_prompt
from testbed.text_encoder import load_texts

CPU = torch.device("cpu")


def test_one_masked_call_attends_as_the_groups_do() -> None:
    torch.manual_seed(0)
    network = CausalWan(Shape(128, 2, 128))
    torch.nn.init.normal_(network.head.head.weight, std=0.1)
    batch, _ = make_batch(ScriptSource(1)[0], CPU)
    given = (batch.clean, batch.noisy, batch.sigmas, batch.texts)
    with torch.no_grad():
        by_group = network(*given)
        network.attend_window = masked_attention
        assert torch.allclose(network(*given), by_group, atol=1e-4) and by_group.std() > 0.1


def test_a_word_that_both_worlds_know_is_read_as_before_and_a_new_one_as_its_place() -> None:
    read = load_words() @ fitted_words().T
    text = every_prompt()[0].text.split()
    known = {word: place for place, word in enumerate(text) if word in vocabulary()}
    tokens = load_texts().tokens
    of_place = tokens[:, text.index("harbour")]
    for word in ("red", "ball", "day"):
        said = torch.stack([tokens[row, known[word]] for row, p in enumerate(every_prompt()) if word in p.text.split()])
        assert torch.allclose(read[vocabulary().index(word)], said.mean(dim=0), atol=0.05)
    harbour = torch.stack([of_place[row] for row, p in enumerate(every_prompt()) if p.place == "harbour"]).mean(dim=0)
    assert all(torch.allclose(read[vocabulary().index(word)], harbour, atol=0.05) for word in ("boats", "quay"))


def test_the_start_is_small_enough_and_knows_something() -> None:
    network = CausalWan(SHAPE)
    network.load_state_dict(started_weights())
    assert sum(each.numel() for each in network.parameters()) < 5_000_000
    batch, _ = make_batch(ScriptSource(2)[10**6], CPU)
    with torch.no_grad():
        error = (network(batch.clean, batch.noisy, batch.sigmas, batch.texts) - batch.flow).square().mean()
    assert error < 0.8 * batch.flow.square().mean()


def test_the_rate_rises_by_steps_and_falls_by_time_and_own_history_comes_late() -> None:
    assert [learning_rate(step, 0.1) for step in (0, 99, 500)] == [0.005, 0.5, 1.0]
    assert [learning_rate(500, passed) for passed in (0.8, 0.9, 1.0, 1.1)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert not any(own_level(step, 0.3, 1.0) for step in range(50))
    assert {own_level(step, 0.5, 1.0) for step in range(50)} == {0.8333333134651184, 0.625}
    assert 20 < sum(own_level(step, 0.5, 0.5) > 0 for step in range(80)) < 60


def test_training_goes_on_from_its_16_bit_file(tmp_path: Path) -> None:
    common = ["--seconds", "100", "--steps", "1", "--batch", "1", "--workers", "0", "--log-every", "1"]
    main([*common, "--folder", str(tmp_path / "a")])
    main([*common, "--folder", str(tmp_path / "b"), "--from", str(tmp_path / "a" / MODEL)])
    with safe_open(tmp_path / "b" / MODEL, "pt") as file:
        assert file.metadata()["step"] == "2"
    first, second = (load_file(tmp_path / name / MODEL) for name in "ab")
    assert first.keys() == second.keys() and all(each.dtype == torch.bfloat16 for each in first.values())
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert [line.split(",")[0] for line in (tmp_path / "b" / "loss.csv").read_text().splitlines()] == ["2"]
