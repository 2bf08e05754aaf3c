"""The plain policy equals the host's own AR sampler (method.md section 9, truth 1)."""

import pytest
import torch

from tests.host.conftest import conditioning

CHECKPOINTS = ["self_forcing_dmd.safetensors", "random_a.safetensors", "random_b.safetensors"]


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("chunk_frames, tolerance", [(1, 0.0), (3, 1e-5)])
def test_full_absolute_native_equals_the_hosts_own_sampler(
    pack, load, native, video, name: str, chunk_frames: int, tolerance: float
) -> None:
    model, text = load(name, chunk_frames=chunk_frames), conditioning(11)
    policy = pack.run("HeadForcingCachePolicy", preset="full", rope="absolute")[0]
    theirs = native.native_video(model, 21, chunk_frames, 5, text)
    ours = video(model, text, policy=policy, noise="native", seed=5)[0]["samples"]
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance
    assert theirs.std() > 0.3


def test_the_first_five_seconds_do_not_depend_on_the_policy(pack, load, video) -> None:
    model, text = load("self_forcing_dmd.safetensors"), conditioning(11)
    full, uniform, paper = (
        video(model, text, preset=preset, seed=5, **extra)[0]["samples"]
        for preset, extra in (
            ("full", {}),
            ("uniform", {}),
            ("paper", {"profile": pack.run("HeadForcingProfileHeads", model=model, rule="random")[0]}),
        )
    )
    assert torch.equal(full, uniform) and torch.equal(full, paper)


def test_compact_and_absolute_agree_while_nothing_is_dropped(pack, load, video) -> None:
    model, text = load("random_a.safetensors"), conditioning(11)
    compact, absolute = (
        video(model, text, policy=pack.run("HeadForcingCachePolicy", preset="full", rope=rope)[0])[0]["samples"]
        for rope in ("compact", "absolute")
    )
    assert (compact - absolute).abs().max() <= 1e-4
