"""What becomes of a finished chunk, in order: kept, in the video, and only then the next one (docs/architecture.md)."""

import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch

from tests.host.conftest import Pack

CHUNKS = 4
FULL = "the disk is full"


@pytest.fixture(params=["vae", "apart"])
def any_vae(request: pytest.FixtureRequest):
    """One that decodes in the run's own thread, and one that decodes beside it."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def keeping(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Takes what is to be done before a chunk's file is written, given its number."""
    store = pack.module("headforcing_core.run_store.store")
    write = store.write_file

    def use(act: Callable[[int], None]) -> None:
        def acting(path: Path, data: bytes) -> None:
            if path.suffix == ".safetensors":
                act(int(path.stem.removeprefix("chunk_")))
            write(path, data)

        monkeypatch.setattr(store, "write_file", acting)

    return use


def kept(runs: Path) -> int:
    """Chunks that are in the journal, whose files are there."""
    journal = runs / "film/journal.jsonl"
    lines = len(journal.read_text().splitlines()) if journal.exists() else 0
    assert all((runs / f"film/chunk_{chunk:05d}.safetensors").exists() for chunk in range(lines))
    return lines


def length(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def disk_full(chunk: int) -> Callable[[int], None]:
    def act(number: int) -> None:
        time.sleep(0.05)  # the decoder is done before
        if number == chunk:
            raise OSError(28, "No space left on device")

    return act


def test_what_is_in_the_video_is_on_the_disk_and_the_next_chunk_begins_after_it(
    pack: Pack, runs: Path, film, any_vae, keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a chunk takes to be written."""
    writer, backbone = pack.module("nodes.video.mp4_writer").VideoWriter, pack.module("nodes.host.backbone")
    append, sample = writer.append, backbone.HostBackbone.sample
    seen: list[tuple[str, int]] = []

    def appending(self, pictures: torch.Tensor) -> None:
        seen.append(("video", kept(runs)))
        append(self, pictures)

    def sampling(self, *args: object) -> torch.Tensor:
        seen.append(("pass", kept(runs)))
        return sample(self, *args)

    monkeypatch.setattr(writer, "append", appending)
    monkeypatch.setattr(backbone.HostBackbone, "sample", sampling)
    keeping(lambda chunk: time.sleep(0.05))
    film(vae=any_vae)
    assert [there for what, there in seen if what == "pass"] == [0, 1, 2, 3]
    appended = [there for what, there in seen if what == "video"]
    assert len(appended) == CHUNKS and all(there > chunk for chunk, there in enumerate(appended))


@pytest.mark.parametrize("chunk", [0, 3])
def test_a_chunk_that_cannot_be_kept_ends_the_run_and_is_not_in_the_video(
    runs: Path, film, any_vae, keeping, caplog: pytest.LogCaptureFixture, chunk: int
) -> None:
    keeping(disk_full(chunk))
    with pytest.raises(RuntimeError) as raised:
        film(vae=any_vae)
    message = str(raised.value)
    assert message.startswith(f"Chunk {chunk} of the run 'film' could not be kept: {FULL} (No space left on device; ")
    assert message.endswith(
        f"The finished chunks ({chunk}) are safe: run again with on_existing_run resume to go on from there."
    )
    assert kept(runs) == chunk
    assert (length(runs / "film/video.mp4") == 12 * chunk - 3) if chunk else not (runs / "film/video.mp4").exists()
    assert "The video" not in caplog.text


def test_a_chunk_is_kept_whatever_ends_its_decoding(runs: Path, film, vae, keeping) -> None:
    import comfy.model_management as management

    keeping(lambda chunk: time.sleep(0.2))
    hook = vae.first_stage_model.decoder.conv1.register_forward_pre_hook(
        lambda *_: management.interrupt_current_processing(True)
    )
    try:
        with pytest.raises(management.InterruptProcessingException):
            film(vae=vae)
    finally:
        hook.remove()
    assert kept(runs) == 1


def test_an_error_of_keeping_is_told_though_the_run_is_interrupted(runs: Path, film, vae, keeping) -> None:
    import comfy.model_management as management

    keeping(disk_full(0))
    hook = vae.first_stage_model.decoder.conv1.register_forward_pre_hook(
        lambda *_: management.interrupt_current_processing(True)
    )
    try:
        with pytest.raises(RuntimeError, match="Chunk 0 of the run 'film' could not be kept"):
            film(vae=vae)
    finally:
        hook.remove()
        management.interrupt_current_processing(False)
    assert kept(runs) == 0


def test_without_a_video_a_chunk_is_kept_before_the_next_begins(
    pack: Pack, runs: Path, film, keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = pack.module("nodes.host.backbone").HostBackbone
    sample = backbone.sample
    seen: list[int] = []

    def sampling(self, *args: object) -> torch.Tensor:
        seen.append(kept(runs))
        return sample(self, *args)

    monkeypatch.setattr(backbone, "sample", sampling)
    keeping(lambda chunk: time.sleep(0.05))
    film()
    assert seen == [0, 1, 2, 3] and kept(runs) == CHUNKS
