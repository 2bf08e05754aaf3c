"""Steps of families: when the first chunk has its own, what sigmas replace, what a kept run must share, and what other
nodes see of what the model is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning

FILE, LIVE, LINGBOT = "self_forcing_dmd.safetensors", "longlive2_5b_bf16.pt", "lingbot_world_v2_causal_fast.safetensors"
FOUR = [1.0, 0.9375, 0.8333333134651184, 0.625, 0.0]


@pytest.fixture(scope="module")
def run(pack, load) -> Callable[..., tuple]:
    """Three frames by a family of single frames, or so many seconds by another; latent and report."""

    def made(family: str = "causal_forcing_1step", file: str = FILE, **inputs: object) -> tuple[Tensor, dict]:
        policy = pack.run("HeadForcingCachePolicy", preset="full", rope="absolute")[0]
        given = {"model": load(file, family=family), "policy": policy, "positive": conditioning(2), "seed": 4}
        side = 16 if file == FILE else 32
        given |= {"seconds": 0.5, "width": side, "height": side, **inputs}
        latent, _, _, report = pack.run("HeadForcingSampler", **given)
        return latent["samples"], json.loads(report)

    return made


def first_steps(report: dict) -> list[float]:
    return report["settings"]["first_sigmas"]


def test_a_first_chunk_has_its_own_steps_where_the_family_says_so(run, vae) -> None:
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    made, report = run(seconds=0.1)
    assert first_steps(report) == FOUR
    # an image before is not another first chunk, but not at frame 0
    from_image, from_video = {"start_image": image, "vae": vae}, {"previous": {"samples": made}}
    for family, beginning, wanted in (
        ("one_forcing", {}, FOUR),
        ("causal_forcing_1step", from_image, FOUR),
        ("one_forcing", from_image, []),
        ("causal_forcing_1step", from_video, []),
        ("causal_forcing_2step", from_video, []),
        ("one_forcing", from_video, []),
        ("causal_forcing_framewise", {}, []),
    ):
        assert first_steps(run(family, seconds=0.1, **beginning)[1]) == wanted, (family, beginning.keys())


def test_connected_sigmas_are_the_steps_of_every_chunk_and_keep_the_solver(run) -> None:
    sigmas = torch.tensor([1.0, 0.6, 0.3, 0.0])
    for family, file, solver in (("causal_forcing_1step", FILE, "renoise"), ("auto", LIVE, "unipc2")):
        latent, report = run(family, file, sigmas=sigmas)
        settings = report["settings"]
        assert settings["sigmas"] == sigmas.tolist() and settings["solver"] == solver
        assert settings["timesteps"] == settings["first_sigmas"] == settings["first_timesteps"] == []
        assert [note for note in report["notes"] if note.startswith("Steps")] == [
            "Steps: 1, 0.6, 0.3, 0 (the sigmas input)."
        ]
        assert latent.isfinite().all()
    assert any("begin at 0.9," in note for note in run(sigmas=torch.tensor([0.9, 0.5, 0.0]))[1]["notes"])


def test_the_bar_goes_by_the_steps_of_each_chunk(pack, run, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.utils

    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar,
        "update_absolute",
        lambda bar, value, total=None, preview=None: seen.append((value, total)),
    )
    run()
    assert seen == [(step, 6) for step in range(1, 7)]


def test_a_kept_run_of_another_way_is_not_gone_on_with(runs: Path, run, vae) -> None:
    image = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    begun = {"start_image": image, "vae": vae, "run_name": "film"}
    run("one_forcing", **begun)
    with pytest.raises(ValueError, match=r"first_sigmas \(of the family\) \[\], now .*Choose the family of"):
        run("causal_forcing_1step", **begun)
    longer, _ = run("one_forcing", seconds=0.7, **begun)
    assert torch.equal(longer, run("one_forcing", seconds=0.7, **{**begun, "run_name": ""})[0])


def test_a_kept_run_is_not_gone_on_with_as_another_family_and_what_to_choose_is_told(runs: Path, pack, run) -> None:
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    run("memflow", policy=policy, run_name="film")
    for family, setting in (
        ("self_forcing", r"trained_frames 12, now trained_frames is 21\."),
        ("aad_1", r"chunk_frames 3, now chunk_frames is 4\."),
        ("causal_forcing_framewise", r"chunk_frames 3, now"),
        ("krea_realtime", r"trained_frames 12, now"),
    ):
        with pytest.raises(ValueError, match=f"{setting}.* Choose the family .*of that run in Load AR Model"):
            run(family, policy=policy, run_name="film")
    run("self_forcing", policy=policy, run_name="other")
    for family, setting in (("krea_realtime", "sigmas"), ("infinite_forcing", r"local \(Head Cache Policy\)")):
        with pytest.raises(ValueError, match=f"{setting} .*hoose the family of that run in Load AR Model"):
            run(family, policy=policy, run_name="other")
    run("longlive", policy=policy, run_name="other")  # whose numbers are the same


def test_a_kept_run_in_its_own_steps_goes_on_to_the_same_bits(runs: Path, run) -> None:
    for number, family in enumerate(("causal_forcing_1step", "causal_forcing_2step", "longlive2", "longlive2_2step")):
        file, seconds = (LIVE, (0.2, 0.5)) if "longlive2" in family else (FILE, (0.05, 0.3))
        name = f"film {number}"
        run(family, file, seconds=seconds[0], run_name=name)
        record = json.loads((runs / name / "run.json").read_bytes())["settings"]
        assert record["solver"] == ("unipc2" if file == LIVE else "renoise")
        assert torch.equal(
            run(family, file, seconds=seconds[1], run_name=name)[0], run(family, file, seconds=seconds[1])[0]
        )


def test_each_part_of_a_batch_is_told_the_same_and_other_wrappers_stay(pack, load) -> None:
    import comfy.model_management
    from comfy.patcher_extension import WrappersMP

    telling = pack.module("nodes.host.telling").telling
    told = pack.module("headforcing_core.rollout.told").Told
    for file, channels, beside in ((FILE, 16, 0), (LIVE, 48, 0), (LINGBOT, 16, 20)):
        model, heard = load(file), []
        comfy.model_management.load_models_gpu([model])
        wan = model.model.diffusion_model

        def outside(
            executor: Callable, x: Tensor, timestep: Tensor, *args: object, heard: list = heard, **kwargs: object
        ):
            heard.append((tuple(x.shape), timestep.tolist()))
            return executor(x, timestep, *args, **kwargs)

        options: dict[str, object] = {"wrappers": {WrappersMP.DIFFUSION_MODEL: {"outside": [outside]}}}
        x = torch.randn(2, channels + beside, 3, 4, 4, generator=torch.Generator().manual_seed(5))
        times = torch.tensor([0.0, 800.0, 300.0])
        concat = torch.randn(1, beside, 3, 4, 4, generator=torch.Generator().manual_seed(6)) if beside else None
        text = conditioning(2)[0][0].expand(2, -1, -1)
        with torch.inference_mode():
            with telling(options, told(times, concat)):
                found = wan(x, torch.tensor([500.0, 500.0]), context=text, transformer_options=dict(options))
            plain = wan(x, torch.tensor([500.0, 500.0]), context=text, transformer_options=dict(options))
            for part in range(2):
                own = (
                    x[part : part + 1] if concat is None else torch.cat([x[part : part + 1, :channels], concat], dim=1)
                )
                wanted = wan(own, times[None], context=text[:1])
                assert (found[part] - wanted[0]).abs().max() < 1e-5 < (plain[part] - wanted[0]).abs().max()
        assert heard == [(tuple(x.shape), [500.0, 500.0])] * 2
        assert list(options["wrappers"][WrappersMP.DIFFUSION_MODEL]) == ["outside"]
