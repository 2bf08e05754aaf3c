"""From masses to labels, and labels as CSV."""

from pathlib import Path

import pytest
import torch

from benchmarks.shared.labels_csv import read_labels, write_labels
from headforcing_core.heads.rules import LabelRule, label_heads, parse_layers
from headforcing_core.policy.head_types import Labels


def masses(layers: int = 30, heads: int = 12, seed: int = 0) -> torch.Tensor:
    """Random masses whose sink, middle and current sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.rand(layers, heads, 3, generator=generator)
    parts = parts / parts.sum(dim=-1, keepdim=True)
    return torch.cat((parts, parts[..., 1:2] * 0.5), dim=-1)


def count(labels: Labels) -> dict[str, int]:
    """Heads of each type."""
    flat = [label for row in labels for label in row]
    return {word: flat.count(word) for word in ("local", "anchor", "memory")}


def test_the_papers_rule_gives_54_90_and_216_of_360_heads() -> None:
    assert count(label_heads(LabelRule(), 30, 12, masses())) == {"local": 54, "anchor": 90, "memory": 216}


def test_anchors_have_the_most_sink_mass_and_locals_the_most_current_mass_of_the_rest() -> None:
    values = masses()
    labels = label_heads(LabelRule(), 30, 12, values)
    of = {word: torch.tensor([[cell == word for cell in row] for row in labels]) for word in count(labels)}
    assert values[..., 0][of["anchor"]].min() >= values[..., 0][~of["anchor"]].max()
    assert values[..., 2][of["local"]].min() >= values[..., 2][of["memory"]].max()


def test_ties_are_broken_by_layer_and_head() -> None:
    labels = label_heads(LabelRule(), 2, 4, torch.full((2, 4, 4), 0.25))
    assert labels == (("anchor", "anchor", "local", "local"), ("memory",) * 4)


def test_the_scope_per_layer_gives_every_layer_the_same_counts() -> None:
    labels = label_heads(LabelRule(scope="per_layer"), 30, 12, masses())
    assert {tuple(sorted(row)) for row in labels} == {("anchor",) * 3 + ("local",) * 2 + ("memory",) * 7}


def test_protected_layers_are_all_memory() -> None:
    labels = label_heads(LabelRule(protect_layers=(0, 7)), 30, 12, masses())
    assert {*labels[0], *labels[7]} == {"memory"} and len({*labels[1]}) > 1


def test_random_labels_have_the_papers_counts_and_follow_the_seed() -> None:
    one, again, two = (label_heads(LabelRule("random", seed=seed), 30, 12, None) for seed in (1, 1, 2))
    assert count(one) == {"local": 54, "anchor": 90, "memory": 216} and one == again != two


def test_swap_exchanges_local_and_memory() -> None:
    plain, swapped = (label_heads(LabelRule(rule), 30, 12, masses()) for rule in ("head_forcing", "swap"))
    other = {"local": "memory", "memory": "local", "anchor": "anchor"}
    assert swapped == tuple(tuple(other[label] for label in row) for row in plain)


def test_forcing_kv_calls_a_head_local_at_a_ratio_of_four_fifths() -> None:
    # (current + last) / (middle + current): 0.8 and 0.79
    values = torch.tensor([[[0.0, 0.5, 0.5, 0.3], [0.0, 0.5, 0.5, 0.29]]])
    assert label_heads(LabelRule("forcing_kv"), 1, 2, values) == (("local", "memory"),)


def test_all_memory_needs_no_masses_and_measuring_rules_do() -> None:
    assert count(label_heads(LabelRule("all_memory"), 30, 12, None))["memory"] == 360
    for rule in ("head_forcing", "forcing_kv", "swap"):
        with pytest.raises(ValueError, match="needs measured masses"):
            label_heads(LabelRule(rule), 30, 12, None)


@pytest.mark.parametrize("text, layers", [("", ()), ("3", (3,)), ("0, 5-7", (0, 5, 6, 7)), (" 2 , 2 ", (2,))])
def test_layer_lists_are_read(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["x", "1-", "7-5", "-1", "1;2", "9999"])
def test_other_layer_lists_are_refused_showing_the_piece(text: str) -> None:
    with pytest.raises(ValueError, match=f"holds '{text}'.*Write it like 0, 3, 5-7"):
        parse_layers(text)


def test_a_protected_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="names layer 30. The model has layers 0 to 29"):
        label_heads(LabelRule("random", protect_layers=(30,)), 30, 12, None)


def test_labels_survive_a_csv_file(tmp_path: Path) -> None:
    labels = label_heads(LabelRule(), 30, 12, masses())
    write_labels(labels, tmp_path / "labels.csv")
    assert read_labels(tmp_path / "labels.csv") == labels
    assert (tmp_path / "labels.csv").read_text().count("\n") == 30


@pytest.mark.parametrize(
    "text, message",
    [
        ("local,anchor\nlocal,keeper\n", "row 2 has the word 'keeper'"),
        ("local,anchor\nlocal\n", "row 2 has 1 heads, row 1 has 2"),
        ("", "has no rows"),
    ],
)
def test_a_csv_file_that_is_no_table_of_labels_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "labels.csv")
