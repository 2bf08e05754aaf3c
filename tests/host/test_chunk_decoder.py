"""A latent that is decoded in pieces gives the pictures that the host makes of the whole."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

EXACT = {"rtol": 0.0, "atol": 1e-4}
HEIGHT, WIDTH = 2, 3
TILED_HEIGHT, TILED_WIDTH = 2, 34  # two tiles across


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes(pack) -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def decoding(pack) -> ModuleType:
    return pack.module("nodes.host.chunk_decoder")


@pytest.fixture(scope="module")
def tiny_vae(pack, tmp_path_factory: pytest.TempPathFactory):
    """The host's own tiny autoencoder of Wan 2.1's latents, of random weights, from a file by its own loader."""
    return _load_tiny(tmp_path_factory.mktemp("tiny") / "taew2_1.safetensors", torch.float32)


@pytest.fixture(params=["wan", "tiny"])
def any_vae(request: pytest.FixtureRequest, vae, tiny_vae):
    return {"wan": vae, "tiny": tiny_vae}[request.param]


@pytest.mark.parametrize("sizes", [[1] * 8, [3, 3, 3], [3, 3, 2], [2, 2, 2], [5]])
def test_chunks_give_the_pictures_of_the_whole(decoding, any_vae, sizes: list[int]):
    latent = _latent(sum(sizes))
    torch.testing.assert_close(_decoded(decoding, any_vae, latent, sizes), any_vae.decode(latent)[0], **EXACT)


def test_any_split_gives_the_pictures_of_the_whole(decoding, any_vae):
    draw = random.Random(0)
    latent = _latent(11)
    whole = any_vae.decode(latent)[0]
    for _ in range(3):
        cuts = [0, *sorted(draw.sample(range(1, 11), draw.randint(1, 9))), 11]
        sizes = [end - start for start, end in zip(cuts, cuts[1:], strict=False)]
        torch.testing.assert_close(_decoded(decoding, any_vae, latent, sizes), whole, **EXACT)


def test_pictures_are_final_at_once(decoding, any_vae):
    decoder = decoding.ChunkDecoder(any_vae)
    assert [len(decoder.decode(chunk)) for chunk in _latent(8).split([1, 1, 3, 3], dim=2)] == [1, 4, 12, 12]


def test_half_precision_weights_of_a_tiny_autoencoder(decoding, tmp_path: Path):
    """Stored in float16, which the host takes for a file that scales its latent."""
    tiny = _load_tiny(tmp_path / "taew2_1.safetensors", torch.float16)
    latent = _latent(5)
    assert tiny.first_stage_model.latent_format is not None
    torch.testing.assert_close(_decoded(decoding, tiny, latent, [1, 3, 1]), tiny.decode(latent)[0], **EXACT)


def test_tiles_give_the_pictures_of_the_hosts_tiled_decode(decoding, any_vae):
    latent = _latent(4, TILED_HEIGHT, TILED_WIDTH)
    whole = any_vae.decode_tiled(latent, tile_x=32, tile_y=32, overlap=8)[0]
    assert (whole - any_vae.decode(latent)[0]).abs().max() > EXACT["atol"], "the tiles must show"
    torch.testing.assert_close(_decoded(decoding, any_vae, latent, [1, 3], tiled=True), whole, **EXACT)


@pytest.mark.parametrize(("frames", "size"), [(2, (HEIGHT, WIDTH)), (2, (57, 2)), (1, (33, 35))])
def test_tiles_of_any_picture_size(decoding, vae, frames: int, size: tuple[int, int]):
    latent = _latent(frames, *size)
    whole = vae.decode_tiled(latent, tile_x=32, tile_y=32, overlap=8)[0]
    torch.testing.assert_close(_decoded(decoding, vae, latent, [1] * frames, tiled=True), whole, **EXACT)


def test_out_of_memory_at_the_first_chunk_goes_on_in_tiles(decoding, any_vae):
    latent = _latent(4, TILED_HEIGHT, TILED_WIDTH)
    whole = any_vae.decode_tiled(latent, tile_x=32, tile_y=32, overlap=8)[0]
    decoder = decoding.ChunkDecoder(any_vae)
    first, second = latent.split(2, dim=2)
    with _failing(any_vae, torch.OutOfMemoryError("test")):
        pictures = [decoder.decode(first)]
    pictures.append(decoder.decode(second))
    torch.testing.assert_close(torch.cat(pictures), whole, **EXACT)


def test_out_of_memory_later_goes_on_without_a_break(decoding, any_vae):
    """The tiles begin with what they would remember, had all been decoded in tiles."""
    latent = _latent(4, TILED_HEIGHT, TILED_WIDTH)
    plain = any_vae.decode(latent)[0]
    tiled = any_vae.decode_tiled(latent, tile_x=32, tile_y=32, overlap=8)[0]
    decoder = decoding.ChunkDecoder(any_vae)
    first, second, third = latent.split([2, 1, 1], dim=2)
    pictures = [decoder.decode(first)]
    with _failing(any_vae, torch.OutOfMemoryError("test")):
        pictures.append(decoder.decode(second))
    pictures.append(decoder.decode(third))
    torch.testing.assert_close(torch.cat(pictures), torch.cat([plain[:5], tiled[5:]]), **EXACT)


@pytest.mark.parametrize("call", [1, 2])
def test_out_of_memory_where_room_is_made_goes_on_in_tiles(decoding, any_vae, monkeypatch, call: int):
    import comfy.model_management as management

    latent = _latent(4, TILED_HEIGHT, TILED_WIDTH)
    plain = any_vae.decode(latent)[0]
    tiled = any_vae.decode_tiled(latent, tile_x=32, tile_y=32, overlap=8)[0]
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
    latent = _latent(6)
    whole = any_vae.decode(latent)[0]
    decoder = decoding.ChunkDecoder(any_vae, tiled)
    first, second, third = latent.split([2, 3, 1], dim=2)
    pictures = [decoder.decode(first)]
    for _ in range(2):
        with _failing(any_vae, problem("test")), pytest.raises(problem):
            decoder.decode(second)
    pictures += [decoder.decode(second), decoder.decode(third)]
    torch.testing.assert_close(torch.cat(pictures), whole, **EXACT)


@pytest.mark.parametrize("frames", [42, 51])
def test_late_in_a_video_too_though_the_latents_of_its_end_alone_are_held(decoding, any_vae, frames: int):
    latent = _latent(frames + 3)
    whole = any_vae.decode(latent)[0]
    decoder = decoding.ChunkDecoder(any_vae)
    for chunk in latent[:, :, :frames].split(3, dim=2):
        decoder.decode(chunk)
    assert sum(seen.shape[2] for seen in decoder._seen) == 42
    with _failing(any_vae, KeyError("test")), pytest.raises(KeyError):
        decoder.decode(latent[:, :, frames:])
    torch.testing.assert_close(decoder.decode(latent[:, :, frames:]), whole[-12:], **EXACT)


def test_two_copies_of_what_is_remembered_never_stand_side_by_side(decoding):
    """At the real size, 832 x 480 in 2 bytes a number; all storages are counted while nothing is computed."""
    from comfy.ldm.wan.vae import WanVAE

    shape = {"dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    with torch.device("meta"):
        model = WanVAE(**shape, temperal_downsample=[False, True, True]).to(torch.bfloat16)
        latent = torch.empty(1, 16, 3, 60, 104, dtype=torch.bfloat16)
    for module in model.modules():
        if hasattr(module, "optimized_attention"):
            module.optimized_attention = lambda q, k, v: torch.empty_like(q)
    counted = _Storages()
    with counted:
        memory = decoding._decode_wan(model, latent, [])[1]
        counted.most = 0
        pictures, memory = decoding._decode_wan(model, latent, memory)
        held = decoding._held_bytes(memory)
    assert pictures.shape == (1, 3, 12, 480, 832)
    assert held == pytest.approx(1.89e9, rel=0.01)
    assert counted.most < 2.9e9


@pytest.mark.parametrize(("tiled", "width", "chunks"), [(False, 1, 60), (True, 33, 6)])
def test_memory_does_not_grow_with_length(decoding, any_vae, tiled: bool, width: int, chunks: int):
    decoder = decoding.ChunkDecoder(any_vae, tiled)
    held = []
    for chunk in _latent(2 * chunks, 1, width).split(2, dim=2):
        decoder.decode(chunk)
        held.append(decoder.held_bytes)
    assert len(held) == chunks
    assert held[1] > 0
    assert set(held[1:]) == {held[1]}


def test_the_host_is_asked_only_for_what_is_missing(decoding, any_vae, monkeypatch: pytest.MonkeyPatch):
    """What is remembered is there already; a host that counted it twice would move the model out for it."""
    import comfy.model_management as host

    asked: list[int] = []
    load = host.load_models_gpu

    def counted(models, memory_required=0, **options):
        asked.append(memory_required)
        return load(models, memory_required=memory_required, **options)

    monkeypatch.setattr(host, "load_models_gpu", counted)
    decoder, latent = decoding.ChunkDecoder(any_vae), _latent(3)
    held = []
    for _ in range(3):
        held.append(decoder.held_bytes)
        decoder.decode(latent)
    of_the_hosts = any_vae.memory_used_decode((1, 16, 5, HEIGHT, WIDTH), any_vae.vae_dtype)
    assert held[0] == 0 and held[1] > 0
    assert [first - later for first, later in zip(asked[:1] * 3, asked, strict=True)] == held
    assert 1.5 * decoder.held_bytes < asked[0] <= of_the_hosts


def test_what_will_be_held_is_known_before(decoding, any_vae):
    decoder = decoding.ChunkDecoder(any_vae)
    decoder.decode(_latent(4))
    assert decoder.held_bytes == pytest.approx(decoder.expected_bytes(8 * WIDTH, 8 * HEIGHT), rel=0.01)


def test_after_close_nothing_is_held_and_the_next_frames_begin_a_video(decoding, any_vae):
    latent = _latent(3)
    decoder = decoding.ChunkDecoder(any_vae)
    decoder.decode(_latent(2) + 1)
    decoder.close()
    assert decoder.held_bytes == 0
    torch.testing.assert_close(decoder.decode(latent), any_vae.decode(latent)[0], **EXACT)


def test_pictures_have_the_hosts_type_and_hold_no_gradient(decoding, any_vae):
    latent = _latent(1)
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


class _Storages(TorchDispatchMode):
    """Counts bytes of the storages that are made inside, and says how many there were at most at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self._live = {place: entry for place, entry in self._live.items() if not entry[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return made


def _latent(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.randn(1, 16, frames, height, width, generator=torch.Generator().manual_seed(frames))


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


def _load_tiny(path: Path, dtype: torch.dtype):
    import comfy.sd
    import comfy.utils
    from comfy.taesd.taehv import TAEHV

    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(tensor.shape, generator=generator) * 1.2 * max(1, tensor[0].numel()) ** -0.5
        if tensor.ndim > 1
        else torch.zeros(tensor.shape)
        for name, tensor in TAEHV(latent_channels=16).state_dict().items()
    }
    save_file({name: tensor.to(dtype) for name, tensor in weights.items()}, path)
    tiny = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path), safe_load=True))
    assert type(tiny.first_stage_model) is TAEHV
    return tiny
