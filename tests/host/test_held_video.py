"""What fails around a video file - somebody holds it open, memory runs out - is a note in the report, never the end of
a run; and nothing that fails there hides what ended one."""

import asyncio
import builtins
import errno
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning

SECONDS, PICTURES = 1.2, 19  # two chunks
SHORTER, FEWER = 0.5, 8  # one
HELD = (errno.EACCES, "Access is denied")  # what Windows says of a file that a player has open

Make = Callable[..., tuple]
Fault = Callable[..., None]


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def latent(pack, model) -> Tensor:
    """What every whole run makes."""
    return sampled(pack, model)[0]["samples"]


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the run `film`, which is not there yet."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path / "head_forcing" / "film"


@pytest.fixture
def make(pack, model, vae) -> Make:
    """Make a small video that is kept as `film`; its outputs."""
    return lambda seconds=SECONDS, **inputs: sampled(pack, model, seconds, **{"vae": vae, "run_name": "film", **inputs})


def sampled(pack, model, seconds: float = SECONDS, **inputs: object) -> tuple:
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    inputs = {"policy": policy, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.0]), **inputs}
    return pack.run("HeadForcingSampler", model=model, seconds=seconds, width=16, height=16, **inputs)


def never_replaced(patch: pytest.MonkeyPatch, film: Path) -> None:
    original = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target) == film / "video.mp4":
            raise PermissionError(*HELD, str(source), None, str(target))
        original(source, target)

    patch.setattr(os, "replace", replace)


def never_read(patch: pytest.MonkeyPatch, film: Path) -> None:
    original = Path.open

    def opened(self: Path, *args: object, **kwargs: object) -> object:
        if self == film / "video.mp4":
            raise PermissionError(*HELD, str(self))
        return original(self, *args, **kwargs)

    patch.setattr(Path, "open", opened)


def never_grown(patch: pytest.MonkeyPatch, film: Path) -> None:
    original = builtins.open

    def opened(file: object, mode: str = "r", *args: object, **kwargs: object) -> object:
        if file == film / "video.mp4" and mode == "ab":
            raise PermissionError(*HELD, str(file))
        return original(file, mode, *args, **kwargs)

    patch.setattr(builtins, "open", opened)


def never_finished(error: Exception) -> Fault:
    """The video cannot be read when it is to become an ordinary one."""

    def fault(patch: pytest.MonkeyPatch, film: Path, name: str = "video.mp4") -> None:
        original = av.open

        def opened(file: object, mode: str = "r", **kwargs: object) -> object:
            if file == film / name and mode == "r":
                raise error
            return original(file, mode, **kwargs)

        patch.setattr(av, "open", opened)

    return fault


def never_encoded(error: Exception, number: int = 2) -> Fault:
    """The encoder of the so-manieth chunk fails."""

    def fault(patch: pytest.MonkeyPatch, film: Path) -> None:
        original, encoded = av.open, []

        def opened(file: object, mode: str = "r", **kwargs: object) -> object:
            if mode == "w" and not isinstance(file, Path):
                encoded.append(file)
                if len(encoded) == number:
                    raise error
            return original(file, mode, **kwargs)

        patch.setattr(av, "open", opened)

    return fault


def never_threaded(patch: pytest.MonkeyPatch, film: Path) -> None:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("head-forcing-video"):
            raise RuntimeError("can't start new thread")
        original(self)

    patch.setattr(threading.Thread, "start", start)


def never_removed(name: str) -> Fault:
    def fault(patch: pytest.MonkeyPatch, film: Path) -> None:
        original = Path.unlink

        def unlink(self: Path, missing_ok: bool = False) -> None:
            if self == film / name:
                raise PermissionError(*HELD, str(self))
            original(self, missing_ok)

        patch.setattr(Path, "unlink", unlink)

    return fault


def first(make: Make, before: str) -> None:
    """What was there before the run that fails: nothing, a shorter one, a whole one without a video, or a whole one."""
    if before:
        make(SHORTER if before == "shorter" else SECONDS, **({"vae": None} if before == "no video" else {}))


def check_mended(film: Path, make: Make, latent: Tensor, failed: str) -> None:
    """The next run has its video in its place, and the one after it has nothing to do."""
    again = make()
    assert torch.equal(again[0]["samples"], latent) and failed not in notes_of(again)
    assert again[1].get_stream_source() == str(film / "video.mp4") and not (film / "video_next.mp4").exists()
    assert len(again[1].get_components().images) == PICTURES
    finished = (film / "video.mp4").read_bytes()
    assert b"moof" not in finished and failed not in (film / "report.json").read_text()
    made = (film / "video.mp4").stat().st_mtime_ns
    assert make()[1].get_stream_source() == str(film / "video.mp4")
    assert (film / "video.mp4").stat().st_mtime_ns == made


def files(film: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in film.iterdir()}


def notes_of(outputs: tuple) -> list[str]:
    return json.loads(outputs[3])["notes"]


@contextmanager
def interrupted(pack, chunk: int, error: Exception | None = None) -> Iterator[None]:
    """An interrupt, as the server does it, in the step of a chunk, or an error there."""
    import comfy.model_management as management

    progress = pack.module("nodes.status.progress").StepProgress
    original = progress.step

    def step(self, number: int, step: int, x0: Tensor) -> None:
        if number == chunk:
            if error is not None:
                raise error
            management.interrupt_current_processing(True)
        original(self, number, step, x0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "step", step)
        with pytest.raises(management.InterruptProcessingException if error is None else type(error)) as raised:
            yield
    assert error is None or raised.value is error


WAS_HELD = "The new video could not take the place of video.mp4 .*Access is denied.*video_next.mp4.*Close the program"
UNREAD = "video.mp4 could not be read .*Access is denied.*Close the program"
UNFINISHED = "The video has all of its 19 pictures and plays, but .*{}"
STOPPED = "The video stopped after {} of 19 pictures: {}. The latent is whole"


@pytest.mark.parametrize(
    ("before", "fault", "note", "lies"),
    [
        pytest.param("shorter", never_replaced, WAS_HELD, "video_next.mp4", id="held while a longer one is made"),
        pytest.param("no video", never_replaced, WAS_HELD, "video_next.mp4", id="held when only a video is made"),
        pytest.param(
            "",
            never_replaced,
            UNFINISHED.format("Access is denied.*close the program"),
            "video.mp4",
            id="held at its end",
        ),
        pytest.param("", never_read, UNREAD, None, id="held against reading at its end"),
        pytest.param("whole", never_read, UNREAD, None, id="held against reading"),
        pytest.param("", never_grown, STOPPED.format(9, ".*Access is denied.*"), None, id="held against writing"),
        pytest.param("", never_finished(MemoryError()), UNFINISHED.format("MemoryError"), "video.mp4", id="no memory"),
        pytest.param(
            "",
            never_finished(av.error.InvalidDataError(1, "Invalid data", "/video.mp4")),
            UNFINISHED.format("Invalid data: video.mp4"),
            "video.mp4",
            id="FFmpeg does not read it",
        ),
        pytest.param("", never_encoded(MemoryError()), STOPPED.format(9, "MemoryError"), None, id="encoder: no memory"),
        pytest.param("", never_encoded(OSError(5, "broken")), STOPPED.format(9, "broken"), None, id="encoder: OSError"),
        pytest.param(
            "shorter", never_encoded(MemoryError()), STOPPED.format(9, "MemoryError"), None, id="and a longer one"
        ),
        pytest.param("", never_threaded, STOPPED.format(0, "can't start new thread"), None, id="no thread"),
    ],
)
def test_what_fails_around_the_video_is_a_note_and_the_next_run_mends_it(
    film: Path,
    make: Make,
    latent: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    fault: Fault,
    note: str,
    lies: str | None,
) -> None:
    first(make, before)
    with monkeypatch.context() as patch:
        fault(patch, film)
        outputs = make()
    assert torch.equal(outputs[0]["samples"], latent) and outputs[2].shape[0] == 1
    told = notes_of(outputs)[-1]
    assert re.search(note, told), told
    source = outputs[1].get_stream_source() if lies else None
    assert source == (str(film / lies) if lies else None)
    assert len(outputs[1].get_components().images) == PICTURES
    check_mended(film, make, latent, told)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "broken")], ids=["MemoryError", "OSError"])
def test_a_decoder_that_fails_does_not_end_the_run(
    film: Path, make: Make, vae, latent: Tensor, error: Exception
) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) > 2:  # the first chunk is decoded in two steps
            raise error

    hook = vae.first_stage_model.decoder.register_forward_pre_hook(fail)
    try:
        outputs = make()
    finally:
        hook.remove()
    told = notes_of(outputs)[-1]
    assert told.startswith(
        f"The video stopped after 9 of 19 pictures: {error or 'MemoryError'}".replace("[Errno 5] ", "")
    )
    assert torch.equal(outputs[0]["samples"], latent) and len(outputs[1].get_components().images) == PICTURES
    check_mended(film, make, latent, told)


def test_a_video_that_cannot_be_begun_is_decoded_from_the_latent(
    film: Path, make: Make, latent: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a shorter run lies in the temp folder, and here a file is in the place of that."""
    import folder_paths

    make()
    before = files(film)
    with monkeypatch.context() as patch:
        (tmp_path / "temp").touch()
        patch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
        outputs = make(SHORTER)
    assert any("The video could not be begun" in note and "File exists: temp" in note for note in notes_of(outputs))
    assert torch.equal(outputs[0]["samples"], latent[:, :, :3])
    assert len(outputs[1].get_components().images) == FEWER
    assert files(film) == before


def test_a_video_decoded_from_the_latent_is_given_though_it_could_not_be_finished(
    pack, vae, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pack.module("nodes.video.latent_video")
    path = module.temporary_video()
    monkeypatch.setattr(module, "temporary_video", lambda: path)
    never_finished(MemoryError())(monkeypatch, path.parent, path.name)
    with torch.inference_mode():
        video = module.LatentVideo(torch.zeros(1, 16, 4, 4, 4), vae, 13, 16.0)
        assert video.get_dimensions() == (32, 32)
    assert b"moof" in path.read_bytes()
    monkeypatch.undo()
    assert (len(video.get_components().images), video.get_duration()) == (13, 13 / 16)


@pytest.mark.parametrize(
    ("before", "fault", "chunk"),
    [
        pytest.param("shorter", never_replaced, 1, id="held"),
        pytest.param("", never_finished(MemoryError()), 1, id="no memory to finish it"),
        pytest.param("", never_encoded(MemoryError(), 1), 1, id="no memory to encode"),
        pytest.param("damaged", lambda patch, film: None, 0, id="before a picture was made"),
    ],
)
@pytest.mark.parametrize("error", [None, RuntimeError("the model failed")], ids=["interrupt", "error"])
def test_what_ended_a_run_is_told_and_not_what_failed_around_its_video(
    pack, film: Path, make: Make, monkeypatch: pytest.MonkeyPatch, before: str, fault: Fault, chunk: int, error
) -> None:
    first(make, before)
    if before == "damaged":
        (film / "chunk_00000.safetensors").write_bytes(b"")
    with monkeypatch.context() as patch:
        fault(patch, film)
        with interrupted(pack, chunk, error):
            make()
    assert make()[1].get_stream_source() == str(film / "video.mp4")


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_page_that_cannot_be_told_neither_ends_a_run_nor_hides_what_ended_it(
    pack, make: Make, latent: Tensor, film: Path, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    from server import PromptServer

    server = PromptServer.__new__(PromptServer)
    server.loop, server.client_id, server.messages = asyncio.new_event_loop(), None, asyncio.Queue()
    server.loop.close()  # as when the server ends
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    if is_interrupted:
        with interrupted(pack, 1):
            make(unique_id="7")
    else:
        assert torch.equal(make(unique_id="7")[0]["samples"], latent)


def test_a_run_is_opened_while_its_next_video_is_held(
    film: Path, make: Make, latent: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(vae=None)
    with monkeypatch.context() as patch:
        never_replaced(patch, film)
        assert make()[1].get_stream_source() == str(film / "video_next.mp4")
    with monkeypatch.context() as patch:
        never_removed("video_next.mp4")(patch, film)
        assert torch.equal(make(vae=None)[0]["samples"], latent)
    check_mended(film, make, latent, "could not")


def test_a_run_whose_video_is_held_is_not_half_replaced(
    film: Path, make: Make, latent: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    before = files(film)
    with monkeypatch.context() as patch:
        never_removed("video.mp4")(patch, film)
        with pytest.raises(
            RuntimeError, match=r"could not be opened.*Access is denied: video.mp4\).*close the program"
        ):
            make(on_existing_run="replace", seed=1)
    assert files(film) == before
    assert not torch.equal(make(on_existing_run="replace", seed=1)[0]["samples"], latent)


def test_a_video_of_fewer_chunks_is_not_taken_for_that_of_a_longer_run(film: Path, make: Make, latent: Tensor) -> None:
    make(SHORTER)
    make(vae=None)
    check_mended(film, make, latent, "could not")


def test_a_whole_run_reads_each_chunk_once_for_latent_and_video(
    pack, film: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(vae=None)
    store, read = pack.module("headforcing_core.run_store.store"), []
    original = store.read_chunk

    def recorded(path: Path, *args: object) -> Tensor:
        read.append(path.name)
        return original(path, *args)

    monkeypatch.setattr(store, "read_chunk", recorded)
    assert len(make()[1].get_components().images) == PICTURES
    assert read == ["chunk_00000.safetensors", "chunk_00001.safetensors"]
