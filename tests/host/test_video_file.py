"""A video that is written chunk by chunk plays at any time, and in the end is what the host itself would have saved."""

import io
import json
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from headforcing_core.files.safe_files import temporary_of

FPS = Fraction(16)
HEIGHT, WIDTH = 48, 64
METADATA = {"prompt": json.dumps({"1": {"text": "a moof, said the dogcow"}}), "workflow": json.dumps({"nodes": []})}

Make = Callable[[Path], object]


@pytest.fixture
def writer(pack) -> Make:
    return lambda path: pack.module("nodes.video.mp4_writer").VideoWriter(path, FPS, METADATA)


@pytest.fixture
def finished(writer: Make, tmp_path: Path) -> Path:
    """36 pictures in chunks of several sizes."""
    path = tmp_path / "finished.mp4"
    with writer(path) as video:
        for chunk in _pictures(36).split([9, 12, 1, 1, 12, 1]):
            video.append(chunk)
    return path


def test_what_was_appended_is_on_the_disk_at_once(writer: Make, tmp_path: Path):
    path, source = tmp_path / "video.mp4", _pictures(30)
    video, done = writer(path), 0
    for size in (1, 12, 1, 1, 12, 3):
        video.append(source[done : done + size])
        done += size
        pictures = _decoded(path)
        assert len(pictures) == done == video.pixel_frames
        assert (pictures - source[:done]).abs().mean() < 0.02


def test_each_append_begins_with_a_key_frame(writer: Make, tmp_path: Path):
    video = writer(tmp_path / "video.mp4")
    for size in (9, 12, 1, 12):
        video.append(_pictures(size))
    with av.open(tmp_path / "video.mp4") as file:
        assert [number for number, frame in enumerate(file.decode(video=0)) if frame.key_frame] == [0, 9, 21, 22]


def test_times_follow_without_a_gap_before_and_after_close(writer: Make, tmp_path: Path):
    path = tmp_path / "video.mp4"
    video = writer(path)
    for size in (1, 12, 1, 12):
        video.append(_pictures(size))
    for _ in range(2):
        with av.open(path) as file:
            assert [frame.time for frame in file.decode(video=0)] == [number / 16 for number in range(26)]
        video.close()


def test_fragments_are_numbered_upwards(writer: Make, tmp_path: Path):
    path = tmp_path / "video.mp4"
    video = writer(path)
    for size in (9, 1, 12):
        video.append(_pictures(size))
    numbers = [int.from_bytes(part[4:8]) for part in path.read_bytes().split(b"mfhd")[1:]]
    assert len(numbers) == 3
    assert numbers == sorted(set(numbers))


def test_a_process_that_is_killed_between_appends_leaves_all_it_appended(writer: Make, tmp_path: Path):
    path = tmp_path / "video.mp4"
    with _child(writer, path, chunks=2) as (process, appended):
        assert [appended.recv(), appended.recv()] == [12, 24]
        _kill(process)
    assert len(_decoded(path)) == 24


def test_a_process_that_is_killed_at_any_moment_leaves_a_video(writer: Make, tmp_path: Path):
    draw = random.Random(0)
    for attempt in range(6):
        path = tmp_path / f"{attempt}.mp4"
        with _child(writer, path, chunks=1000) as (process, appended):
            said = appended.recv()
            time.sleep(draw.uniform(0.0, 0.1))
            _kill(process)
            while appended.poll():
                said = appended.recv()
        assert said <= len(_decoded(path)) <= said + 12


def test_a_file_that_was_cut_anywhere_plays_what_was_whole(writer: Make, tmp_path: Path):
    path, ends, draw = tmp_path / "video.mp4", [], random.Random(0)
    video = writer(path)
    for _ in range(4):
        video.append(_pictures(5))
        ends.append(path.stat().st_size)
    data = path.read_bytes()
    for size in (*ends, *(draw.randrange(ends[0], ends[-1]) for _ in range(20))):
        path.write_bytes(data[:size])
        whole = 5 * sum(end <= size for end in ends)
        assert whole <= len(_decoded(path)) < whole + 5


def test_the_host_reads_the_finished_file(finished: Path):
    from comfy_api.latest import InputImpl

    video = InputImpl.VideoFromFile(str(finished))
    components = video.get_components()
    assert components.images.shape == (36, HEIGHT, WIDTH, 3)
    assert (components.images - _pictures(36)).abs().mean() < 0.02
    assert (video.get_dimensions(), video.get_frame_count(), video.get_duration()) == ((WIDTH, HEIGHT), 36, 2.25)
    assert components.frame_rate == video.get_frame_rate() == FPS
    assert {key: components.metadata[key] for key in METADATA} == METADATA


@pytest.mark.parametrize("crf", [None, 30.0])
def test_the_host_saves_the_finished_file_again(finished: Path, tmp_path: Path, crf: float | None):
    """Without a quality it copies what is there, with one it encodes anew."""
    from comfy_api.latest import InputImpl

    again = tmp_path / "again.mp4"
    InputImpl.VideoFromFile(str(finished)).save_to(str(again), crf=crf)
    saved = InputImpl.VideoFromFile(str(again))
    assert (saved.get_frame_count(), saved.get_duration()) == (36, 2.25)
    assert (saved.get_components().images - _pictures(36)).abs().mean() < 0.03
    assert {key: _metadata(again)[key] for key in METADATA} == METADATA


def test_pictures_are_as_good_as_in_the_hosts_own_video(finished: Path, tmp_path: Path):
    from comfy_api.latest import InputImpl, Types

    source, theirs = _pictures(36), tmp_path / "theirs.mp4"
    components = Types.VideoComponents(images=source, frame_rate=FPS)
    InputImpl.VideoFromComponents(components).save_to(str(theirs))
    our_error, their_error = ((_decoded(path) - source).abs().mean() for path in (finished, theirs))
    assert our_error < 1.2 * their_error
    assert _stream(finished) == _stream(theirs)


def test_the_workflow_is_found_before_and_after_close_as_in_the_hosts_own_video(writer: Make, tmp_path: Path):
    from comfy_api.latest import InputImpl, Types

    path, theirs = tmp_path / "video.mp4", tmp_path / "theirs.mp4"
    components = Types.VideoComponents(images=_pictures(2), frame_rate=FPS)
    values = {key: json.loads(value) for key, value in METADATA.items()}
    InputImpl.VideoFromComponents(components).save_to(str(theirs), metadata=values)
    video = writer(path)
    video.append(_pictures(2))
    for _ in range(2):
        assert {key: _metadata(path)[key] for key in METADATA} == {key: _metadata(theirs)[key] for key in METADATA}
        video.close()


def test_the_finished_file_is_an_ordinary_mp4_that_begins_with_its_header(writer: Make, tmp_path: Path):
    path = tmp_path / "video.mp4"
    video = writer(path)
    video.append(_pictures(3))
    assert _boxes(path) == ["ftyp", "moov", "moof", "mdat"]
    video.close()
    assert [box for box in _boxes(path) if box != "free"] == ["ftyp", "moov", "mdat"]


@pytest.mark.parametrize("fps", [23.976, 16.5, 1.0, 120.0])
def test_any_frame_rate(pack, tmp_path: Path, fps: float):
    path = tmp_path / "video.mp4"
    with pack.module("nodes.video.mp4_writer").VideoWriter(path, Fraction(fps), {}) as video:
        for size in (1, 12, 12):
            video.append(_pictures(size))
    with av.open(path) as file:
        stream = file.streams.video[0]
        assert (stream.frames, stream.average_rate) == (25, Fraction(round(fps * 1000), 1000))


def test_close_again_does_nothing(finished: Path, writer: Make, tmp_path: Path):
    video = writer(tmp_path / "video.mp4")
    video.append(_pictures(2))
    video.close()
    before = (tmp_path / "video.mp4").stat()
    video.close()
    assert (tmp_path / "video.mp4").stat() == before
    with pytest.raises(ValueError, match="closed"):
        video.append(_pictures(1))


def test_a_video_of_no_pictures_is_no_file(writer: Make, tmp_path: Path):
    with writer(tmp_path / "video.mp4") as video:
        video.append(_pictures(0))
    assert list(tmp_path.iterdir()) == []


def test_after_an_exception_what_was_appended_plays(writer: Make, tmp_path: Path):
    with pytest.raises(KeyError), writer(tmp_path / "video.mp4") as video:
        video.append(_pictures(7))
        raise KeyError
    assert len(_decoded(tmp_path / "video.mp4")) == 7
    assert "moof" in _boxes(tmp_path / "video.mp4")


def test_full_disk_is_one_clear_sentence_and_leaves_the_video_as_it_was(writer: Make, tmp_path: Path):
    path = tmp_path / "video.mp4"
    video = writer(path)
    video.append(_pictures(5))
    before = path.read_bytes()
    with (
        _room_for(len(before) + 100),
        pytest.raises(RuntimeError, match=r"video.mp4 could not be written: the disk is full .*plays"),
    ):
        video.append(_pictures(12))
    assert path.read_bytes() == before
    video.append(_pictures(12))
    video.close()
    assert len(_decoded(path)) == 17


def test_full_disk_when_finishing_leaves_the_video_as_it_was(writer: Make, tmp_path: Path):
    path = tmp_path / "video.mp4"
    video = writer(path)
    video.append(_pictures(5))
    before = path.read_bytes()
    temporary_of(path).symlink_to("/dev/full")
    with pytest.raises(RuntimeError, match=r"video.mp4 could not be finished: the disk is full .*plays"):
        video.close()
    assert [each.name for each in tmp_path.iterdir()] == ["video.mp4"]
    assert path.read_bytes() == before
    video.close()
    assert "moof" not in _boxes(path)


def test_a_folder_that_is_not_there_is_one_clear_sentence(writer: Make, tmp_path: Path):
    with pytest.raises(RuntimeError, match="could not be written: the disk does not let it"):
        writer(tmp_path / "missing" / "video.mp4").append(_pictures(1))


def test_memory_and_open_files_do_not_grow_with_length(writer: Make, tmp_path: Path):
    video, pictures = writer(tmp_path / "video.mp4"), _pictures(3)
    held = []
    for _ in range(200):
        video.append(pictures)
        held.append((len(os.listdir("/proc/self/fd")), _resident_bytes()))
    assert {files for files, _ in held} == {held[0][0]}
    assert held[-1][1] - held[50][1] < 4e6


@contextmanager
def _child(writer: Make, path: Path, chunks: int) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that appends 12 pictures at a time, says each time how many are in the file, and waits to be killed."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        video = writer(path)
        for _ in range(chunks):
            video.append(pictures)
            sender.send(video.pixel_frames)
        time.sleep(60)

    pictures = _pictures(12)
    process = context.Process(target=work)
    process.start()
    try:
        yield process, receiver
    finally:
        process.kill()
        process.join()


def _kill(process: BaseProcess) -> None:
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """No file can be longer, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _pictures(count: int) -> Tensor:
    """Colours that run across the picture and move on with time, (count, HEIGHT, WIDTH, 3)."""
    time = torch.arange(count).reshape(-1, 1, 1, 1) / 40
    down, across = torch.linspace(0, 1, HEIGHT).reshape(-1, 1, 1), torch.linspace(0, 1, WIDTH).reshape(1, -1, 1)
    colour = torch.tensor([0.0, 0.3, 0.6])
    return 0.5 + 0.4 * torch.sin(3 * (down + across + colour + time))


def _decoded(path: Path) -> Tensor:
    """All pictures that are in a file, (pictures, HEIGHT, WIDTH, 3); what is cut off at its end is passed over."""
    pictures = []
    with av.open(io.BytesIO(path.read_bytes())) as file:
        for packet in file.demux(video=0):
            try:
                pictures += [torch.from_numpy(frame.to_ndarray(format="rgb24")) / 255 for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    return torch.stack(pictures)


def _metadata(path: Path) -> dict[str, str]:
    with av.open(path) as file:
        return dict(file.metadata)


def _stream(path: Path) -> tuple:
    with av.open(path) as file:
        stream = file.streams.video[0]
        return stream.codec.name, stream.profile, stream.pix_fmt, stream.width, stream.height, stream.average_rate


def _boxes(path: Path) -> list[str]:
    data, start, names = path.read_bytes(), 0, []
    while start < len(data):
        names.append(data[start + 4 : start + 8].decode())
        start += int.from_bytes(data[start : start + 4])
    return names


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
