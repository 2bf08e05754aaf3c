"""A long `previous` goes through the decoder a few frames at a time, as every chunk does, and can be stopped there."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning

BEFORE, CHUNKS, MOST = 13, 2, 3  # frames, chunks, frames in a piece
PICTURES = 4 * (BEFORE - 1) + 1 + 19

Make = Callable[..., tuple]


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def previous() -> dict[str, Tensor]:
    return {"samples": torch.randn(1, 16, BEFORE, 2, 2, generator=torch.Generator().manual_seed(3))}


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the run `film`, which is not there yet."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path / "head_forcing" / "film"


@pytest.fixture
def make(pack, model, vae, previous: dict[str, Tensor]) -> Make:
    """Go on with `previous`, kept as `film`; the outputs."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"policy": policy, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.0]), "previous": previous}
    size = {"seconds": 1.2, "width": 16, "height": 16}
    return lambda **inputs: pack.run("HeadForcingSampler", model=model, **given, **size, run_name="film", **inputs)


@pytest.fixture
def decoded(pack, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames of each call of the decoder."""
    calls: list[int] = []
    decoder = pack.module("nodes.host.chunk_decoder").ChunkDecoder
    original = decoder.decode

    def decode(self, latent: Tensor) -> Tensor:
        calls.append(latent.shape[2])
        return original(self, latent)

    monkeypatch.setattr(decoder, "decode", decode)
    return calls


@pytest.fixture
def encoded(pack, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The pictures of each call of the encoder."""
    calls: list[Tensor] = []
    writer = pack.module("nodes.video.mp4_writer").VideoWriter
    original = writer.append

    def append(self, pictures: Tensor) -> None:
        calls.append(pictures)
        original(self, pictures)

    monkeypatch.setattr(writer, "append", append)
    return calls


@pytest.mark.parametrize("was_made", [False, True], ids=["as it is made", "of a run that is whole"])
def test_it_is_decoded_and_encoded_in_pieces_to_the_pictures_of_the_whole(
    film: Path, make: Make, vae, decoded: list[int], encoded: list[Tensor], was_made: bool
) -> None:
    if was_made:
        make()
    latent, video, _, report = make(vae=vae)
    assert max(decoded) <= MOST and sum(decoded) == BEFORE + MOST * CHUNKS == latent["samples"].shape[2]
    assert max(map(len, encoded)) <= 4 * MOST
    with torch.inference_mode():
        whole = vae.decode(latent["samples"])[0, :PICTURES]
    torch.testing.assert_close(torch.cat(encoded), whole, rtol=0.0, atol=1e-4)
    with av.open(str(film / "video.mp4")) as file:
        assert file.streams.video[0].frames == PICTURES == json.loads(report)["settings"]["pixel_frames"]
    assert video.get_stream_source() == str(film / "video.mp4")


@pytest.mark.parametrize("was_made", [False, True], ids=["as it is made", "of a run that is whole"])
def test_it_says_how_far_it_is_and_stops_between_two_pieces(
    pack, film: Path, make: Make, vae, decoded: list[int], monkeypatch: pytest.MonkeyPatch, was_made: bool
) -> None:
    import comfy.model_management as management
    from server import PromptServer

    if was_made:
        make()
    server = PromptServer.__new__(PromptServer)
    server.loop, server.client_id, server.messages = asyncio.new_event_loop(), None, asyncio.Queue()
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    decoder = pack.module("nodes.host.chunk_decoder").ChunkDecoder
    counted = decoder.decode

    def decode(self, latent: Tensor) -> Tensor:
        pictures = counted(self, latent)
        if len(decoded) == 4:
            management.interrupt_current_processing(True)
        return pictures

    monkeypatch.setattr(decoder, "decode", decode)
    with pytest.raises(management.InterruptProcessingException):
        make(vae=vae, unique_id="7")
    assert decoded == [MOST] * 4
    server.loop.run_until_complete(asyncio.sleep(0))
    server.loop.close()
    sent = [server.messages.get_nowait()[1] for _ in range(server.messages.qsize())]
    lines = [data[5:].decode() for data in sent if isinstance(data, bytes)]  # after the node's id
    assert [line for line in lines if line.startswith("decoding")] == [
        f"decoding what is there, {done} of {BEFORE} frames" for done in (3, 6, 9)
    ]
    assert was_made or lines[-1] == f"stopped after 0 of {CHUNKS} chunks"


def test_a_latent_that_is_decoded_when_it_is_taken_can_be_stopped(
    pack, vae, decoded: list[int], previous: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    video = pack.module("nodes.video.latent_video").LatentVideo(previous["samples"], vae, PICTURES - 19, 16.0)
    management.interrupt_current_processing(True)
    with torch.inference_mode():
        with pytest.raises(management.InterruptProcessingException):
            video.get_components()
        assert decoded == [MOST]
        assert len(video.get_components().images) == PICTURES - 19
    assert max(decoded) <= MOST
