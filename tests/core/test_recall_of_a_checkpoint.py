"""What a head profile says about recall: read and written, gone by, and kept with a run."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from run_specs import LABELS, keep_run, make_chunks, make_spec, write_record
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_model import CHANNELS, CoreBackbone, TinyModel

from headforcing_core.heads.profile import HeadProfile
from headforcing_core.heads.profile_file import load_profile, save_profile
from headforcing_core.heads.rules import LabelRule
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import FittedPolicy, fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.episodes import descriptor_layers
from headforcing_core.rollout.loop import rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment
from headforcing_core.rollout.recall import Choice
from headforcing_core.run_store.record import RunProfile
from headforcing_core.run_store.store import RunStore

LAYERS, CHUNKS = 4, 12
TWELVE = (("memory",),) * 12
NEWER = "made with recall by layers 0, 1 and share 0.4, now recall by layers"


def profile(layers: tuple[int, ...] | None = None, share: float | None = None) -> HeadProfile:
    """Of a model of 12 layers."""
    return HeadProfile("weights:0", "fast", LabelRule(), TWELVE, None, {}, recall_layers=layers, recall_share=share)


def fitted(share: float = -1.0, preset: str = "recall") -> FittedPolicy:
    policy = replace(PRESETS[preset], recall_share=share, compress_from_chunk=1, fills=False)
    return fit_policy(policy, 3, 21, 3 * CHUNKS)


@pytest.mark.parametrize(
    "layers, share", [(None, None), ((6, 8, 10), 0.25), ((11,), None), (None, 0), (tuple(range(8)), 0.999)]
)
def test_layers_and_share_survive_the_file(tmp_path: Path, layers: tuple[int, ...] | None, share: float | None) -> None:
    save_profile(profile(layers, share), tmp_path / "p.safetensors")
    read = load_profile(tmp_path / "p.safetensors")
    assert read == profile(layers, share)
    with safe_open(tmp_path / "p.safetensors", "pt") as file:
        told = {"recall_layers", "recall_share"} & set(file.metadata())
    assert told == {f"recall_{name}" for name, value in (("layers", layers), ("share", share)) if value is not None}


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("recall_layers", "[]", "recall_layers of a profile is .*1 to 8 layers, from 0 to 11, each once and in order"),
        ("recall_layers", "[8, 6]", "each once and in order"),
        ("recall_layers", "[6, 6]", "each once and in order"),
        ("recall_layers", "[6, 12]", "from 0 to 11"),
        ("recall_layers", "[-1]", "from 0 to 11"),
        ("recall_layers", "[0, 1, 2, 3, 4, 5, 6, 7, 8]", "1 to 8 layers"),
        ("recall_layers", "[true]", "recall_layers of a profile"),
        ("recall_layers", "[6.0]", "recall_layers of a profile"),
        ("recall_layers", '"68"', "recall_layers of a profile"),
        ("recall_layers", "[[6]]", "recall_layers of a profile"),
        ("recall_layers", "6", "description cannot be read"),
        ("recall_layers", "[6", "description cannot be read"),
        ("recall_share", "1", "recall_share of a profile is 1. It is a number, 0 or more and below 1"),
        ("recall_share", "-1", "recall_share of a profile is -1"),
        ("recall_share", "NaN", "recall_share of a profile is nan"),
        ("recall_share", "true", "recall_share of a profile is True"),
        ("recall_share", '"0.2"', "recall_share of a profile is '0.2'"),
    ],
)
def test_what_cannot_be_is_a_damaged_profile(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / "p.safetensors"
    save_profile(profile(), path)
    with safe_open(path, "pt") as file:
        described = file.metadata()
    save_file({}, path, metadata={**described, name: text})
    with pytest.raises(RuntimeError, match=f"damaged head profile.*{message}"):
        load_profile(path)


@pytest.mark.parametrize(
    "asked, says, share",
    [(-1, None, 0.2), (-1, 0.35, 0.35), (-1, 0, 0), (0.1, 0.35, 0.1), (0, 0.35, 0), (0.1, None, 0.1)],
)
def test_the_share_that_is_asked_for_wins_over_the_profile(asked: float, says: float | None, share: float) -> None:
    found = fitted(asked).recalling((1, 2), says)
    assert (found.recall_share, found.recall_layers) == (share, (1, 2))
    used = profile((1, 2), says).as_used(found)
    assert (used.recall_layers, used.recall_share) == ((1, 2), share)


def test_a_profile_that_says_nothing_is_used_by_the_usual_layers_and_share() -> None:
    used = profile().as_used(fitted().recalling(None, None))
    assert (used.recall_layers, used.recall_share) == ((6, 8, 10), 0.2)


@pytest.mark.parametrize("preset", ["paper", "low_vram", "full", "uniform"])
def test_policies_that_do_not_recall_go_by_the_depth_alone(preset: str) -> None:
    policy = fit_policy(PRESETS[preset], 3, 21, 15)
    assert policy.recalling((1,), 0.5) == policy
    used = profile((1,), 0.5).as_used(policy)
    assert (used.recall_layers, used.recall_share) == (None, None)
    plan = RolloutPlan(policy, 5, 8, 8, (1.0, 0.0), (Segment(0, None),))
    assert set(plan.memory_plan(TWELVE).capture) <= {6, 8, 10}


@pytest.mark.parametrize("share", [1, -0.5, -2, float("nan")])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"recall_share is {share}.*Use -1 for what the head profile says"):
        replace(PRESETS["recall"], recall_share=share)


def choices(layers: tuple[int, ...] | None, capture: Sequence[int] = ()) -> list[Choice]:
    """What a film of three texts recalls, by these layers; with a memory that captures more than these."""
    model = TinyModel(layers=LAYERS, heads=2)
    segments = tuple(Segment(first, model.text(first), "recache") for first in (0, 3, 6, 9))
    plan = RolloutPlan(fitted().recalling(layers, None), CHUNKS, 8, 8, (1.0, 0.5, 0.0), segments)
    wanted = plan.memory_plan((("memory", "local"),) * LAYERS)
    assert wanted.capture == (layers or descriptor_layers(LAYERS))
    memory = KVMemory(replace(wanted, capture=tuple(capture) or wanted.capture), dense_attention, rotate)
    noise = PerChunkNoise(1, (1, CHANNELS, 3, 8, 8))
    made = rollout(CoreBackbone(model, memory), memory, plan, noise)
    return [chunk.choice for chunk in made if chunk.choice is not None]


def test_it_is_recalled_by_the_layers_that_the_profile_names() -> None:
    usual = choices(None)
    assert choices(descriptor_layers(LAYERS)) == usual == choices(None, range(LAYERS))
    assert len(usual) > 2 and choices((0,)) != usual and choices((0, 1)) != choices((0,))
    first_looks = [next(each for each in choices(layers) if each.candidates > 1) for layers in ((0, 1), (0,), (1,))]
    assert {look.frames[-1] for look in first_looks} == {6}
    together, one, other = (look.likeness[-1] for look in first_looks)
    assert together == pytest.approx((one + other) / 2, abs=1e-6) and one != pytest.approx(other, abs=1e-3)


def kept(root: Path, layers: tuple[int, ...] | None, share: float | None) -> RunProfile:
    """A run that was kept with these; what is read of it again."""
    spec = replace(make_spec(), profile=RunProfile("weights:0", "head_forcing", LABELS, layers, share))
    with RunStore.open(root, "fox", spec) as store:
        make_chunks(store, 3)
    record = json.loads((root / "fox" / "run.json").read_bytes())["profile"]
    assert record["recall_layers"] == (None if layers is None else list(layers)) and record["recall_share"] == share
    assert spec.profile is not None
    return spec.profile


def test_a_run_goes_on_by_the_layers_and_share_that_it_is_kept_with(tmp_path: Path) -> None:
    before = kept(tmp_path, (0, 1), 0.4)
    with RunStore.open(tmp_path, "fox", replace(make_spec(), profile=before)) as store:
        assert store.finished == 3
    for now, shown in (
        (replace(before, recall_layers=(1,)), "1 and share 0.4"),
        (replace(before, recall_share=0.2), "0, 1 and share 0.2"),
        (replace(before, recall_layers=None, recall_share=None), "1 and share 0.2"),
    ):
        with pytest.raises(ValueError, match=f"{NEWER} {shown}.*Connect the profile of that run"):
            RunStore.open(tmp_path, "fox", replace(make_spec(), profile=now))


def test_a_run_whose_record_lacks_them_was_made_as_is_usual(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    record = json.loads((folder / "run.json").read_bytes())
    for name in ("recall_layers", "recall_share"):
        del record["profile"][name]
    write_record(folder, record)
    usual = RunProfile("weights:0", "head_forcing", LABELS, descriptor_layers(len(LABELS)), 0.2)
    with RunStore.open(tmp_path, "fox", replace(make_spec(), profile=usual)) as store:
        assert store.finished == 6
    with pytest.raises(ValueError, match="and share 0.2, now recall by layers 1 and share 0.3"):
        RunStore.open(tmp_path, "fox", replace(make_spec(), profile=replace(usual, recall_share=0.3)))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("recall_layers", [], "profile.recall_layers names 0 layers, not 1 to 8"),
        ("recall_layers", [1, 0], r"recall_layers\[1\] is 0, not a whole number from 2"),
        ("recall_layers", [2], r"recall_layers\[0\] is 2, not a whole number from 0 to 1"),
        ("recall_layers", 3, "recall_layers is 3, not a list"),
        ("recall_share", 1, "recall_share is 1, not a number"),
        ("recall_share", -0.1, "recall_share is -0.1, not a number"),
        ("recall_share", "0.2", "recall_share is '0.2', not a number"),
        ("recall_more", 1, "newer version of this pack: profile has the unknown name 'recall_more'"),
    ],
)
def test_what_is_kept_of_it_is_checked(tmp_path: Path, name: str, value: object, message: str) -> None:
    folder = keep_run(tmp_path)
    record = json.loads((folder / "run.json").read_bytes())
    record["profile"][name] = value
    write_record(folder, record)
    with pytest.raises(RuntimeError, match=message):
        RunStore.open(tmp_path, "fox", make_spec())
