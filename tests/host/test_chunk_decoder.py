"""A latent that is decoded in pieces gives the pictures that the host makes of the whole."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.host.conftest import load_tiny_vae
from tests.host.real_size import Storages, empty_vae

EXACT = {"rtol": 0.0, "atol": 1e-4}
HEIGHT, WIDTH = 2, 3


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes(pack) -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def decoding(pack) -> ModuleType:
    return pack.module("nodes.host.chunk_decoder")


@pytest.fixture(params=["vae", "tiny_vae"])
def any_vae(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["vae", "tiny_vae", "vae22", "tiny_vae22"])
def each_vae(request: pytest.FixtureRequest):
    """Where it matters how a decoder remembers."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("sizes", [[1] * 8, [3, 3, 3], [3, 3, 2], [2, 2, 2], [5]])
def test_chunks_give_the_pictures_of_the_whole(decoding, any_vae, sizes: list[int]):
    latent = _latent(any_vae, sum(sizes))
    torch.testing.assert_close(_decoded(decoding, any_vae, latent, sizes), any_vae.decode(latent)[0], **EXACT)


def test_any_split_gives_the_pictures_of_the_whole(decoding, any_vae):
    draw = random.Random(0)
    latent = _latent(any_vae, 11)
    whole = any_vae.decode(latent)[0]
    for _ in range(3):
        cuts = [0, *sorted(draw.sample(range(1, 11), draw.randint(1, 9))), 11]
        sizes = [end - start for start, end in zip(cuts, cuts[1:], strict=False)]
        torch.testing.assert_close(_decoded(decoding, any_vae, latent, sizes), whole, **EXACT)


@pytest.mark.parametrize("name", ["vae22", "tiny_vae", "tiny_vae22"])
def test_to_the_last_bit_where_the_host_decodes_one_frame_after_the_other(decoding, request, name: str):
    any_vae = request.getfixturevalue(name)
    latent = _latent(any_vae, 8)
    whole = any_vae.decode(latent)[0]
    for sizes in ([3, 1, 4], [1] * 8):
        assert torch.equal(_decoded(decoding, any_vae, latent, sizes), whole)


def test_pictures_are_final_at_once(decoding, any_vae):
    decoder = decoding.ChunkDecoder(any_vae)
    assert [len(decoder.decode(chunk)) for chunk in _latent(any_vae, 8).split([1, 1, 3, 3], dim=2)] == [1, 4, 12, 12]


def test_half_precision_weights_of_a_tiny_autoencoder(decoding, tmp_path: Path):
    """Stored in float16, which the host takes for a file that scales its latent."""
    tiny = load_tiny_vae(tmp_path / "taew2_1.safetensors", torch.float16)
    latent = _latent(tiny, 5)
    assert tiny.first_stage_model.latent_format is not None
    torch.testing.assert_close(_decoded(decoding, tiny, latent, [1, 3, 1]), tiny.decode(latent)[0], **EXACT)


def test_tiles_give_the_pictures_of_the_hosts_tiled_decode(decoding, each_vae):
    latent = _wide_latent(each_vae)
    whole = _tiled(each_vae, latent)
    assert (whole - each_vae.decode(latent)[0]).abs().max() > EXACT["atol"], "the tiles must show"
    torch.testing.assert_close(_decoded(decoding, each_vae, latent, [1, 3], tiled=True), whole, **EXACT)


@pytest.mark.parametrize(("frames", "size"), [(2, (HEIGHT, WIDTH)), (2, (57, 2)), (1, (33, 35))])
def test_tiles_of_any_picture_size(decoding, vae, frames: int, size: tuple[int, int]):
    latent = _latent(vae, frames, *size)
    whole = _tiled(vae, latent)
    torch.testing.assert_close(_decoded(decoding, vae, latent, [1] * frames, tiled=True), whole, **EXACT)


def test_out_of_memory_at_the_first_chunk_goes_on_in_tiles(decoding, any_vae):
    latent = _wide_latent(any_vae)
    whole = _tiled(any_vae, latent)
    decoder = decoding.ChunkDecoder(any_vae)
    first, second = latent.split(2, dim=2)
    with _failing(any_vae, torch.OutOfMemoryError("test")):
        pictures = [decoder.decode(first)]
    pictures.append(decoder.decode(second))
    torch.testing.assert_close(torch.cat(pictures), whole, **EXACT)


def test_out_of_memory_later_goes_on_without_a_break(decoding, each_vae):
    """The tiles begin with what they would remember, had all been decoded in tiles."""
    latent = _wide_latent(each_vae)
    plain = each_vae.decode(latent)[0]
    tiled = _tiled(each_vae, latent)
    decoder = decoding.ChunkDecoder(each_vae)
    first, second, third = latent.split([2, 1, 1], dim=2)
    pictures = [decoder.decode(first)]
    with _failing(each_vae, torch.OutOfMemoryError("test")):
        pictures.append(decoder.decode(second))
    pictures.append(decoder.decode(third))
    torch.testing.assert_close(torch.cat(pictures), torch.cat([plain[:5], tiled[5:]]), **EXACT)


@pytest.mark.parametrize("call", [1, 2])
def test_out_of_memory_where_room_is_made_goes_on_in_tiles(decoding, any_vae, monkeypatch, call: int):
    import comfy.model_management as management

    latent = _wide_latent(any_vae)
    plain = any_vae.decode(latent)[0]
    tiled = _tiled(any_vae, latent)
    load, asked = management.load_models_gpu, []

    def fail_once(*args: object, **kwargs: float) -> None:
        asked.append(kwargs["memory_required"])
        if len(asked) == call:
            raise torch.OutOfMemoryError("test")
        load(*args, **kwargs)

    decoder = decoding.ChunkDecoder(any_vae)
    monkeypatch.setattr(management, "load_models_gpu", fail_once)
    pictures = torch.cat([decoder.decode(piece) for piece in latent.split(2, dim=2)])
    in_tiles = 0 if call == 1 else 5
    torch.testing.assert_close(pictures, torch.cat([plain[:in_tiles], tiled[in_tiles:]]), **EXACT)
    assert len(asked) == 3 and asked[call] < asked[0]  # once more, for a tile


class Interrupt(BaseException):
    """As the host's."""


@pytest.mark.parametrize("problem", [KeyError, Interrupt])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_chunk_that_was_interrupted_can_be_decoded_again(decoding, any_vae, problem, tiled: bool):
    latent = _latent(any_vae, 6)
    whole = any_vae.decode(latent)[0]
    decoder = decoding.ChunkDecoder(any_vae, tiled)
    first, second, third = latent.split([2, 3, 1], dim=2)
    pictures = [decoder.decode(first)]
    for _ in range(2):
        with _failing(any_vae, problem("test")), pytest.raises(problem):
            decoder.decode(second)
    pictures += [decoder.decode(second), decoder.decode(third)]
    torch.testing.assert_close(torch.cat(pictures), whole, **EXACT)


@pytest.mark.parametrize(
    ("name", "frames"), [("vae", 42), ("vae", 51), ("tiny_vae", 42), ("tiny_vae", 51), ("vae22", 51)]
)
def test_late_in_a_video_too_though_the_latents_of_its_end_alone_are_held(decoding, request, name: str, frames: int):
    any_vae = request.getfixturevalue(name)
    latent = _latent(any_vae, frames + 3, 1, 1)
    whole = any_vae.decode(latent)[0]
    decoder = decoding.ChunkDecoder(any_vae)
    for chunk in latent[:, :, :frames].split(3, dim=2):
        decoder.decode(chunk)
    assert sum(seen.shape[2] for seen in decoder._seen) == 42
    with _failing(any_vae, KeyError("test")), pytest.raises(KeyError):
        decoder.decode(latent[:, :, frames:])
    torch.testing.assert_close(decoder.decode(latent[:, :, frames:]), whole[-12:], **EXACT)


@pytest.mark.parametrize(
    ("version", "height", "width", "held", "most"),
    [("21", 480, 832, 1.89e9, 2.88e9), ("22", 704, 1280, 3.22e9, 7.96e9)],
)
def test_what_a_decode_takes_at_the_real_size(pack, version: str, height: int, width: int, held: float, most: float):
    """In 2 bytes a number; all storages are counted while nothing is computed. Two copies of what is remembered never
    stand side by side."""
    decoders, memories = pack.module("nodes.host.decoders"), pack.module("nodes.host.vae_memory")
    vae = empty_vae(version)
    decoder, side = decoders.decoder_of(vae), vae.spacial_compression_decode()
    latent = torch.empty(1, vae.latent_channels, 3, height // side, width // side, dtype=torch.bfloat16, device="meta")
    counted = Storages()
    with counted:
        memory = decoder.decode(latent, [])[1]
        counted.most = 0
        pictures, memory = decoder.decode(latent, memory)
        remembered = memories.held_bytes(memory)
    assert pictures.shape == (1, 3, 12, height, width)
    assert remembered == pytest.approx(held, rel=0.01)
    assert remembered == pytest.approx(2 * decoder.carries * height * width, rel=0.01)
    assert counted.most == pytest.approx(most, rel=0.01)
    assert counted.most == pytest.approx(2 * decoder.takes * height * width / 1.25, rel=0.03)


@pytest.mark.parametrize(("tiled", "width", "chunks"), [(False, 1, 60), (True, 33, 6)])
def test_memory_does_not_grow_with_length(decoding, any_vae, tiled: bool, width: int, chunks: int):
    decoder = decoding.ChunkDecoder(any_vae, tiled)
    held = []
    for chunk in _latent(any_vae, 2 * chunks, 1, width).split(2, dim=2):
        decoder.decode(chunk)
        held.append(decoder.held_bytes)
    assert len(held) == chunks
    assert held[1] > 0
    assert set(held[1:]) == {held[1]}


def test_the_host_is_asked_only_for_what_is_missing(decoding, each_vae, monkeypatch: pytest.MonkeyPatch):
    """What is remembered is there already; a host that counted it twice would move the model out for it."""
    import comfy.model_management as host

    asked: list[int] = []
    load = host.load_models_gpu

    def counted(models, memory_required=0, **options):
        asked.append(memory_required)
        return load(models, memory_required=memory_required, **options)

    monkeypatch.setattr(host, "load_models_gpu", counted)
    decoder, latent = decoding.ChunkDecoder(each_vae), _latent(each_vae, 3)
    held = []
    for _ in range(3):
        held.append(decoder.held_bytes)
        decoder.decode(latent)
    of_the_hosts = each_vae.memory_used_decode((1, each_vae.latent_channels, 5, HEIGHT, WIDTH), each_vae.vae_dtype)
    assert held[0] == 0 and held[1] > 0
    assert [first - later for first, later in zip(asked[:1] * 3, asked, strict=True)] == held
    assert 1.5 * decoder.held_bytes < asked[0] <= of_the_hosts


def test_what_will_be_held_is_known_before(decoding, each_vae):
    decoder, side = decoding.ChunkDecoder(each_vae), each_vae.spacial_compression_decode()
    decoder.decode(_latent(each_vae, 4))
    assert decoder.held_bytes == pytest.approx(decoder.expected_bytes(side * WIDTH, side * HEIGHT), rel=0.01)


def test_after_close_nothing_is_held_and_the_next_frames_begin_a_video(decoding, any_vae):
    latent = _latent(any_vae, 3)
    decoder = decoding.ChunkDecoder(any_vae)
    decoder.decode(_latent(any_vae, 2) + 1)
    decoder.close()
    assert decoder.held_bytes == 0
    torch.testing.assert_close(decoder.decode(latent), any_vae.decode(latent)[0], **EXACT)


def test_pictures_have_the_hosts_type_and_hold_no_gradient(decoding, any_vae):
    latent = _latent(any_vae, 1)
    whole = any_vae.decode(latent)
    with torch.inference_mode(False):
        pictures = decoding.ChunkDecoder(any_vae).decode(latent)
    assert (pictures.dtype, pictures.device, pictures.shape) == (whole.dtype, whole.device, whole.shape[1:])
    assert pictures.is_inference()


def test_only_decoders_that_are_known_can_stream(decoding, any_vae):
    class OtherDecoder(type(any_vae.first_stage_model)):
        pass

    assert decoding.can_stream(any_vae)
    known = any_vae.first_stage_model
    any_vae.first_stage_model = OtherDecoder.__new__(OtherDecoder)
    try:
        assert not decoding.can_stream(any_vae)
        with pytest.raises(ValueError, match="OtherDecoder"):
            decoding.ChunkDecoder(any_vae)
    finally:
        any_vae.first_stage_model = known


def _latent(vae, frames: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(1, vae.latent_channels, frames, height, width, generator=generator)


def _wide_latent(vae) -> Tensor:
    """Of two tiles across."""
    return _latent(vae, 4, 2, 256 // vae.spacial_compression_decode() + 2)


def _tiled(vae, latent: Tensor) -> Tensor:
    """Pictures as the host decodes in tiles when memory runs out."""
    tile = 256 // vae.spacial_compression_decode()
    return vae.decode_tiled(latent, tile_x=tile, tile_y=tile, overlap=tile // 4)[0]


def _decoded(decoding: ModuleType, vae, latent: Tensor, sizes: list[int], tiled: bool = False) -> Tensor:
    decoder = decoding.ChunkDecoder(vae, tiled)
    return torch.cat([decoder.decode(chunk) for chunk in latent.split(sizes, dim=2)])


@contextmanager
def _failing(vae, error: BaseException) -> Iterator[None]:
    """The last layer of the decoder fails once, when all layers before it have renewed what they remember."""

    def fail(*_: object) -> None:
        hook.remove()
        raise error

    hook = list(vae.first_stage_model.decoder.modules())[-1].register_forward_pre_hook(fail)
    yield
    assert hook.id not in hook.hooks_dict_ref(), "the layer was never reached"
