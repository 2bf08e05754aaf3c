"""The latent of a source video chunk by chunk: the frames of the whole, from wherever it is begun, to the last bit."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

SIZE, FRAMES = 32, 35
CASES = [("vae", False), ("vae", True), ("vae22", False), ("tiny_vae", True), ("tiny_vae22", False)]


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes(pack) -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def latents(pack):
    """The latents of pictures at SIZE."""
    source = pack.module("nodes.video.source_video").SourceVideo
    made = pack.module("nodes.video.source_latents").SourceLatents
    return lambda pictures, vae, goes_on=False: made(source(pictures, SIZE, SIZE, 16.0), vae, goes_on)


def pictures(count: int) -> Tensor:
    return torch.rand(count, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(count))


def whole(vae, shown: Tensor, goes_on: bool = False) -> Tensor:
    """By the host, of all pictures with the first one before them as often as a first frame needs it."""
    first = 4 if hasattr(vae.first_stage_model, "t_downscale") else 1
    lead = shown[:1].repeat(first - 1 + goes_on, 1, 1, 1)
    return vae.encode(torch.cat([lead, shown]))[:, :, int(goes_on) :]


@pytest.mark.parametrize(("name", "goes_on"), CASES)
def test_it_is_that_of_the_whole_from_whatever_frame_it_is_begun(
    request: pytest.FixtureRequest, latents, name: str, goes_on: bool
) -> None:
    vae, shown = request.getfixturevalue(name), pictures(4 * FRAMES - (0 if goes_on else 3))
    wanted = whole(vae, shown, goes_on)
    assert wanted.shape[2] == FRAMES
    for first in (0, 31, 32) if name == "vae" else (0, 31):
        found = latents(shown, vae, goes_on)
        chunks = [found.frames(range(at, at + size)) for at, size in ((first, 2), (first + 2, 1))]
        assert torch.equal(torch.cat(chunks, dim=2), wanted[:, :, first : first + 3]), first
