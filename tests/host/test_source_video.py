"""A video becomes the pictures of a run: its speed, its size, one after the other."""

import gc
import weakref
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

HEIGHT, WIDTH = 16, 32


@pytest.fixture
def source(pack):
    return pack.module("nodes.video.source_video").SourceVideo


@pytest.mark.parametrize("fps", [16.0, 24.0, 23.976])
def test_an_image_is_taken_picture_for_picture(source, fps: float):
    pictures = _pictures(50)
    video = source(pictures, WIDTH, HEIGHT, fps)
    assert torch.equal(torch.stack(list(video.pictures())), pictures)
    assert video.expected_pictures() == 50


@pytest.mark.parametrize(
    ("rate", "fps", "count", "first"),
    [
        (16, 16.0, 20, [0, 1, 2, 3, 4, 5]),
        (24, 24.0, 20, [0, 1, 2, 3, 4, 5]),
        (Fraction(24000, 1001), 24000 / 1001, 20, [0, 1, 2, 3, 4, 5]),
        (8, 16.0, 40, [0, 0, 1, 1, 2, 2]),
        (48, 16.0, 7, [0, 3, 6, 9, 12, 15]),
        (24, 16.0, 14, [0, 1, 3, 4, 6, 7]),
        (30, 16.0, 11, [0, 1, 3, 5, 7, 9]),
        (10, 16.0, 32, [0, 0, 1, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "mp4", "mkv"])
def test_the_newest_picture_at_each_time_of_the_run(
    source, tmp_path: Path, kind: str, rate: Fraction, fps: float, count: int, first: list[int]
):
    """Matroska rounds times to a thousandth of a second, MP4 to less; neither moves a picture."""
    given = (
        _in_memory(20, rate)
        if kind == "memory"
        else _file(tmp_path / f"v.{kind}", [k / Fraction(rate) for k in range(20)])
    )
    video = source(given, WIDTH, HEIGHT, fps)
    found = _numbers(video.pictures())
    assert found[:6] == first and found[-1] >= 18 and found == sorted(found)
    assert len(found) == count and abs(video.expected_pictures() - count) <= 1


def test_pictures_of_uneven_times_are_taken_at_theirs(source, tmp_path: Path):
    times = [Fraction(each, 1000) for each in (0, 100, 110, 120, 500, 600)]
    found = _numbers(source(_file(tmp_path / "v.mkv", times), WIDTH, HEIGHT, 20.0).pictures())
    assert found[:12] == [0, 0, 1, *[3] * 7, 4, 4]


def test_a_file_that_does_not_say_how_long_it_is_is_counted(source):
    """As what a browser records, which writes a file that it cannot go back in."""
    from comfy_api.latest import InputImpl

    class OneWay(BytesIO):
        seekable = seek = None

    written = OneWay()
    _write(written, [Fraction(k, 16) for k in range(30)], "matroska")
    with av.open(BytesIO(written.getvalue())) as container:
        assert container.duration is None
    video = source(InputImpl.VideoFromFile(BytesIO(written.getvalue())), WIDTH, HEIGHT, 16.0)
    assert video.expected_pictures() == 30 == len(_numbers(video.pictures()))


@pytest.mark.parametrize("first", [0, 1, 7, 19, 20, 500])
@pytest.mark.parametrize("kind", ["batch", "file"])
def test_it_begins_at_any_picture_and_the_last_one_is_always_there(source, tmp_path: Path, kind: str, first: int):
    given = _pictures(20) if kind == "batch" else _file(tmp_path / "v.mp4", [Fraction(k, 16) for k in range(20)])
    assert _numbers(source(given, WIDTH, HEIGHT, 16.0).pictures(first)) == list(range(min(first, 19), 20))


def test_a_trimmed_video_begins_where_it_is_cut(source, tmp_path: Path):
    from comfy_api.latest import InputImpl

    path = tmp_path / "v.mp4"
    _file(path, [Fraction(k, 16) for k in range(20)])
    video = source(InputImpl.VideoFromFile(str(path), start_time=0.5, duration=0.5), WIDTH, HEIGHT, 16.0)
    assert _numbers(video.pictures()) == list(range(8, 16)) and video.expected_pictures() == 8


@pytest.mark.parametrize("size", [(64, 48), (40, 80), (16, 16)])
def test_size_and_cut_are_those_of_the_hosts_image_to_video_node(source, size: tuple[int, int]):
    import comfy.utils

    pictures = torch.rand(5, HEIGHT, WIDTH, 4, generator=torch.Generator().manual_seed(1))
    fitted = comfy.utils.common_upscale(pictures.movedim(-1, 1), *size, "bilinear", "center").movedim(1, -1)
    assert torch.equal(torch.stack(list(source(pictures, *size, 16.0).pictures())), fitted[..., :3])


def test_one_picture_is_held_at_a_time_and_a_file_is_closed(source, tmp_path: Path):
    video = source(_file(tmp_path / "v.mp4", [Fraction(k, 16) for k in range(200)]), WIDTH, HEIGHT, 16.0)
    pictures, alive = video.pictures(), []
    for picture in islice(pictures, 100):
        alive.append(weakref.ref(picture))
    del picture
    assert sum(each() is not None for each in alive) <= 1
    pictures.close()
    gc.collect()
    assert not any(each.endswith("v.mp4") for each in _open_files())


def test_a_file_that_is_no_video_is_refused_in_words(source, tmp_path: Path):
    from comfy_api.latest import InputImpl

    path = tmp_path / "v.mp4"
    path.write_bytes(b"no video")
    for ask in (source.expected_pictures, lambda video: next(video.pictures())):
        with pytest.raises(RuntimeError, match=r"cannot be read: .* Make it again"):
            ask(source(InputImpl.VideoFromFile(str(path)), WIDTH, HEIGHT, 16.0))


def test_a_video_goes_into_the_encoder_lazily(pack, source, vae, tmp_path: Path):
    """The first frames are there when few pictures are read; all of them are those of the pictures as a whole."""
    encoder = pack.module("nodes.host.chunk_encoder").ChunkEncoder(vae)
    video = source(_file(tmp_path / "v.mp4", [Fraction(k, 24) for k in range(50)]), WIDTH, HEIGHT, 16.0)
    whole = torch.stack(list(video.pictures()))
    coming = video.pictures()
    with torch.inference_mode():
        found = [encoder.frames(coming, 3) for _ in range(4)]
        filled = torch.cat([whole, whole[-1:].repeat(-(len(whole) - 1) % 4, 1, 1, 1)])
        assert torch.equal(torch.cat(found, dim=2), vae.encode(filled))


def _pictures(count: int) -> Tensor:
    """Grey, each a little lighter: its place is in its colour."""
    return (torch.arange(count) / 255 * (5 if count <= 50 else 1)).reshape(-1, 1, 1, 1).repeat(1, HEIGHT, WIDTH, 3)


def _numbers(pictures: Iterator[Tensor]) -> list[int]:
    found = [float(picture.mean()) * 255 / 5 for picture in pictures]
    assert all(abs(each - round(each)) < 0.3 for each in found), found
    return [round(each) for each in found]


def _in_memory(count: int, rate: Fraction):
    from comfy_api.latest import InputImpl, Types

    return InputImpl.VideoFromComponents(Types.VideoComponents(images=_pictures(count), frame_rate=Fraction(rate)))


def _file(path: Path, times: list[Fraction]):
    """A file whose pictures come at these seconds."""
    from comfy_api.latest import InputImpl

    _write(str(path), times)
    return InputImpl.VideoFromFile(str(path))


def _write(place: str | BytesIO, times: list[Fraction], kind: str | None = None) -> None:
    with av.open(place, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=Fraction(len(times) - 1) / times[-1], options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 24000)
        for seconds, picture in zip(times, _pictures(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray((picture * 255).round().byte().numpy(), format="rgb24")
            frame.pts, frame.time_base = round(seconds * 24000), Fraction(1, 24000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _open_files() -> list[str]:
    return [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
