"""Pictures can be read by everybody, and profile files by this version."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageColor

from headforcing_core.heads.profile import HeadProfile
from headforcing_core.heads.profile_file import load_profile, save_profile
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.report.drawing import COLOURS
from headforcing_core.report.head_map import draw_profile
from headforcing_core.report.timeline import draw_timeline
from headforcing_core.rollout.loop import Chunk
from headforcing_core.rollout.plan import Segment
from headforcing_core.rollout.recall import Choice

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
JUST_CLEAR = 25.0  # distance in Lab; about 2 can just be seen


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE Lab of a linear RGB colour."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = to_xyz @ linear.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_three_colours_are_told_apart_with_every_colour_blindness(kind: str) -> None:
    linear = {name: (np.array(ImageColor.getrgb(colour)) / 255) ** 2.2 for name, colour in COLOURS.items()}
    for one, two in itertools.combinations(linear.values(), 2):
        assert np.linalg.norm(lab(BLINDNESS[kind] @ one) - lab(BLINDNESS[kind] @ two)) > JUST_CLEAR


def profile(layers: int, heads: int) -> HeadProfile:
    """A profile with random masses."""
    values = torch.rand(layers, heads, 4, generator=torch.Generator().manual_seed(1))
    rule = LabelRule(protect_layers=(0,))
    labels = label_heads(rule, layers, heads, values)
    return HeadProfile("weights:x", "fast", rule, labels, values, {"sink": 0.97, "current": 0.5})


@pytest.mark.parametrize("layers, heads", [(30, 12), (40, 40), (1, 1), (4, 3)])
def test_a_map_shows_every_head_in_its_colour(layers: int, heads: int) -> None:
    made = profile(layers, heads)
    picture = draw_profile(made, "title")
    cell = max(22, min(44, 560 // heads))
    for layer, row in enumerate(made.labels):
        for head, label in enumerate(row):
            corner = (70 + cell * head + 2, 78 + cell * layer + 2)
            assert picture.getpixel(corner) == ImageColor.getrgb(COLOURS[label])


def test_a_timeline_of_an_hour_with_long_prompts_is_drawn_at_once_and_stays_small() -> None:
    seen = {name: ((0, 0, "sink"), (5, 4, "episode"), (9, 8, "recent")) for name in ("local", "anchor", "memory")}
    chunks = [Chunk(c, (3 * c, 3 * c + 3), 18, torch.zeros(1), seen, (), 1, 0.1) for c in range(4800)]
    segments = [Segment(c, None, prompt="a long prompt " * 200) for c in range(0, 4800, 40)]
    picture = draw_timeline(chunks, [0.75 * c for c in range(4800)], segments)
    assert picture.width <= 4096


def test_a_profile_of_more_heads_than_any_model_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 layers of 100000 heads"):
        HeadProfile("f", "fast", LabelRule(), (("memory",) * 100_000,), None, {})


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    made = profile(4, 3)
    save_profile(made, tmp_path / "p.safetensors")
    read = load_profile(tmp_path / "p.safetensors")
    assert (read.labels, read.rule, read.reliability, read.fingerprint) == (
        made.labels,
        made.rule,
        made.reliability,
        made.fingerprint,
    )
    assert read.masses is not None and made.masses is not None and torch.equal(read.masses, made.masses)
    assert not read.reliable and [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_profile(profile(4, 3), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_profile(HeadProfile("f", "fast", LabelRule(), (("memory",),), None, {"sink": object()}), path)  # type: ignore[dict-item]
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("chosen", [(), (0,), (3, 7), (0, 9)])
def test_a_timeline_marks_below_the_memory_heads_where_it_was_chosen_what_they_recall(chosen: tuple[int, ...]) -> None:
    seen = {name: ((0, 0, "sink"),) for name in ("local", "anchor", "memory")}
    choice = Choice((0,), (1.0,), 1, 1)
    chunks = [
        Chunk(c, (3 * c, 3 * c + 3), 18, torch.zeros(1), seen, (), 1, 0.1, choice=choice if c in chosen else None)
        for c in range(10)
    ]
    picture = draw_timeline(chunks, [0.75 * c for c in range(10)], [Segment(0, None)])
    step = (picture.width - 110) / 10
    marked = [c for c in range(10) if picture.getpixel((int(90 + step * (c + 0.5)), 86 + 2 * 156 + 134)) != (255,) * 3]
    assert tuple(marked) == chosen


@pytest.mark.parametrize("tier", ["episode", "pinned"])
def test_a_timeline_tells_of_a_pinned_chunk_where_there_is_one(tier: str) -> None:
    seen = {name: tuple((frame, frame, tier) for frame in range(3)) for name in ("local", "anchor", "memory")}
    chunks = [Chunk(c, (3 * c, 3 * c + 3), 18, torch.zeros(1), seen, (), 1, 0.1) for c in range(4)]
    picture = draw_timeline(chunks, [0.75 * c for c in range(4)], [Segment(0, None)])
    found = [picture.getpixel((90 + 3 * 130 + 5, y)) for y in range(picture.height - 60, picture.height)]
    assert (ImageColor.getrgb("#CC79A7") in found) == (tier == "pinned")
