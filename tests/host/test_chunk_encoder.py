"""Pictures that are encoded as they come give the latent that the host makes of the whole video."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.host.real_size import Storages, empty_vae

FRAMES, PICTURES = 7, 25
TILE = 256  # pixels, of the host's fallback


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes(pack) -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def encoding(pack) -> ModuleType:
    return pack.module("nodes.host.chunk_encoder")


@pytest.fixture(params=["vae", "tiny_vae", "vae22", "tiny_vae22"])
def each_vae(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


def test_any_split_gives_the_latent_of_the_whole_to_the_last_bit(encoding, each_vae):
    pictures = _pictures(PICTURES)
    whole = each_vae.encode(pictures)
    for sizes in ([1] * FRAMES, [2, 4, 1], [FRAMES]):
        assert torch.equal(_encoded(encoding, each_vae, pictures, sizes), whole)


def test_the_end_of_a_video_of_any_length_is_that_of_the_whole(encoding, each_vae):
    for frames in (1, 2, 3, 4):
        pictures = _pictures(1 + 4 * (frames - 1))
        assert torch.equal(_encoded(encoding, each_vae, pictures, [2] * 4), each_vae.encode(pictures))


def test_no_picture_is_lost_where_they_do_not_fill_the_last_frame(encoding, each_vae):
    """The small ones the host fills up itself; of Wan's it leaves out what is over."""
    for count in (2, 7, 12):
        pictures, over = _pictures(count), (count - 1) % 4
        missing = 0 if hasattr(each_vae.first_stage_model, "t_downscale") else -over % 4
        filled = torch.cat([pictures, pictures[-1:].repeat(missing, 1, 1, 1)])
        assert torch.equal(_encoded(encoding, each_vae, pictures, [2] * 4), each_vae.encode(filled))


def test_after_the_end_there_are_no_frames(encoding, each_vae):
    encoder, pictures = encoding.ChunkEncoder(each_vae), iter(_pictures(5))
    first = encoder.frames(pictures, 1)
    assert [first.shape[2], *(encoder.frames(pictures, 3).shape[2] for _ in range(3))] == [1, 1, 0, 0]
    assert encoder.frames(pictures, 3).shape[3:] == first.shape[3:]


def test_a_video_without_a_picture_is_refused_in_words(encoding, vae):
    with pytest.raises(ValueError, match=r"no pictures.*Connect another video"):
        encoding.ChunkEncoder(vae).frames(iter([]), 3)


def test_few_pictures_are_read_before_they_are_asked_for(encoding, each_vae):
    encoder, read = encoding.ChunkEncoder(each_vae), itertools.count()
    pictures = (picture for picture, _ in zip(_pictures(4 * 8), read, strict=False))
    for frames in (1, 4, 7):
        encoder.frames(pictures, 1 if frames == 1 else 3)
        taken = int(repr(read)[6:-1])
        assert 4 * frames - 3 <= taken <= 4 * frames + 4


def test_pictures_of_other_channels_and_sizes_are_cut_as_in_the_host(encoding, each_vae):
    pictures = torch.rand(5, 37, 52, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(_encoded(encoding, each_vae, pictures, [2]), each_vae.encode(pictures))


def test_tiles_give_the_latent_of_the_hosts_tiled_encode(encoding, each_vae):
    pictures = _wide_pictures()
    whole = _tiled(each_vae, pictures)
    assert (whole - each_vae.encode(pictures)).abs().max() > 1e-3, "the tiles must show"
    assert torch.equal(_encoded(encoding, each_vae, pictures, [1, 1], tiled=True), whole)


def test_out_of_memory_at_the_first_picture_goes_on_in_tiles(encoding, each_vae):
    pictures = _wide_pictures()
    encoder, coming = encoding.ChunkEncoder(each_vae), iter(pictures)
    with _failing(each_vae, torch.OutOfMemoryError("test")):
        frames = [encoder.frames(coming, 1)]
    frames.append(encoder.frames(coming, 1))
    assert torch.equal(torch.cat(frames, dim=2), _tiled(each_vae, pictures))


def test_out_of_memory_later_goes_on_without_a_break(encoding, each_vae):
    """The tiles begin with their part of what is remembered of whole pictures, which is more than they would know."""
    pictures = _wide_pictures()
    plain = each_vae.encode(pictures)
    encoder, coming = encoding.ChunkEncoder(each_vae), iter(pictures)
    frames = [encoder.frames(coming, 1)]
    with _failing(each_vae, torch.OutOfMemoryError("test")):
        frames.append(encoder.frames(coming, 1))
    found = torch.cat(frames, dim=2)
    off, off_in_tiles = ((each - plain)[:, :, 1:].abs().mean() for each in (found, _tiled(each_vae, pictures)))
    assert torch.equal(found[:, :, :1], plain[:, :, :1])
    assert 0 < off <= off_in_tiles


class Interrupt(BaseException):
    """As the host's."""


@pytest.mark.parametrize(("tiled", "problem"), [(False, Interrupt), (True, KeyError)])
def test_what_was_interrupted_can_be_asked_again(encoding, each_vae, tiled: bool, problem):
    pictures = _pictures(PICTURES)
    encoder, coming = encoding.ChunkEncoder(each_vae, tiled), iter(pictures)
    frames = [encoder.frames(coming, 2)]
    for _ in range(2):
        with _failing(each_vae, problem("test")), pytest.raises(problem):
            encoder.frames(coming, 3)
    frames += [encoder.frames(coming, 3), encoder.frames(coming, 2)]
    assert torch.equal(torch.cat(frames, dim=2), each_vae.encode(pictures))


def test_an_interrupt_of_the_host_is_heard_between_frames(encoding, vae):
    import comfy.model_management as host

    pictures = _pictures(9)
    encoder, coming = encoding.ChunkEncoder(vae), iter(pictures)
    host.interrupt_current_processing()
    with pytest.raises(host.InterruptProcessingException):
        encoder.frames(coming, 3)
    assert torch.equal(encoder.frames(coming, 3), vae.encode(pictures))


@pytest.mark.parametrize("tiled", [False, True])
def test_memory_does_not_grow_with_length(encoding, each_vae, tiled: bool):
    encoder, pictures = encoding.ChunkEncoder(each_vae, tiled), iter(_pictures(4 * 16, 16, 16))
    encoder.frames(pictures, 2)
    held = []
    for _ in range(6):
        encoder.frames(pictures, 2)
        held.append(encoder.held_bytes)
    assert held[0] > 0 and set(held[1:]) == {held[1]}
    encoder.close()
    assert encoder.held_bytes == 0


def test_after_close_the_next_pictures_begin_a_video(encoding, each_vae):
    pictures = _pictures(9)
    encoder = encoding.ChunkEncoder(each_vae)
    encoder.frames(iter(_pictures(3)), 5)
    encoder.close()
    assert torch.equal(encoder.frames(iter(pictures), 3), each_vae.encode(pictures))


@pytest.mark.parametrize(("version", "height", "width", "most"), [("21", 480, 832, 1.92e9), ("22", 704, 1280, 3.02e9)])
def test_room_is_made_for_what_an_encode_takes_at_the_real_size(
    pack, version: str, height: int, width: int, most: float
):
    encoders, empty = pack.module("nodes.host.encoders"), empty_vae(version)
    encoder = encoders.encoder_of(empty)
    counted = Storages()
    with counted:
        memory = encoder.encode(torch.empty(1, 3, 1, height, width, dtype=torch.bfloat16, device="meta"), [])[1]
        pieces = torch.empty(3, 1, 3, 4 * encoder.at_once, height, width, dtype=torch.bfloat16, device="meta")
        for piece in pieces:
            counted.most = 0
            frames, memory = encoder.encode(piece, memory)
    assert frames.shape[2] == encoder.at_once
    assert counted.most == pytest.approx(most, rel=0.01)
    assert counted.most == pytest.approx(2 * encoder.takes * height * width / 1.25, rel=0.05)


def test_room_is_asked_for_before_each_piece(encoding, each_vae, monkeypatch: pytest.MonkeyPatch):
    import comfy.model_management as host

    asked: list[int] = []
    load = host.load_models_gpu

    def counted(models, memory_required=0, **options):
        asked.append(memory_required)
        return load(models, memory_required=memory_required, **options)

    monkeypatch.setattr(host, "load_models_gpu", counted)
    _encoded(encoding, each_vae, _pictures(9, 32, 32), [3])
    _encoded(encoding, each_vae, _pictures(9, 32, 64), [3])
    half = len(asked) // 2
    assert 2 * asked[0] == asked[-1] and len(set(asked[:half])) == 1


def test_only_encoders_that_are_known_can_go_on(encoding, each_vae):
    class OtherEncoder(type(each_vae.first_stage_model)):
        pass

    known = each_vae.first_stage_model
    each_vae.first_stage_model = OtherEncoder.__new__(OtherEncoder)
    try:
        with pytest.raises(ValueError, match=r"OtherEncoder.*wan_2\.1_vae\.safetensors.*wan2\.2_vae\.safetensors"):
            encoding.ChunkEncoder(each_vae)
    finally:
        each_vae.first_stage_model = known


@pytest.mark.parametrize("name", ["vae", "vae22"])
def test_an_image_and_grey_comes_to_rest_in_thirty_frames(pack, request, name: str):
    """So a frame of an endless video is the last of them."""
    any_vae, source = request.getfixturevalue(name), pack.module("nodes.video.source_video")
    image = torch.rand(2, 40, 30, 3, generator=torch.Generator().manual_seed(2))
    found = source.image_and_grey(any_vae, image, 32, 32)
    video = torch.full((1 + 4 * 34, 32, 32, 3), 0.5)
    video[0] = _cut(image[:1])[0]
    whole = any_vae.encode(video)
    assert found.shape[2] == source.GREY_FRAMES == 30
    assert torch.equal(found, whole[:, :, :30])
    assert torch.equal(whole[:, :, 29:], whole[:, :, 29:30].expand(-1, -1, 6, -1, -1))
    assert not torch.equal(whole[:, :, 28], whole[:, :, 29])


def _cut(images: Tensor) -> Tensor:
    import comfy.utils

    return comfy.utils.common_upscale(images.movedim(-1, 1), 32, 32, "bilinear", "center").movedim(1, -1)


def _pictures(count: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(count))


def _wide_pictures() -> Tensor:
    """Of two tiles across."""
    return _pictures(5, 16, TILE + 16)


def _tiled(vae, pictures: Tensor) -> Tensor:
    """As the host encodes in tiles when memory runs out."""
    return vae.encode_tiled(pictures, tile_x=TILE, tile_y=TILE, overlap=TILE // 4)


def _encoded(encoding: ModuleType, vae, pictures: Tensor, sizes: list[int], tiled: bool = False) -> Tensor:
    encoder, coming = encoding.ChunkEncoder(vae, tiled), iter(pictures)
    return torch.cat([encoder.frames(coming, size) for size in sizes], dim=2)


@contextmanager
def _failing(vae, error: BaseException) -> Iterator[None]:
    """The last layer of the encoder fails once, when all layers before it have renewed what they remember."""

    def fail(*_: object) -> None:
        hook.remove()
        raise error

    hook = list(vae.first_stage_model.encoder.modules())[-1].register_forward_pre_hook(fail)
    yield
    assert hook.id not in hook.hooks_dict_ref(), "the layer was never reached"
