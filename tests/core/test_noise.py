"""Where randomness comes from (method.md section 1)."""

from contextlib import suppress

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from headforcing_core.rollout.noise import NativeNoise, PerChunkNoise, SplicedNoise

CHUNK = (1, 16, 3, 4, 6)
VIDEO = (1, 16, 12, 4, 6)


def drawn(seed: int, shape: tuple[int, ...] = CHUNK) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**64 - 1])
def test_per_chunk_noise_is_the_documented_draw(seed: int) -> None:
    noise = PerChunkNoise(seed, CHUNK)
    like = torch.zeros(CHUNK)
    for chunk in (0, 1, 799):
        assert torch.equal(noise.initial(chunk), drawn((seed * 1000003 + chunk * 64) % 2**63))
        for step in (0, 3):
            expected = drawn((seed * 1000003 + chunk * 64 + step + 1) % 2**63)
            assert torch.equal(noise.fresh(chunk, step, like), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_added_is_of_the_type_of_what_it_is_added_to(dtype: torch.dtype) -> None:
    fresh = PerChunkNoise(2, CHUNK).fresh(5, 1, torch.zeros(CHUNK, dtype=dtype))
    assert fresh.dtype == dtype
    assert torch.equal(fresh, drawn(2 * 1000003 + 5 * 64 + 2).to(dtype))


def test_a_chunks_noise_does_not_depend_on_what_was_drawn_before() -> None:
    one, other = PerChunkNoise(3, CHUNK), PerChunkNoise(3, CHUNK)
    like = torch.zeros(CHUNK)
    for chunk in range(4):
        one.initial(chunk)
        one.fresh(chunk, 0, like)
    assert torch.equal(one.fresh(5, 2, like), other.fresh(5, 2, like))
    assert torch.equal(one.initial(2), other.initial(2))


@pytest.mark.parametrize("before", [0, 1, 27])
def test_noise_of_a_whole_video_goes_on_where_the_part_before_it_ended(before: int) -> None:
    """With the seed of this run's own chunk."""
    whole = SplicedNoise(lambda chunk: 9 if chunk < before + 2 else 4, CHUNK)
    part = SplicedNoise(lambda chunk: 9 if chunk < 2 else 4, CHUNK, before=before)
    like = torch.zeros(CHUNK)
    for chunk in range(4):
        assert torch.equal(part.initial(chunk), whole.initial(before + chunk))
        assert torch.equal(part.fresh(chunk, 1, like), whole.fresh(before + chunk, 1, like))


@pytest.mark.parametrize("noise", [PerChunkNoise(9, CHUNK), NativeNoise(9, VIDEO, 3)], ids=["per_chunk", "native"])
def test_every_draw_is_another(noise: PerChunkNoise | NativeNoise) -> None:
    like = torch.zeros(CHUNK)
    draws = [noise.initial(chunk) for chunk in range(4)]
    draws += [noise.fresh(chunk, step, like) for chunk in range(4) for step in range(3)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert (a - b).abs().max() > 0.1


@pytest.mark.parametrize("noise", [PerChunkNoise(9, CHUNK), NativeNoise(9, VIDEO, 3)], ids=["per_chunk", "native"])
def test_noise_is_a_float32_chunk(noise: PerChunkNoise | NativeNoise) -> None:
    for draw in (noise.initial(1), noise.fresh(1, 0, torch.zeros(CHUNK))):
        assert draw.shape == CHUNK
        assert draw.dtype == torch.float32


def test_native_noise_slices_one_draw_of_the_whole_video() -> None:
    noise = NativeNoise(11, VIDEO, 3)
    assert torch.equal(torch.cat([noise.initial(chunk) for chunk in range(4)], dim=2), drawn(11, VIDEO))


@pytest.mark.parametrize(("chunk", "step"), [(0, 0), (0, 2), (3, 1), (79, 0)])
def test_native_fresh_noise_is_what_the_host_draws_from_the_global_generator(chunk: int, step: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11 + chunk * 1000 + step)
        expected = torch.randn_like(torch.zeros(CHUNK))
    assert torch.equal(NativeNoise(11, VIDEO, 3).fresh(chunk, step, torch.zeros(CHUNK)), expected)


@pytest.mark.parametrize("noise", [PerChunkNoise(9, CHUNK), NativeNoise(9, VIDEO, 3)], ids=["per_chunk", "native"])
def test_the_global_generator_is_left_alone(noise: PerChunkNoise | NativeNoise) -> None:
    before = torch.random.get_rng_state()
    noise.initial(0)
    noise.fresh(0, 0, torch.zeros(CHUNK))
    NativeNoise(1, VIDEO, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


class Calls(TorchDispatchMode):
    """The names of what PyTorch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__.split(".")[0])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("pins", [False, True])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("kind", [PerChunkNoise, lambda seed, *given: SplicedNoise(lambda chunk: seed, *given)])
def test_memory_is_pinned_on_its_way_to_a_card_alone_and_only_where_it_may(kind, device: str, pins: bool) -> None:
    """A card that is not there is enough to see what is asked for."""
    with FakeTensorMode(allow_non_fake_inputs=True), Calls() as calls:
        like = torch.empty(CHUNK, device=device)
        with suppress(AssertionError):  # pinned memory that is not there is beyond it
            assert kind(9, CHUNK, pins).fresh(1, 0, like).device.type == device
    assert ("_pin_memory" in calls.names) == (pins and device == "cuda")
