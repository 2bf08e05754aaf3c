"""Drift Report reads pictures, files and videos in memory alike, a file without holding it."""

import io
import json
import os
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

FPS = 8
HEIGHT, WIDTH = 96, 128
CODEC = 1.0  # what 8 bits and H.264 may change of a value, in its own unit

Report = Callable[..., tuple[Tensor, dict]]


@pytest.fixture
def report(pack) -> Report:
    def run(**inputs: object) -> tuple[Tensor, dict]:
        plot, text = pack.run("HeadForcingDriftReport", **inputs)
        return plot, json.loads(text)

    return run


@pytest.fixture
def saved(pack, tmp_path: Path) -> Callable[[Tensor], str]:
    """Pictures -> the path of an MP4 that the host wrote."""

    def save(pictures: Tensor) -> str:
        path = str(tmp_path / "video.mp4")
        in_memory(pictures).save_to(path)
        return path

    return save


def in_memory(pictures: Tensor, fps: Fraction = Fraction(FPS)):
    from comfy_api.latest import InputImpl, Types

    return InputImpl.VideoFromComponents(Types.VideoComponents(images=pictures, frame_rate=fps))


def from_file(file: object, **trim: float):
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(file, **trim)


def pictures(count: int) -> Tensor:
    """A pattern that moves slowly and becomes redder, (count, HEIGHT, WIDTH, 3)."""
    time = torch.arange(count).reshape(-1, 1, 1, 1) / FPS
    down, across = torch.linspace(0, 1, HEIGHT).reshape(-1, 1, 1), torch.linspace(0, 1, WIDTH).reshape(1, -1, 1)
    wave = 0.5 + 0.25 * torch.sin(9 * (down + across) + 0.5 * time + torch.tensor([0.0, 1.0, 2.0]))
    return (wave + 0.03 * time * torch.tensor([1.0, 0.0, 0.0])).clamp(0, 1)


def assert_alike(one: dict, other: dict, within: float) -> None:
    """The same settings, and in every second the same values but for so much."""
    assert one["settings"] == other["settings"]
    assert len(one["seconds"]) == len(other["seconds"])
    for mine, theirs in zip(one["seconds"], other["seconds"], strict=True):
        assert [key for key in mine if mine[key] is None] == [key for key in theirs if theirs[key] is None]
        assert all(mine[key] == pytest.approx(theirs[key], abs=within) for key in mine if mine[key] is not None)


def test_pictures_give_a_plot_and_a_report(report: Report) -> None:
    plot, text = report(images=pictures(3 * FPS), fps=float(FPS))
    assert plot.dtype == torch.float32 and plot.shape[0] == 1 and plot.shape[3] == 3
    assert 0 <= plot.min() < 0.2 and plot.max() == 1
    assert text["format"] == "headforcing.drift/1"
    assert [second["pictures"] for second in text["seconds"]] == [FPS] * 3
    assert text["settings"]["fps"] == FPS and text["settings"]["size"] == [WIDTH, HEIGHT]
    assert text["summary"]["trend_per_minute"]["a"] > 0 and text["summary"]["largest_drift"]["second"] == 2


def test_a_file_and_a_video_in_memory_give_what_their_pictures_give(report: Report, saved) -> None:
    source = pictures(4 * FPS + 3)
    path = saved(source)
    whole = report(images=source, fps=float(FPS))[1]
    assert report(video=in_memory(source))[1] == whole
    streamed = report(video=from_file(path), fps=2.0)[1]
    assert_alike(streamed, whole, CODEC)
    decoded = from_file(path).get_components().images
    assert_alike(streamed, report(images=decoded, fps=float(FPS))[1], 1e-3)
    assert report(video=from_file(io.BytesIO(Path(path).read_bytes())))[1] == streamed


@pytest.mark.parametrize("start, duration", [(1.0, 2.0), (1.3, 0.0), (-2.0, 0.0), (0.0, 1.5)])
def test_a_trimmed_file_is_measured_where_the_host_would_play_it(report: Report, saved, start, duration) -> None:
    trimmed = from_file(saved(pictures(5 * FPS)), start_time=start, duration=duration)
    streamed, whole = report(video=trimmed)[1], report(images=trimmed.get_components().images, fps=float(FPS))[1]
    assert_alike(streamed, whole, 1e-3)


def test_the_samplers_video_is_measured_while_it_is_unfinished(pack, report: Report, tmp_path: Path) -> None:
    writer = pack.module("nodes.video.mp4_writer").VideoWriter(tmp_path / "video.mp4", Fraction(FPS), {})
    source = pictures(3 * FPS)
    for chunk in source.split([9, 12, 3]):
        writer.append(chunk)
    unfinished = report(video=from_file(str(tmp_path / "video.mp4")))[1]
    writer.close()
    assert_alike(unfinished, report(images=source, fps=float(FPS))[1], CODEC)
    assert report(video=from_file(str(tmp_path / "video.mp4")))[1] == unfinished


def test_a_video_of_another_class_is_read_from_its_stream(report: Report, saved) -> None:
    from comfy_api.latest import Input

    inner = from_file(saved(pictures(2 * FPS)))

    class Wrapped(Input.Video):
        def get_components(self):
            raise AssertionError("the whole video was asked for")

        def save_to(self, *args, **kwargs):
            inner.save_to(*args, **kwargs)

        def as_trimmed(self, *args, **kwargs):
            raise NotImplementedError

    assert report(video=Wrapped())[1] == report(video=inner)[1]


def test_a_long_file_is_not_held(pack, report: Report, saved, monkeypatch) -> None:
    video, seen, most = from_file(saved(pictures(30 * FPS))), [], [0]
    meter = pack.module("headforcing_core.drift.meter").DriftMeter
    add = meter.add

    def counting(self: object, picture: Tensor) -> None:
        seen.append(weakref.ref(picture))
        add(self, picture)
        most.append(sum(each() is not None for each in seen))

    monkeypatch.setattr(type(video), "get_components", lambda self: pytest.fail("the whole video was asked for"))
    monkeypatch.setattr(meter, "add", counting)
    assert len(report(video=video)[1]["seconds"]) == 30
    assert len(seen) == 30 * FPS and max(most) <= 2


def test_an_interrupt_ends_it_and_leaves_no_file_open(report: Report, saved, monkeypatch) -> None:
    import comfy.model_management

    path, calls = saved(pictures(4 * FPS)), []

    def interrupted() -> None:
        calls.append(None)
        if len(calls) == 5:
            raise comfy.model_management.InterruptProcessingException

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", interrupted)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        report(video=from_file(path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_progress_ends_at_the_last_picture(report: Report, saved, monkeypatch) -> None:
    import comfy.utils

    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total)))
    report(video=from_file(saved(pictures(3 * FPS))))
    assert seen[0] == (1, 3 * FPS) and seen[-1] == (3 * FPS, 3 * FPS)


def test_exactly_one_video_must_be_connected(report: Report) -> None:
    with pytest.raises(ValueError, match=r"Neither images nor video is connected\. .* Connect one"):
        report()
    with pytest.raises(ValueError, match=r"Both images and video are connected\. .* Disconnect one"):
        report(images=pictures(2), video=in_memory(pictures(2)))


def test_what_cannot_be_measured_is_refused(report: Report) -> None:
    with pytest.raises(ValueError, match="The video has 1 picture"):
        report(images=pictures(1))
    with pytest.raises(ValueError, match="A picture has shape"):
        report(images=torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match=r"fps is 0\.25"):
        report(video=in_memory(pictures(2), Fraction(1, 4)))


def test_a_file_that_cannot_be_read_is_one_clear_sentence(report: Report, saved, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    data = Path(saved(pictures(3 * FPS))).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    for name in ("text.mp4", "missing.mp4", "cut.mp4"):
        with pytest.raises(RuntimeError, match=r"The video cannot be read: .* missing, damaged or cut off"):
            report(video=from_file(str(tmp_path / name)))


def test_a_file_without_pictures_is_refused(report: Report, tmp_path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(ValueError, match="no pictures, only sound"):
        report(video=from_file(str(tmp_path / "sound.mp4")))
