"""What the drift report measures is known for videos that are made for it, and nothing of a video is held."""

import json
import math
import weakref
from collections.abc import Iterable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from headforcing_core.drift.meter import LONGEST_SIDE, DriftMeter
from headforcing_core.drift.plot import draw_drift
from headforcing_core.drift.report_json import drift_report
from headforcing_core.drift.result import MEASURES, Drift

FPS = 8
HEIGHT, WIDTH = 24, 32
EXACT = {  # CIE Lab of sRGB colours, D65
    (1.0, 0.0, 0.0): (53.241, 80.092, 67.203),
    (0.0, 1.0, 0.0): (87.735, -86.183, 83.179),
    (0.0, 0.0, 1.0): (32.297, 79.188, -107.860),
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (0.5, 0.5, 0.5): (53.389, 0.0, 0.0),
    (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
}


def measured(pictures: Iterable[Tensor], fps: float = FPS) -> Drift:
    meter = DriftMeter(fps)
    for picture in pictures:
        meter.add(picture)
    return meter.finish()


def flat(*rgb: float) -> Tensor:
    return torch.tensor(rgb).expand(HEIGHT, WIDTH, 3)


def grey(lightness: float) -> Tensor:
    """Of this L, for L above 8."""
    linear = ((lightness + 16) / 116) ** 3
    return flat(*[1.055 * linear ** (1 / 2.4) - 0.055] * 3)


def scene(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bilinear")[0].movedim(0, -1)


def blurred(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture.movedim(-1, 0), 5, 1, 2, count_include_pad=False).movedim(0, -1)


@pytest.mark.parametrize("rgb", EXACT)
def test_colours_have_their_lab_values(rgb: tuple[float, float, float]) -> None:
    drift, (lightness, a, b) = measured([flat(*rgb)] * FPS), EXACT[rgb]
    second = drift.seconds[0]
    assert (second.lightness, second.a, second.b) == pytest.approx((lightness, a, b), abs=0.05)
    assert second.saturation == pytest.approx(math.hypot(a, b), abs=0.05)
    assert (second.contrast, second.sharpness) == pytest.approx((0, 0), abs=1e-4)


def test_a_video_that_brightens_evenly_drifts_by_its_slope() -> None:
    per_second = 2.5
    drift = measured(grey(20 + per_second * number / FPS) for number in range(10 * FPS))
    assert drift.trend_per_minute("lightness") == pytest.approx(60 * per_second, rel=1e-3)
    assert drift.values("drift") == pytest.approx([abs(second - 0.5) * per_second for second in range(10)], abs=0.01)
    assert drift.most_drifted == 9


def test_a_part_of_a_second_stands_where_its_pictures_are() -> None:
    drift = measured(grey(20 + number) for number in range(4 * FPS + 2))
    assert [second.pictures for second in drift.seconds] == [FPS] * 4 + [2]
    assert drift.trend_per_minute("lightness") == pytest.approx(60 * FPS, rel=1e-3)


def test_a_still_video_does_not_change() -> None:
    drift = measured([scene(0)] * (4 * FPS))
    for measure in ("motion", "drift"):
        assert drift.values(measure) == pytest.approx([0] * 4, abs=1e-4)
    assert drift.values("similarity_to_first") == pytest.approx([1] * 4, abs=1e-4)
    assert drift.values("similarity_to_previous")[1:] == pytest.approx([1] * 3, abs=1e-4)
    assert drift.jump.difference == 0
    assert all(drift.trend_per_minute(measure) == pytest.approx(0, abs=1e-2) for measure in MEASURES)


def test_similarity_to_the_first_falls_with_a_change_that_similarity_to_the_one_before_forgets() -> None:
    drift = measured(scene(int(number >= 2 * FPS)) for number in range(4 * FPS))
    first, previous = drift.values("similarity_to_first"), drift.values("similarity_to_previous")
    assert (first[1], previous[1], previous[3]) == pytest.approx((1, 1, 1), abs=1e-4)
    assert first[2] == pytest.approx(previous[2]) and first[3] == pytest.approx(first[2], abs=1e-4)
    assert first[2] is not None and first[2] < 0.5
    assert previous[0] is None


def test_a_blur_lowers_sharpness_and_contrast_only() -> None:
    sharp = torch.rand(HEIGHT, WIDTH, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 3)
    before, after = measured([*[sharp] * FPS, *[blurred(sharp)] * FPS]).seconds
    assert after.sharpness < 0.1 * before.sharpness
    assert after.contrast < before.contrast
    assert (after.saturation, before.saturation) == pytest.approx((0, 0), abs=0.01)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    board = (torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)) % 2
    picture = board[..., None].expand(-1, -1, 3).float()
    inner = 100 * 8 / 16  # at a white point: 4 white and 4 black neighbours, so 4 - 8 in units of L / 16
    assert measured([picture] * FPS).seconds[0].sharpness == pytest.approx((inner / 2) ** 2, rel=0.1)


def test_a_shift_of_hue_moves_a_and_b_alone() -> None:
    red, blue = flat(0.75, 0.45, 0.45), flat(0.45, 0.5, 0.85)
    one, other = measured([*[red] * FPS, *[blue] * FPS]).seconds
    assert one.a > 20 > other.a and one.b > 5 > -20 > other.b
    assert abs(one.lightness - other.lightness) < 3


def test_contrast_is_the_standard_deviation_of_lightness() -> None:
    halves = torch.cat([grey(30)[:, : WIDTH // 2], grey(50)[:, : WIDTH // 2]], dim=1)
    assert measured([halves] * FPS).seconds[0].contrast == pytest.approx(10, abs=0.01)


def test_motion_is_the_mean_difference_in_percent_also_across_seconds() -> None:
    drift = measured(flat(*[0.25 + 0.01 * (number % 2)] * 3) for number in range(2 * FPS))
    assert drift.values("motion") == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize("cut", [3, 2 * FPS, 3 * FPS - 1])
def test_a_cut_is_the_largest_jump_in_its_second(cut: int) -> None:
    noise = torch.Generator().manual_seed(1)
    pictures = (
        scene(int(number >= cut)) + 0.02 * torch.randn(HEIGHT, WIDTH, 3, generator=noise) for number in range(4 * FPS)
    )
    drift = measured(pictures)
    motion = drift.values("motion")
    assert drift.jump.at_seconds == cut / FPS
    assert motion.index(max(motion, key=lambda value: value or 0)) == cut // FPS
    assert drift.jump.difference > 4 * min(value or 0 for value in motion)


@pytest.mark.parametrize("fps", [1.0, 1.5, 23.976, 30000 / 1001])
def test_a_second_holds_the_pictures_that_begin_in_it(fps: float) -> None:
    pictures = int(20.4 * fps)
    drift = measured([flat(0.1, 0.2, 0.3)] * pictures, fps)
    held = [0] * len(drift.seconds)
    for number in range(pictures):
        if int(number / fps) < len(held):
            held[int(number / fps)] += 1
    assert [second.pictures for second in drift.seconds] == held
    assert all(second.second <= second.middle_seconds < second.second + 1 for second in drift.seconds)


def test_a_last_picture_that_stands_alone_is_left_out_and_the_report_says_so() -> None:
    drift = measured([*[flat(0, 0, 0)] * (2 * FPS), flat(1, 1, 1)])
    assert len(drift.seconds) == 2 and drift.jump.difference == 0
    assert any("stands alone" in note for note in json.loads(drift_report(drift))["notes"])


def test_at_one_picture_a_second_each_counts() -> None:
    drift = measured([flat(0, 0, 0), flat(0, 0, 0), flat(0.5, 0.5, 0.5)], 1)
    assert drift.values("motion") == [None, 0, pytest.approx(50)]
    assert json.loads(drift_report(drift))["notes"] == []


def test_a_large_picture_is_measured_smaller_and_the_report_says_so() -> None:
    small, large = scene(0, 128, 256), F.interpolate(scene(0, 128, 256).movedim(-1, 0)[None], scale_factor=8.0)
    reduced = measured([large[0].movedim(0, -1)] * 2)
    assert (reduced.size, reduced.measured_size) == ((2048, 1024), (LONGEST_SIDE, 256))
    one, other = measured([small] * 2).seconds[0], reduced.seconds[0]
    assert (one.lightness, one.a, one.b, one.contrast) == pytest.approx(
        (other.lightness, other.a, other.b, other.contrast), abs=0.1
    )
    assert "2048 x 1024, were measured at 512 x 256" in json.loads(drift_report(reduced))["notes"][0]


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (2000, 3)])
def test_pictures_of_any_size_are_measured(size: tuple[int, int]) -> None:
    drift = measured([torch.rand(*size, 4)] * FPS)
    assert all(math.isfinite(value) for measure in MEASURES for value in drift.values(measure) if value is not None)
    assert drift.values("motion") == [0]


def test_a_video_whose_size_changes_is_measured_at_the_first() -> None:
    assert measured([grey(40), grey(40)[:12, :12]]).measured_size == (WIDTH, HEIGHT)


def test_two_pictures_are_held_at_most_whatever_the_length() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def pictures() -> Iterator[Tensor]:
        for number in range(20 * FPS):
            picture = scene(number)
            alive.append(weakref.ref(picture))
            yield picture
            del picture
            assert sum(each() is not None for each in alive) <= 2

    assert len(measured(pictures()).seconds) == 20


def test_half_precision_and_values_beyond_the_range_are_read() -> None:
    drift = measured([torch.full((4, 4, 3), 1.5, dtype=torch.float16)] * 2)
    assert drift.seconds[0].lightness == pytest.approx(100, abs=0.05)


def test_the_report_has_every_measure_with_what_it_is() -> None:
    drift = measured(scene(int(number >= 2 * FPS)) for number in range(4 * FPS))
    report = json.loads(drift_report(drift))
    assert report["format"] == "headforcing.drift/1"
    assert list(report) == ["format", "notes", "settings", "measures", "summary", "seconds"]
    assert set(report["measures"]) == set(report["summary"]["trend_per_minute"]) == set(MEASURES)
    for number, second in enumerate(report["seconds"]):
        assert set(second) == {"second", "middle_seconds", "pictures", *MEASURES}
        assert second["second"] == number
        assert second["drift"] == pytest.approx(drift.drifts[number], abs=1e-4)
    summary = report["summary"]
    assert summary["largest_drift"] == {"second": drift.most_drifted, "drift": round(max(drift.drifts), 4)}
    assert (summary["largest_jump"]["second"], summary["largest_jump"]["at_seconds"]) == (2, 2.0)


def test_a_video_of_one_second_has_no_trend() -> None:
    report = json.loads(drift_report(measured([grey(50)] * FPS)))
    assert set(report["summary"]["trend_per_minute"].values()) == {None}


@pytest.mark.parametrize("seconds", [2, 3, 200])
def test_the_plot_has_one_size_and_its_strip_the_colours(seconds: int) -> None:
    colours = [flat(0.8, 0.4, 0.2), flat(0.2, 0.4, 0.8)]
    picture = draw_drift(measured((colours[number >= seconds // 2] for number in range(seconds)), 1))
    assert picture.size == (1180, 1022)
    assert picture.getpixel((80, 80)) == pytest.approx((204, 102, 51), abs=1)
    assert picture.getpixel((1140, 80)) == pytest.approx((51, 102, 204), abs=1)


def test_a_video_of_one_second_and_one_that_is_still_are_drawn() -> None:
    for seconds in (1, 2):
        assert draw_drift(measured([flat(0, 0, 0)] * (seconds * FPS))).size == (1180, 1022)


@pytest.mark.parametrize("fps", [0.0, 0.5, -8.0, 1000.0, math.nan, math.inf])
def test_a_rate_out_of_range_is_refused(fps: float) -> None:
    with pytest.raises(ValueError, match=r"fps is .* needs 1 to 240 pictures .* Set fps"):
        DriftMeter(fps)


@pytest.mark.parametrize("count, said", [(0, "0 pictures"), (1, "1 picture")])
def test_fewer_than_two_pictures_are_refused(count: int, said: str) -> None:
    with pytest.raises(ValueError, match=rf"The video has {said}\. .* at least 2\. Connect"):
        measured([grey(50)] * count)


@pytest.mark.parametrize("shape", [(), (4,), (4, 4), (4, 4, 1), (4, 4, 2), (0, 4, 3), (2, 4, 4, 3)])
def test_an_unreadable_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"A picture has shape \(.* must be .* Connect"):
        DriftMeter(FPS).add(torch.zeros(shape))


def test_pictures_of_nan_are_refused_with_their_second() -> None:
    pictures = [*[grey(50)] * (2 * FPS), *[grey(50) * math.nan] * FPS]
    with pytest.raises(ValueError, match="pictures of second 2 hold NaN"):
        measured(pictures)
