"""A model that makes several chunks at once, by its nodes: against the plain model, kept, made longer, begun anew."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.host.conftest import conditioning

FILE, FAMILY, N = "self_forcing_dmd.safetensors", "rolling_forcing", 3
LEVELS = (1.0, 0.9523809552192688, 0.8823529481887817, 0.7692307829856873, 0.5555555820465088, 0.0)
SIZE, SEED, TOLERANCE = (4, 6), 5, 1e-5


@pytest.fixture(scope="module")
def run(pack, load, labelled) -> Callable[..., tuple[Tensor, dict]]:
    def made(chunks: int = 5, **inputs: object) -> tuple[Tensor, dict]:
        given = {
            "model": load(FILE, family=FAMILY),
            "positive": conditioning(11),
            "seed": SEED,
            "profile": labelled,
            **inputs,
        }
        given |= {"seconds": (12 * chunks - 6) / 16, "width": 8 * SIZE[1], "height": 8 * SIZE[0]}
        given.setdefault("policy", pack.run("HeadForcingCachePolicy", preset="low_vram")[0])
        latent, _, _, report = pack.run("HeadForcingSampler", **given)
        told = json.loads(report)
        assert told["settings"]["chunks"] == chunks
        return latent["samples"], told

    return made


def naive(model: object, chunks: int) -> Tensor:
    """The video by the plain model: all that is done clean and told 0, causal by chunks, the window as one of them."""
    import comfy.model_management
    from comfy.ldm.modules.attention import attention_pytorch

    comfy.model_management.load_models_gpu([model])
    wan, tokens, size = model.model.diffusion_model, SIZE[0] * SIZE[1] // 4, len(LEVELS) - 1

    def drawn(chunk: int, draw: int) -> Tensor:
        generator = torch.Generator().manual_seed(SEED * 1000003 + chunk * 64 + draw)
        return torch.randn(1, 16, N, *SIZE, generator=generator)

    def clean(done: list[Tensor], window: list[tuple[int, int, Tensor]]) -> tuple[Tensor, ...]:
        noisy = torch.cat([latent for _, _, latent in window], dim=2)
        levels = torch.tensor([LEVELS[gone] for _, gone, _ in window]).repeat_interleave(N)
        block = torch.tensor([place for place in range(len(done)) for _ in range(N)] + [len(done)] * noisy.shape[2])
        mask = (block[:, None] >= block).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)

        def causal(attention: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: object, **options: object):
            if q.shape[1] == k.shape[1] == len(block) * tokens:
                return attention_pytorch(q, k, v, heads, mask=mask)
            return attention(q, k, v, heads, *args, **options)

        told = torch.cat([torch.zeros(len(done) * N), 1000 * levels])[None]
        options = {"optimized_attention_override": causal}
        video = torch.cat([*done, noisy], dim=2)
        flow = wan(video, told, context=conditioning(11)[0][0], transformer_options=options)[:, :, len(done) * N :]
        return (noisy - levels.view(1, 1, -1, 1, 1) * flow).split(N, dim=2)

    done: list[Tensor] = []
    window: list[tuple[int, int, Tensor]] = []
    with torch.inference_mode():
        while len(done) < chunks:
            entering = len(done) + len(window)
            window.append((entering, 0, drawn(entering, 0)))
            seen = clean(done, window)
            if len(window) == size:
                done.append(seen[0])
                window, seen = window[1:], seen[1:]
            window = [
                (chunk, gone + 1, (1 - LEVELS[gone + 1]) * x0 + LEVELS[gone + 1] * drawn(chunk, gone + 1))
                for (chunk, gone, _), x0 in zip(window, seen, strict=True)
            ]
    return torch.cat(done, dim=2)


def test_the_plain_model_makes_the_same_video(pack, load, run) -> None:
    policy = pack.run("HeadForcingCachePolicy", preset="full", rope="absolute")[0]
    latent, report = run(5, policy=policy)
    model = load(FILE, family=FAMILY)
    made, wanted = pack.module("nodes.host.model").latent_in(model, latent), naive(model, 5)
    assert made.shape == wanted.shape and float((made - wanted).abs().max()) <= TOLERANCE
    assert wanted[:, :, -N:].std() > 0.3
    assert report["settings"]["solver"] == "rolling" and report["settings"]["trained_frames"] == 21
    assert any(note.startswith("5 chunks are made at once") for note in report["notes"])


def test_a_kept_run_goes_on_from_its_window_to_the_same_bits(pack, runs: Path, run) -> None:
    policy = pack.run("HeadForcingCachePolicy", preset="recall")[0]
    whole, report = run(5, policy=policy)
    assert report["recall"]["loads"] > 0
    for chunks in (1, 4, 5):
        latent, _ = run(chunks, policy=policy, run_name="film")
        assert torch.equal(latent, whole[:, :, : latent.shape[2]]), chunks
    for chunk in range(5):
        file = load_file(runs / "film" / f"chunk_{chunk:05d}.safetensors")
        assert {name: tensor.shape[2] for name, tensor in file.items()} == {"latent": N, "window": 4 * N}
    assert json.loads((runs / "film" / "run.json").read_bytes())["settings"]["solver"] == "rolling"


def test_a_run_is_begun_anew_from_a_chunk_and_mended_where_a_file_is_damaged(pack, runs: Path, run, clip) -> None:
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="[0s] a fox\n[2s cut] a wolf")[0]
    begun = {"schedule": schedule, "positive": None, "run_name": "film"}
    first, _ = run(4, **begun)
    other, report = run(4, **begun, seed=9, from_chunk=1)
    assert torch.equal(other[:, :, :N], first[:, :, :N]) and not torch.equal(other[:, :, N:], first[:, :, N:])
    assert any("film_take_1" in note for note in report["notes"])
    # chunk 0 is of one seed and the others of another, whatever has to be made again
    path = runs / "film" / "chunk_00000.safetensors"
    good = load_file(path)
    save_file({"latent": good["latent"]}, path)
    mended, report = run(4, **begun, seed=9)
    assert torch.equal(mended, other) and any("is damaged" in note for note in report["notes"])
    assert torch.equal(load_file(path)["window"], good["window"])


def test_a_video_goes_on_from_another_with_a_window_that_fills_again(run) -> None:
    before, _ = run(3)
    latent, report = run(1, previous={"samples": before})
    assert torch.equal(latent[:, :, : 3 * N], before) and latent.shape[2] == 4 * N
    assert report["settings"]["prefix_frames"] == 3 * N


def test_heads_are_measured_by_single_chunks_and_the_bar_goes_by_the_passes(
    runs: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.utils

    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar,
        "update_absolute",
        lambda bar, value, total=None, preview=None: seen.append((value, total)),
    )
    _, report = run(3, profile=None)
    assert report["profile"] is not None
    measured = [(step, 35) for step in range(1, 36)]  # 7 chunks in 5 steps each
    assert seen == [*measured, *((step, 7) for step in range(1, 8))]


def test_what_cannot_roll_is_refused_in_words(run) -> None:
    with pytest.raises(
        ValueError, match=r"makes 5 chunks at once, one at each of the levels 1, 0\.952381, .*unconnected"
    ):
        run(1, sigmas=torch.tensor([1.0, 0.5, 0.0]))
    with pytest.raises(ValueError, match="video is connected, but the model makes 5 chunks at once"):
        run(1, video=torch.zeros(9, 32, 48, 3))
    with pytest.raises(ValueError, match="does not know the steps of family rolling_forcing"):
        run(1, noise="native")


def test_a_run_that_an_earlier_version_began_otherwise_goes_on_under_its_family(runs: Path, load, run) -> None:
    usual = load(FILE, family="self_forcing")
    run(1, model=usual, run_name="film")
    with pytest.raises(
        ValueError, match=r"solver \(of the family\) 'renoise', now .* 'rolling'.*the family of that run"
    ):
        run(3, run_name="film")
    longer, _ = run(3, model=usual, run_name="film")
    assert torch.equal(longer, run(3, model=usual)[0])
