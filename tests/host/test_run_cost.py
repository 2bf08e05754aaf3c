"""What a run takes, said before its first step and when the memory runs out."""

import json
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.host.conftest import conditioning, load_vae

GIGA = 10**9
TOKENS, HEAD_DIM, HEADS, FLOAT32 = 48, 128, 12, 4
KEPT = (1, 4, 15)  # frames that local, anchor and memory heads keep under tiny
WHOLE_HISTORY = 18  # frames before the first compressed chunk of 3


@pytest.fixture(scope="module")
def video(video):
    """Pictures of 128 x 96, of which bytes are told apart in words."""
    return partial(video, width=128, height=96)


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def cost(pack):
    shape = pack.module("headforcing_core.geometry").VideoShape(20.0, 16.0, 832, 480, 3)
    smaller = {"paper": 2 * GIGA, "low_vram": GIGA}
    return pack.module("nodes.request.run_cost").RunCost("max", shape, 6 * GIGA, smaller, 3 * GIGA, GIGA, 2 * GIGA)


def of_types(heads: Counter[str]) -> tuple[int, int, int]:
    """How many are local, anchor and memory heads."""
    return heads["local"], heads["anchor"], heads["memory"]


def cost_note(outputs: tuple) -> str:
    (note,) = [note for note in json.loads(outputs[3])["notes"] if "for keys and values" in note]
    return note


def test_all_parts_and_what_there_is_are_named(cost) -> None:
    assert cost.told(20 * GIGA, 24 * GIGA) == (
        "27 chunks, 81 frames. Memory: up to 6.0 GB for keys and values, 12 GB in all with the model (3.0 GB), its "
        "pass over a chunk (1.0 GB) and the VAE (2.0 GB); 20 GB of 24 GB are free."
    )


@pytest.mark.parametrize(
    "total, begins, ends",
    [
        (12, "", ""),
        (11, "All together is more than there is", "which takes time."),
        (
            5,
            "Keys and values alone take more than the 5.0 GB of memory. ",
            "preset low_vram in Head Cache Policy (1.0 GB), ",
        ),
        (1, "Keys and values alone", "Choose a smaller width and height."),
    ],
)
def test_what_does_not_fit_is_warned_of(cost, total: int, begins: str, ends: str) -> None:
    warning = cost.warning(total * GIGA)
    assert warning.startswith(begins) and ends in warning and bool(warning) == bool(begins)


def test_the_preset_that_is_named_leaves_room_for_the_pass_and_the_vae(cost) -> None:
    assert "the VAE remembers 2.0 GB of the video" in cost.out_of_memory(GIGA)
    assert "Choose the preset paper" in cost.out_of_memory(5 * GIGA + 1)
    assert "Choose the preset low_vram" in cost.out_of_memory(5 * GIGA)
    assert cost.out_of_memory(4 * GIGA).endswith("Choose a smaller width and height.")


@pytest.fixture
def offered(pack, monkeypatch):
    """The presets that a run of 20 seconds is offered, the next best first; `coming` are presets of later versions."""
    policies = pack.module("headforcing_core.policy.presets").PRESETS
    run_cost = pack.module("nodes.request.run_cost")
    fit_policy = pack.module("headforcing_core.policy.fitting").fit_policy
    plan_memory = pack.module("headforcing_core.rollout.memory_size").plan_memory
    frame_of_head = pack.module("headforcing_core.kv_memory.memory_plan").FrameOfHead
    usual = pack.module("headforcing_core.families.self_forcing").SELF_FORCING
    labels = (("local",) * 2 + ("anchor",) * 3 + ("memory",) * 7,) * 30
    video = pack.module("headforcing_core.geometry").VideoShape(20.0, 16.0, 832, 480, 3)

    def names(preset: str, coming: dict | None = None, **changes) -> list[str]:
        monkeypatch.setattr(run_cost, "PRESETS", {**policies, **(coming or {})})
        fitted = fit_policy(replace(policies[preset], **changes), 3, 21, video.frames)
        memory = plan_memory(fitted, labels, video.chunks)
        return list(run_cost.run_cost(fitted, memory, True, video, frame_of_head(1560, HEAD_DIM, 2), usual).smaller)

    return names


WHOLE_FILM = {"rope": "absolute"}  # with `full`: more than any other


@pytest.mark.parametrize(
    ("preset", "changes", "best"),
    [
        ("recall", {}, ["tiny", "low_vram"]),  # goes on recalling, though low_vram keeps more
        ("tiny", {}, []),
        ("low_vram", {}, ["tiny"]),
        ("paper", {}, ["recall", "low_vram", "tiny"]),  # max takes as much: all that is there, at first
        ("max", {}, ["recall", "low_vram", "tiny"]),
        ("max", {"episode_choice": "recall"}, ["recall", "tiny", "low_vram"]),
        ("uniform_21", {}, ["recall", "low_vram", "tiny"]),  # never a comparison, though uniform takes less
        ("full", WHOLE_FILM, ["paper", "enhanced", "max", "recall", "low_vram", "tiny"]),
    ],
)
def test_the_preset_that_is_offered_takes_less_and_is_the_nearest(offered, preset, changes, best) -> None:
    assert offered(preset, **changes) == best


def test_of_presets_that_take_as_much_the_one_that_recalls_is_offered(pack, offered) -> None:
    paper = pack.module("headforcing_core.policy.presets").PRESETS["paper"]
    coming = {"late": replace(paper, name="late", episode_choice="recall")}
    assert offered("full", coming, **WHOLE_FILM)[:4] == ["late", "paper", "enhanced", "max"]


def test_the_report_says_what_the_run_takes_and_what_there_is(model, video) -> None:
    told = re.compile(
        r"2 chunks, 6 frames\. Memory: up to [\d.]+ MB for keys and values, [\d.]+ MB in all with the model "
        r"\([\d.]+ MB\) and its pass over a chunk \([\d.]+ MB\); [\d.]+ GB of [\d.]+ GB are free\."
    )
    assert told.fullmatch(cost_note(video(model, conditioning(1), seconds=1.0)))


def test_what_was_reckoned_is_the_most_that_the_run_holds(pack, model, video, monkeypatch) -> None:
    run_cost = pack.module("nodes.request.run_cost")
    reckoned, told = [], run_cost.RunCost.told
    monkeypatch.setattr(run_cost.RunCost, "told", lambda self, *room: reckoned.append(self) or told(self, *room))
    report = json.loads(video(model, conditioning(1), seconds=10.0)[3])
    (cost,) = reckoned
    per_frame = HEADS * 2 * TOKENS * HEAD_DIM * FLOAT32
    turned_again = 22 / HEAD_DIM  # the temporal pairs of K lie there a second time, as half of K and V
    assert cost.memory_bytes == int((WHOLE_HISTORY + 3) * per_frame * (1 + turned_again))
    assert report["peak_bytes"] <= cost.memory_bytes < cost.peak_bytes


def test_a_video_that_is_made_meanwhile_counts_what_the_vae_remembers(pack, model, video, vae, tmp_path) -> None:
    kept = video(model, conditioning(1), seconds=1.0, vae=vae, run_name="cost of a film")
    assert " and the VAE (4.8 MB); " in cost_note(kept)  # 24.63 numbers a pixel for each of its channels
    assert re.search(r" Disk: [\d.]+ MB for the chunks; [\d.]+ [GM]B are free\.$", cost_note(kept))
    unused = video(model, conditioning(1), seconds=1.0, vae=vae)
    assert "VAE" not in cost_note(unused) and "Disk" not in cost_note(unused)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "default"])
def test_the_line_tells_the_weights_and_the_vae_as_they_are_loaded(pack, load, video, weight_dtype: str) -> None:
    import folder_paths

    model = load("self_forcing_dmd.safetensors", weight_dtype=weight_dtype)
    weights = model.model.diffusion_model.state_dict().values()
    numbers, matrices = (sum(x.numel() for x in weights if x.ndim >= least) for least in (0, 2))
    models = Path(folder_paths.get_full_path_or_raise("vae", "wan_2.1_vae.safetensors")).parents[1]
    small = load_vae(models / "vae_approx" / "lighttaew2_1.safetensors")
    labelled = pack.run("HeadForcingProfileHeads", model=model, rule="random")[0]
    made = video(model, conditioning(1), 1.0, "tiny", vae=small, run_name=f"small {weight_dtype}", profile=labelled)
    told = re.search(r"up to ([\d.]+) MB for keys.*the model \(([\d.]+) MB\).*the VAE \(([\d.]+) MB\)", cost_note(made))
    assert told is not None
    each = {"fp8_e4m3fn": 1, "default": FLOAT32}[weight_dtype]
    least = matrices * each + (numbers - matrices) * min(each, 2)
    assert 0.95 * least <= float(told[2]) * 1e6 <= least + (numbers - matrices) * FLOAT32 + 0.1e6
    assert float(told[3]) == pytest.approx(84 * 128 * 96 * small.vae_dtype.itemsize / 1e6, abs=0.06)
    heads = [Counter(layer) for layer in labelled.labels]
    codes = sum(n * (frames + 3) for layer in heads for n, frames in zip(of_types(layer), KEPT, strict=True))
    most = [max(of_type) for of_type in zip(*map(of_types, heads), strict=True)]
    read = sum(n * (frames + 3) for n, frames in zip(most, KEPT, strict=True))
    memory = codes * 2 * TOKENS * (HEAD_DIM + 4) + read * 2 * TOKENS * HEAD_DIM * FLOAT32
    assert float(told[1]) == pytest.approx(memory / 1e6, abs=0.06)


def test_a_run_that_goes_on_counts_only_the_chunks_still_to_be_made(pack, model, video) -> None:
    video(model, conditioning(1), seconds=1.0, run_name="short first")
    longer = cost_note(video(model, conditioning(1), seconds=2.0, run_name="short first"))
    chunk = pack.module("nodes.request.run_cost").chunk_bytes(
        pack.module("headforcing_core.geometry").VideoShape(2.0, 16.0, 128, 96, 3)
    )
    assert longer.startswith("3 chunks") and f"Disk: {chunk / 1e6:.1f} MB" in longer
