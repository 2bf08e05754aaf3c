"""Episodes by recall: what is looked for, chosen and committed again (docs/method_decisions.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import reference
import reference_recall
import torch
from reference_recall import Choice, newest_alike
from reference_tiers import PRESETS, Past
from tiny_model import CHANNELS, Attend, TinyModel
from torch import Tensor

LABELS = (("local", "anchor", "memory", "memory"), ("memory", "memory", "anchor", "local")) * 2
EVERY_CANDIDATE = 2.0
"A share of the way that leaves nothing out, so that the newest are chosen whatever they look like."

# The reference's own parts

ALIKE = {3: 0.95, 6: 0.70, 9: 0.91, 12: 0.5, 15: 0.85, 18: 0.90}


@pytest.mark.parametrize(
    ("share", "most", "chosen"),
    [
        (0.0, 2, (3,)),  # the best alone
        (0.05, 2, (3,)),  # 0.9275 and more
        (0.1, 2, (3, 9)),  # 0.905 and more
        (0.2, 2, (9, 18)),  # 0.86 and more: 3, 9 and 18, of which the newest
        (0.2, 1, (18,)),
        (0.2, 3, (3, 9, 18)),
        (0.2, 6, (3, 9, 18)),
        (0.3, 2, (15, 18)),  # 0.815 and more
        (0.6, 9, (3, 6, 9, 15, 18)),  # 0.68 and more
        (1.1, 9, (3, 6, 9, 12, 15, 18)),
    ],
)
def test_the_newest_within_the_share_of_the_way_are_chosen(share: float, most: int, chosen: tuple[int, ...]) -> None:
    assert newest_alike(ALIKE, share, most) == chosen


def test_of_nothing_nothing_is_chosen_and_of_equals_the_newest() -> None:
    assert newest_alike({}, 0.2, 2) == ()
    assert newest_alike({3: 0.4}, 0.2, 2) == (3,)
    assert newest_alike({3: 0.4, 6: 0.4, 9: 0.4}, 0.2, 2) == (6, 9)


@pytest.mark.parametrize(
    ("doubtful", "recorded", "chosen"),
    [
        (0.860001, (3, 9), (3, 9)),  # the other side left 12 out
        (0.859999, (9, 12), (9, 12)),  # the other side took 12
        (0.860001, (3, 12), (9, 12)),  # not to be had by rounding
        (0.8601, (3, 9), (9, 12)),  # no rounding is as large
        (0.8599, (9, 12), (3, 9)),
        (0.860001, (), (9, 12)),
    ],
)
def test_a_recorded_choice_counts_where_rounding_decides(
    doubtful: float, recorded: Sequence[int], chosen: tuple[int, ...]
) -> None:
    likeness = {3: 0.95, 6: 0.5, 9: 0.91, 12: doubtful}
    assert newest_alike(likeness, 0.2, 2, recorded) == chosen


@pytest.mark.parametrize(
    ("past", "first", "found"),
    [
        (Past(), 12, [3]),  # 6 to 11 are recent
        (Past(), 9, []),
        (Past(), 14, [3]),  # 8 is recent, so the chunk at 6 is not out of it
        (Past(), 22, [3, 6, 9, 12]),  # 21 is the remainder of a prefix
        (Past(first_recent=14), 22, []),  # a flush at 15
        (Past(first_recent=20), 31, [21, 22]),  # a flush at 21: not the chunk at 18, whose last frame is left
        (Past(first_sink=12, first_recent=12), 31, [15, 18, 21, 22]),  # a cut, whose first chunk was at 12
    ],
)
def test_candidates_lie_between_the_sink_and_the_recent_tier(past: Past, first: int, found: list[int]) -> None:
    lengths = {frame: 3 for frame in range(0, 21, 3)} | {21: 1} | {frame: 3 for frame in range(22, 40, 3)}
    committed = [
        (frame, torch.zeros(1, CHANNELS, min(length, first - frame), 2, 2))
        for frame, length in lengths.items()
        if frame < first
    ]
    assert reference_recall.candidates(PRESETS["recall"], past, committed) == found


def test_a_chunk_is_described_by_the_mean_of_its_frames() -> None:
    keys = torch.randn(3, 7, 5, 4, 24, generator=torch.Generator().manual_seed(1))  # frames, rows, columns, heads
    one = reference_recall.Pass(reference_recall.History([], []), LABELS, {}, range(3), 7, 5)
    one.own_keys = [keys.flatten(0, 2) * (layer + 1) for layer in range(4)]
    bands = [keys[:, top : top + 2].mean(dim=(0, 1, 2)) for top in range(6)]
    found = reference_recall.describe_chunk(one, 3)
    assert found.shape == (2, 6, 24)  # layers 2 and 3 of four
    for layer, heads in enumerate(([2, 3], [0, 1])):
        expected = torch.stack([band[heads].mean(dim=0) for band in bands])
        assert torch.allclose(found[layer], expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(
    ("rope", "places"), [("compact", (15, 16, 17)), ("clamp", (6, 7, 8)), ("tied", (0, 0, 0)), ("absolute", (0, 1, 2))]
)
def test_an_old_chunk_reads_the_sink_alone_as_all_its_history(rope: str, places: tuple[int, ...]) -> None:
    rules = replace(PRESETS["recall"], rope=rope)
    recall = reference_recall.Recall(rules, 3, reference_recall.History([], []), None)
    sink = ((0, 3, "sink"), (1, 4, "sink"), (2, 5, "sink"))
    now = {"local": ((26, 17, "recent"),), "anchor": sink, "memory": (*sink, (21, 12, "recent"))}
    alone = tuple((frame, place, "sink") for frame, place in enumerate(places))
    assert recall.sink_alone(Past(warm=False), now, 12) == {"local": (), "anchor": alone, "memory": alone}
    assert [frame for frame, _, _ in recall.sink_alone(Past(warm=False), now, 1)["anchor"]] == [0]  # not itself


# The reference's choices


def choices(
    changes: Mapping[int, str], chunks: int, share: float = EVERY_CANDIDATE, sigmas: Sequence[float] = (1.0, 0.8, 0.0)
) -> tuple[list[Choice | None], int]:
    """What the reference chose at each chunk of a video that is compressed from chunk 3 on, and all its passes."""
    passes = 0

    class Counted(TinyModel):
        def clean(self, x: Tensor, sigma: float, text: Tensor, attend: Attend) -> Tensor:
            nonlocal passes
            passes += 1
            return super().clean(x, sigma, text, attend)

    model = Counted()
    segments = [reference.Segment(0, model.text(0))]
    segments += [reference.Segment(chunk, model.text(chunk), how) for chunk, how in changes.items()]
    rules = replace(PRESETS["recall"], compress_from_chunk=3, fills=False, recall_share=share)
    draw = reference.per_chunk_noise(5, (1, CHANNELS, 3, 4, 4))
    made = reference.generate(model, rules, LABELS, chunks, 3, sigmas, segments, draw).chunks
    return [chunk.choice for chunk in made], passes


def test_a_chunk_that_is_chosen_twice_is_committed_again_once() -> None:
    made, passes = choices({4: "soft", 5: "soft", 6: "soft", 7: "flush", 11: "soft", 12: "soft"}, 14)
    found = {chunk: (choice.frames, choice.candidates, choice.passes) for chunk, choice in enumerate(made) if choice}
    assert found == {
        3: ((), 0, 0),  # the past is compressed from here on
        4: ((3,), 1, 1),  # nothing to look for
        5: ((3, 6), 2, 2),  # a look, and 6
        6: ((6, 9), 3, 2),  # a look, and 9
        7: ((), 0, 0),
        11: ((21, 24), 2, 3),  # since the flush
        12: ((24, 27), 3, 2),
    }
    assert passes == 14 * 2 + 13 + sum(choice.passes for choice in made if choice)


def test_what_is_chosen_without_a_look_counts_as_the_same() -> None:
    choice = choices({4: "soft"}, 5)[0][4]
    assert choice == Choice((3,), (1.0,), 1, 1, 1.0, 1.0)


def test_a_single_step_is_made_again_where_there_was_something_to_choose() -> None:
    made, passes = choices({4: "soft", 5: "soft"}, 6, sigmas=(1.0, 0.0))
    assert [choice and choice.passes for choice in made] == [None, None, None, 0, 2, 3]
    assert passes == 6 + 5 + 5
