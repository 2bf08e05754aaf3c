"""A VAE on another device than the model decodes there while the next chunk is made, to the same bits."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.host.conftest import Pack, elsewhere

CHUNKS, PICTURES = 4, 43
SENTENCE = "The video was decoded on cpu:0 while cpu made the next chunk."
LIMIT = 20  # seconds; none is waited for where all is right


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes(pack) -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def whole(film) -> Tensor:
    """The latent of the same film when it is not kept, and no video of it is made."""
    return film(run_name="")[0]


@pytest.fixture
def written(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The pictures of each piece of a video."""
    pieces: list[Tensor] = []
    writer = pack.module("nodes.video.mp4_writer").VideoWriter
    original = writer.append

    def append(self, pictures: Tensor) -> None:
        original(self, pictures)
        pieces.append(pictures)

    monkeypatch.setattr(writer, "append", append)
    return pieces


@pytest.fixture
def shown(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The pictures of each preview."""
    import comfy.cli_args
    from latent_preview import LatentPreviewMethod

    pieces: list[list[bytes]] = []
    book = pack.module("nodes.status.preview").Flipbook
    monkeypatch.setattr(book, "turn_to", lambda self, turned, seconds: pieces.append([p.tobytes() for p in turned]))
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.Auto)
    return pieces


@contextmanager
def before_decode(vae, call: int, act: Callable[[], object]) -> Iterator[None]:
    """Does something when the decoder is at its so-manieth call, from 1 on: chunk 0 takes two, others take two."""
    calls: list[int] = []

    def hook(*_: object) -> None:
        calls.append(1)
        if len(calls) == call:
            act()

    handle = vae.first_stage_model.decoder.conv1.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    assert len(calls) >= call


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def length(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.parametrize("device", ["default", "gpu:0", "gpu:1", "cpu"])
def test_where_the_host_selects_no_other_device_nothing_changes(pack: Pack, model, vae, device: str) -> None:
    from comfy_extras.nodes_multigpu import SelectVAEDeviceNode

    (selected,) = SelectVAEDeviceNode.execute(vae, device).args
    assert not pack.module("nodes.host.second_device").is_apart(selected, model)


def test_the_next_chunk_is_made_while_one_is_decoded(
    pack: Pack, runs: Path, film, apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder waits for a step of the next chunk, which would never come if it were waited for."""
    progress, stepped, threads = pack.module("nodes.status.progress").StepProgress, threading.Event(), []
    original = progress.step

    def step(self, chunk: int, number: int, x0: Tensor) -> None:
        original(self, chunk, number, x0)
        if chunk == 1:
            stepped.set()

    def wait() -> None:
        threads.append(threading.current_thread().name)
        assert stepped.wait(LIMIT)

    monkeypatch.setattr(progress, "step", step)
    with before_decode(apart, 1, wait):
        _, report = film(vae=apart)
    assert threads == ["head-forcing-decoding_0"]
    assert SENTENCE in report["notes"] and not [note for note in report["notes"] if "stopped" in note]
    assert length(runs / "film/video.mp4") == PICTURES


def test_pictures_previews_and_latent_are_the_same_to_the_bit(
    runs: Path, film, whole: Tensor, vae, apart, written, shown
) -> None:
    latent, report = film(vae=vae)
    alone = [pieces[:] for pieces in (written, shown)]
    written.clear()
    shown.clear()
    beside, told = film(vae=apart, on_existing_run="replace")
    assert torch.equal(latent, beside) and torch.equal(latent, whole)
    assert len(written) == CHUNKS and all(map(torch.equal, written, alone[0]))
    assert len(shown) == CHUNKS and shown == alone[1]
    assert SENTENCE in told["notes"] and not any("decoded on" in note for note in report["notes"])
    costs = [next(note for note in each["notes"] if "Memory: up to" in note) for each in (report, told)]
    assert ["and the VAE (" in cost for cost in costs] == [True, False]  # it takes nothing of the model's device


def test_previews_come_from_latents_where_the_decoder_has_failed(runs: Path, film, apart, written, shown) -> None:
    with before_decode(apart, 3, raising(RuntimeError("the decoder broke"))):
        film(vae=apart)
    assert len(written) == 1 and [len(pictures) for pictures in shown] == [5, 3, 3]  # of chunk 1, none


def test_an_error_there_is_told_as_ever(runs: Path, film, whole: Tensor, vae, apart) -> None:
    told = []
    for each in (vae, apart):
        with before_decode(each, 5, raising(RuntimeError("the decoder broke"))):
            latent, report = film(vae=each, on_existing_run="replace")
        told += [note for note in report["notes"] if "The video" in note and note != SENTENCE]
        assert length(runs / "film/video.mp4") == 21
    assert told[0] == told[1] and len(told) == 2
    assert told[0].startswith("The video stopped after 21 of 43 pictures: the decoder broke. The latent is whole")
    assert torch.equal(latent, whole)
    film(vae=apart)  # and the next run mends it
    assert length(runs / "film/video.mp4") == PICTURES


def test_out_of_memory_there_goes_on_in_tiles(runs: Path, film, vae, apart, written) -> None:
    size = {"width": 272, "height": 16, "seconds": 1.2}
    for each in (vae, apart):
        with before_decode(each, 3, raising(torch.OutOfMemoryError("test"))):
            film(vae=each, on_existing_run="replace", **size)
    assert [len(pieces) for pieces in written] == [9, 10, 9, 10]
    assert torch.equal(written[0], written[2]) and torch.equal(written[1], written[3])


@pytest.mark.parametrize("call", [1, 4, 8])  # the last one when nothing is sampled any more
def test_an_interrupt_that_the_decoder_hears_ends_the_run(runs: Path, film, whole: Tensor, apart, call: int) -> None:
    import comfy.model_management as management

    def hear() -> None:
        with management.interrupt_processing_mutex:  # so that no other thread does
            management.interrupt_current_processing(True)
            management.throw_exception_if_processing_interrupted()

    chunk = (call - 1) // 2
    with before_decode(apart, call, hear), pytest.raises(management.InterruptProcessingException):
        film(vae=apart)
    management.interrupt_current_processing(False)  # as the host does before the next run
    kept = len(list((runs / "film").glob("chunk_*")))
    assert chunk + 1 <= kept <= chunk + 2  # at most, the next one is just done
    assert not chunk or length(runs / "film/video.mp4") == 12 * chunk - 3
    assert torch.equal(film(vae=apart)[0], whole)
    assert length(runs / "film/video.mp4") == PICTURES


def test_an_error_of_the_run_waits_for_the_decoder(pack: Pack, runs: Path, film, apart, monkeypatch) -> None:
    progress, failed = pack.module("nodes.status.progress").StepProgress, threading.Event()
    original = progress.step

    def step(self, chunk: int, number: int, x0: Tensor) -> None:
        original(self, chunk, number, x0)
        if chunk == 2:
            threading.Timer(0.05, failed.set).start()
            raise RuntimeError("the model broke")

    monkeypatch.setattr(progress, "step", step)
    with before_decode(apart, 3, lambda: failed.wait(LIMIT)), pytest.raises(RuntimeError, match="the model broke"):
        film(vae=apart)
    assert length(runs / "film/video.mp4") == 21  # those of chunk 1, too


def test_a_stream_that_is_closed_has_all_that_it_was_given(pack: Pack, model, apart, tmp_path: Path) -> None:
    growing = pack.module("nodes.video.growing_video")
    stream = growing.VideoStream(apart, tmp_path / "video.mp4", 16.0, 21, {})
    assert stream.decode_beside(model) == [SENTENCE]
    latent = torch.randn(1, 16, 6, 2, 2)
    release = threading.Event()
    with before_decode(apart, 1, lambda: release.wait(LIMIT)):
        assert stream.append(latent[:, :, :3])
        release.set()
        assert stream.append(latent[:, :, 3:])
        stream.close()
    assert stream.failure is None and stream.is_whole and length(tmp_path / "video.mp4") == 21


def test_a_text_encoder_is_loaded_only_when_nothing_is_decoded(
    pack: Pack, runs: Path, film, clip, apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have to make room where the VAE is."""
    progress, live = pack.module("nodes.status.progress").StepProgress, pack.module("nodes.run.live_mailbox")
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="a fox")[0]
    step, encode = progress.step, type(schedule).encode
    busy, seen = [], []

    def typing(self, chunk: int, number: int, x0: Tensor) -> None:
        if (chunk, number) == (0, 0):
            live.mailbox_of("7").put("a river", "recache")
        step(self, chunk, number, x0)

    def slowly() -> None:
        busy.append(1)
        time.sleep(0.1)
        busy.pop()

    def encoding(self, text: str) -> object:
        seen.append(len(busy))
        return encode(self, text)

    monkeypatch.setattr(progress, "step", typing)
    monkeypatch.setattr(type(schedule), "encode", encoding)
    with before_decode(apart, 1, slowly):
        film(vae=apart, schedule=schedule, positive=None, unique_id="7", seconds=1.2)
    assert seen == [0]


@pytest.mark.parametrize("name", ["pytorch_attention", "normal_attention"])
@pytest.mark.parametrize(("which", "size"), [("vae", (2, 2)), ("vae", (3, 5)), ("vae22", (3, 5))])
def test_the_order_of_attention_kernels_is_left_to_the_model(
    pack: Pack, request, monkeypatch: pytest.MonkeyPatch, name: str, which: str, size: tuple[int, int]
) -> None:
    """The host sets it for the whole process around each call of its own."""
    import comfy.ldm.modules.diffusionmodules.model as host
    import comfy.ops

    calls: list[str] = []
    original = comfy.ops.scaled_dot_product_attention

    def counted(*args: object, **kwargs: object) -> Tensor:
        calls.append(threading.current_thread().name)
        return original(*args, **kwargs)

    apart = elsewhere(request.getfixturevalue(which))
    block = apart.first_stage_model.decoder.middle[1]
    monkeypatch.setattr(comfy.ops, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(block, "optimized_attention", getattr(host, name))
    decoder, second = (pack.module(f"nodes.host.{each}") for each in ("chunk_decoder", "second_device"))
    latent = torch.randn(1, apart.latent_channels, 3, *size, generator=torch.Generator().manual_seed(1))
    alone = decoder.ChunkDecoder(apart).decode(latent)
    assert bool(calls) == (name == "pytorch_attention")
    calls.clear()
    with second.decoding_beside(apart):
        beside = decoder.ChunkDecoder(apart).decode(latent)
    assert torch.equal(alone, beside) and not calls
    assert block.optimized_attention is getattr(host, name)
