"""Whether the core's description of a frame tells the world's places apart."""

import torch

from headforcing_core.rollout.episodes import describe, descriptor_layers
from testbed.likeness import cells, described, middle_keys, places_of, telling
from testbed.model_files import MODEL_FILE, network_of, read_weights


def test_telling_counts_pairs_of_one_place_that_are_more_alike_than_pairs_of_two() -> None:
    axes = torch.eye(2)[:, None, None]  # (frames, layers, cells, head_dim)
    frames, places = axes[[0, 0, 0, 0, 1, 1, 1, 1, 0]], "aaaabbbba"
    assert telling(frames, places) == (1.0, 0.0, 1.0)
    assert telling(frames[[0] * 9], places) == (0.0, 0.0, 0.0)  # equally alike is not more


def test_rows_of_later_layers_tell_places_apart_and_cells_of_earlier_ones_do_not() -> None:
    network = network_of(read_weights(MODEL_FILE))
    keys = middle_keys(network, 0)
    layers, places = network.shape.layers, places_of(0, len(keys[0]))
    share, same, other = telling(described(keys, descriptor_layers(layers), describe), places)
    assert share > 0.99 and other > 2 * same
    earlier = sorted({layers // 3, layers // 2, 2 * layers // 3})
    assert telling(described(keys, earlier, cells), places)[0] < 0.7
