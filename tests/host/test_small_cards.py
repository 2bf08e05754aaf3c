"""Cards without float64 or complex numbers, as those of Apple and some of Intel, or behind DirectML: nothing of ours
makes such a tensor there.

The processor poses as such a card. Weights are on it, and all that is moved to a device that somebody names by its
object, as the host does, and all that is computed from these; what is moved to "cpu" by name is not. A file of ours
that makes float64 or complex numbers on it, or takes numpy's view of it, gets what such a card says.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.conftest import REPOSITORY
from tests.host.conftest import Pack

KORNIA = "/kornia/"
OURS = tuple(str(REPOSITORY / folder) for folder in ("headforcing_core", "nodes"))


class SmallCard(TorchFunctionMode):
    """While this is in force, the processor poses as the card. `seen` counts what files of ours made on it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [*leaves(args), *kwargs.values()]
        on_card = any(map(is_on_card, given))
        to_device = any(isinstance(value, torch.device) for value in given)
        if not on_card and not to_device:
            return function(*args, **kwargs)
        caller = calling_file()
        is_ours = caller.startswith(OURS) or KORNIA in caller  # of which we call what pictures need
        if is_ours and on_card and function is Tensor.numpy:
            raise RuntimeError("can't convert a tensor of the card to numpy")
        made = function(*args, **kwargs)
        if function is Tensor.cpu or (function is Tensor.to and "cpu" in given):
            return made.detach()
        if function is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
            on_card = is_on_card(args[1])
        if on_card or (to_device and KORNIA not in caller):  # which asks a tensor for its device
            for result in filter(torch.is_tensor, leaves([made])):
                if is_ours and (result.dtype == torch.float64 or result.is_complex()):
                    raise RuntimeError(f"{function.__name__}: the card does not support {result.dtype}")
                result.is_on_card = True
                self.seen += is_ours
        return made


def is_on_card(value: object) -> bool:
    return getattr(value, "is_on_card", False) is True


def leaves(values: Iterable[object]) -> Iterator[object]:
    """Values, and those in lists and tuples among them."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from leaves(value)
        else:
            yield value


def calling_file() -> str:
    """The file that called into PyTorch."""
    frame = sys._getframe(2)
    while "/torch/" in frame.f_code.co_filename or frame.f_code.co_filename.startswith("<"):
        frame = frame.f_back
    return frame.f_code.co_filename


def put_on_card(module: torch.nn.Module) -> None:
    for weight in (*module.parameters(), *module.buffers()):
        weight.is_on_card = True


@pytest.fixture
def card() -> Iterator[SmallCard]:
    with SmallCard() as card:
        yield card


@pytest.fixture
def model(load):
    model = load("self_forcing_dmd.safetensors")
    put_on_card(model.model.diffusion_model)
    return model


def run_as(path: Path, code: str, x: Tensor) -> None:
    exec(compile(code, str(path), "exec"), {"x": x, "torch": torch})  # noqa: S102


@pytest.mark.parametrize(
    "code",
    [
        "x.double()",
        "x.double().cpu()",
        "x.to(torch.float64)",
        "torch.linspace(0, 1, 3, dtype=torch.float64, device=x.device)",
        "torch.arange(3, dtype=torch.float64).to(x.device)",
        "torch.view_as_complex(x.reshape(-1, 2))",
        "torch.polar(x, x)",
        "torch.fft.fft(x)",
        "x * torch.ones(4, dtype=torch.float64)",
        "x.numpy()",
    ],
)
def test_the_card_refuses_files_of_ours_and_nobody_else(card: SmallCard, code: str) -> None:
    x = torch.ones(4).to(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="card"):
        run_as(REPOSITORY / "headforcing_core" / "x.py", code, x)
    run_as(Path("/host/comfy/x.py"), code, x)


def test_the_card_refuses_nothing_on_the_processor(card: SmallCard) -> None:
    x = torch.ones(4).to(torch.device("cpu"))
    for code in ("x.cpu().double()", 'x.to("cpu", torch.float64)', "torch.ones(4).double()", "x.cpu().numpy()"):
        run_as(REPOSITORY / "nodes" / "x.py", code, x)


@pytest.fixture
def sampled(pack: Pack, model, clip) -> Callable[..., tuple]:
    """Make a video with heads of all types that soon drop what is old; latent, video and report."""

    def run(text: str, seconds: float, rope: str = "compact", **inputs: object) -> tuple:
        schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=text)[0]
        policy = pack.run("HeadForcingCachePolicy", preset="paper", rope=rope, compress_from_chunk=1)[0]
        profile = pack.run("HeadForcingProfileHeads", model=model, rule="random", width=64, height=48)[0]
        given = {"schedule": schedule, "policy": policy, "profile": profile, "width": 64, "height": 48, **inputs}
        latent, video, _, report = pack.run("HeadForcingSampler", model=model, seconds=seconds, **given)
        return latent["samples"], video, json.loads(report)

    return run


def test_a_video_is_sampled_with_episodes_and_every_way_to_take_over(sampled, card: SmallCard) -> None:
    text = "[0s] a red fox\n[2.2s soft 2] a river\n[3s recache] a city\n[3.6s flush] rain\n[4.2s cut] snow"
    latent, _, report = sampled(text, 4.6)
    assert card.seen > 1000  # it did watch
    assert any("episode" in [tier for _, _, tier in chunk["seen"]["memory"]] for chunk in report["chunks"])
    assert torch.isfinite(latent).all()


def test_a_video_grows_from_a_start_image_in_a_kept_run(
    sampled, vae, card: SmallCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with previews."""
    import comfy.cli_args
    from latent_preview import LatentPreviewMethod

    monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.Auto)
    put_on_card(vae.first_stage_model)
    picture = torch.rand(1, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    _, video, _ = sampled("a red fox", 0.8, vae=vae, start_image=picture, run_name="small card")
    assert card.seen > 100 and video.get_frame_count() == 13


@pytest.mark.parametrize("rope", ["clamp", "tied", "absolute"])
def test_a_video_is_sampled_with_every_rope(sampled, card: SmallCard, rope: str) -> None:
    latent, _, report = sampled("a red fox", 1.6, rope)
    assert card.seen > 1000 and report["settings"]["rope"] == rope
    assert torch.isfinite(latent).all()


def test_noise_of_the_hosts_own_sampler_is_drawn(sampled, card: SmallCard) -> None:
    assert torch.isfinite(sampled("a red fox", 0.8, noise="native")[0]).all()


def test_heads_are_measured(pack: Pack, model, clip, card: SmallCard) -> None:
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="a red fox in snow")[0]
    profile = pack.run(
        "HeadForcingProfileHeads", model=model, schedule=schedule, width=64, height=48, reuse_saved=False
    )[0]
    assert card.seen > 1000 and profile.counts == {"local": 2, "anchor": 3, "memory": 7}


def test_drift_is_measured(pack: Pack, card: SmallCard) -> None:
    """Of pictures that lie on the card, as with --gpu-only, and to the same numbers as of those that do not."""
    pictures = torch.rand(12, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    on_card = pictures.to(torch.device("cpu"))
    plot, report = pack.run("HeadForcingDriftReport", images=on_card, fps=4.0)
    assert card.seen > 0 and plot.ndim == 4
    assert report == pack.run("HeadForcingDriftReport", images=pictures.clone(), fps=4.0)[1]
