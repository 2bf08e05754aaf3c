"""A video that is a latent until somebody takes it answers as the video that it decodes to, in hosts of any version."""

import importlib.util
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType

import pytest
import torch

from tests.host.conftest import PACK, Pack

PICTURES, WIDTH, HEIGHT = 15, 64, 48


@pytest.fixture(scope="module")
def latent() -> torch.Tensor:
    return torch.randn(1, 16, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def make(pack: Pack, latent: torch.Tensor, vae) -> Callable[..., object]:
    """A LatentVideo; of which module, if it is another than the pack's."""

    def made(module: ModuleType | None = None):
        module = module or pack.module("nodes.video.latent_video")
        return module.LatentVideo(latent, vae, PICTURES - 2, 16.0)

    return made


def test_every_public_method_of_the_hosts_video_is_its_own(pack: Pack) -> None:
    from comfy_api.latest import Input

    own = vars(pack.module("nodes.video.latent_video").LatentVideo)
    asked = {name for name, member in vars(Input.Video).items() if callable(member) and not name.startswith("_")}
    assert len(asked) >= 10 and asked <= own.keys()


def test_it_answers_from_its_stream_without_all_pictures_in_memory(make, monkeypatch: pytest.MonkeyPatch) -> None:
    from comfy_api.latest import InputImpl

    def whole(video: object) -> None:
        raise AssertionError("all pictures were put into memory")

    with monkeypatch.context() as patch:
        patch.setattr(InputImpl.VideoFromFile, "get_components", whole)
        video = make()
        assert video.get_dimensions() == (WIDTH, HEIGHT)
        assert (video.get_frame_count(), video.get_frame_rate()) == (PICTURES - 2, Fraction(16))
        assert video.get_duration() == pytest.approx((PICTURES - 2) / 16)
        assert video.get_container_format() == "mov,mp4,m4a,3gp,3g2,mj2"
        assert video.get_bit_depth() == 8
        assert video.get_active_trim_window() == (0.0, 0.0)
        assert isinstance(video.get_stream_source(), str)
        cut = video.as_trimmed(start_time=0.25, duration=0.25)
        assert cut.get_active_trim_window() == (0.25, 0.25)
    assert len(video.get_components().images) == PICTURES - 2
    assert len(cut.get_components().images) == 4


def test_methods_of_a_newer_host_are_handed_on(pack: Pack, make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's class as it has grown since: defaults that would decode the whole, and a file that does better."""
    from comfy_api.latest import Input, InputImpl

    def default(video, *args: object, **kwargs: object) -> object:
        return video.get_components()

    newer = ("as_cropped", "as_resized", "get_color_space", "get_display_dimensions", "has_pending_frame_edits")
    for name in newer:
        monkeypatch.setattr(Input.Video, name, default, raising=False)
        monkeypatch.setattr(
            InputImpl.VideoFromFile, name, lambda video, *args, name=name, **kwargs: (name, args, kwargs), raising=False
        )
    path = pack.module("nodes.video.latent_video").__file__
    spec = importlib.util.spec_from_file_location(f"{PACK}.nodes.video.newer_latent_video", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    video = make(module)
    for name in newer:
        assert getattr(video, name)(2, width=4) == (name, (2,), {"width": 4})


def test_a_vae_that_cannot_stream_answers_the_same(
    make, pack: Pack, latent: torch.Tensor, vae, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack.module("nodes.video.latent_video"), "can_stream", lambda vae: False)
    video = make()
    with torch.inference_mode():  # as the host runs nodes, whatever another test did with this VAE
        assert (video.get_frame_count(), video.get_dimensions()) == (PICTURES - 2, (WIDTH, HEIGHT))
        assert torch.equal(video.get_components().images, vae.decode(latent)[0, : PICTURES - 2])


@pytest.mark.parametrize("name", ["vae22", "tiny_vae22"])
def test_a_latent_of_wan22_becomes_a_video_chunk_by_chunk(pack: Pack, request, name: str) -> None:
    any_vae = request.getfixturevalue(name)
    latent = torch.randn(1, 48, 5, HEIGHT // 16, WIDTH // 16, generator=torch.Generator().manual_seed(1))
    video = pack.module("nodes.video.latent_video").LatentVideo(latent, any_vae, PICTURES, 24.0)
    with torch.inference_mode():
        assert (video.get_dimensions(), video.get_frame_rate()) == ((WIDTH, HEIGHT), Fraction(24))
        expected = any_vae.decode(latent)[0, :PICTURES].clamp(0, 1)
    assert isinstance(video.get_stream_source(), str)
    found, expected = (blurred(each) for each in (video.get_components().images, expected))
    assert (found - expected).abs().mean() < 0.02 < 0.04 < (found[1:] - expected[:-1]).abs().mean()


def blurred(pictures: torch.Tensor) -> torch.Tensor:
    """Without what a video's coarser colours lose of noise."""
    return torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1), 8)
