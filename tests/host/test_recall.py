"""The policy recall in a real run: what its node, status and report say, and what it takes."""

import json
import re

import pytest
import torch
from torch import Tensor

BOUND = re.compile(
    r"Recall: at most (\d+) looks? and (\d+) chunks? read again \((\d+) passe?s?, beside (\d+)\)"
    r"(?:, and (\d+) times? more where the view changes without a new prompt; each of those, or|;) a live prompt,? "
    r"adds up to (\d+)\."
)
STEPS = 4


@pytest.fixture(scope="module")
def film(pack, model, labelled, clip):
    """Runs a schedule under a policy; its report."""

    def run(text: str, seconds: float, sigmas: Tensor | None = None, **policy: object) -> dict:
        outputs = pack.run(
            "HeadForcingSampler",
            model=model,
            schedule=pack.run("HeadForcingPromptSchedule", clip=clip, text=text)[0],
            seconds=seconds,
            width=128,
            height=96,
            profile=labelled,
            sigmas=sigmas,
            policy=pack.run("HeadForcingCachePolicy", **policy)[0],
        )
        return json.loads(outputs[3])

    return run


def said_before(pack, seconds: float, steps: int) -> str:
    """What the line under the widgets says of such a run; 0 steps are those of the model."""
    reckoned = pack.module("nodes.web_api.widget_cost")
    wanted = reckoned.SamplerWidgets(seconds, 16.0, 128, 96, None, None, "none", steps)
    facts = pack.module("headforcing_core.checkpoint.ar_facts").assumed_facts("")
    policy = pack.module("headforcing_core.policy.presets").PRESETS["recall"]
    (told,) = [part for part, _ in reckoned.cost_parts(wanted, facts, policy) if part.startswith("recall")]
    return told


def in_one_line(report: dict) -> str:
    """The same of what a run said, if it has no prompt changes."""
    _, _, passes, _, views, each = bound_in(report)
    return f"recall up to {passes + views * each} passes more, and {each} for each prompt change"


def bound_in(report: dict) -> list[int]:
    """Looks, loads, passes, passes without, looks without a change, passes of a choice."""
    (found,) = [match for note in report["notes"] if (match := BOUND.search(note))]
    return [int(number or 0) for number in found.groups()]


def test_a_run_tells_its_choices_and_keeps_to_what_was_said_before(pack, film) -> None:
    text = "[0s] a red fox\n[8s] a city at night\n[10s soft 2] a red fox"
    report = film(text, 14.0, preset="recall")
    assert (report["settings"]["episode_choice"], report["settings"]["recall_share"]) == ("recall", 0.2)
    chosen = {chunk["chunk"]: chunk["choice"] for chunk in report["chunks"] if chunk["choice"]}
    changes = [segment["chunks"][0] for segment in report["segments"][1:]]
    assert {6, changes[0], changes[1] + 1} <= set(chosen)
    for number, choice in chosen.items():
        seen = report["chunks"][number]["seen"]["memory"]
        read = [frame for frame, _, tier in seen if tier == "episode"]
        assert read == [frame + i for frame in choice["frames"] for i in range(3)]
        assert len(choice["frames"]) == len(choice["likeness"]) <= 2 and choice["frames"] == sorted(choice["frames"])
        assert choice["lowest"] <= min(choice["likeness"]) <= max(choice["likeness"]) <= choice["best"]
    looks, loads, passes, anyway, views, each = bound_in(report)
    chunks = report["settings"]["chunks"]
    assert (looks, loads, passes, each) == (3, 6, 9, 3)
    assert anyway == chunks * STEPS + chunks - 1 + 2
    took = report["recall"]
    assert took["choices"] == len(chosen) and took["looks"] == sum(c["candidates"] > 1 for c in chosen.values())
    assert took["passes"] == took["looks"] + took["loads"] == sum(c["passes"] for c in chosen.values())
    assert took["passes"] <= passes + views * each
    assert f"Recalled: {took['looks']} looks and {took['loads']} chunks read again, " in report["notes"][-1]
    assert all(chunk["decision"] is None for chunk in report["chunks"])


def test_the_history_is_as_large_as_under_paper_and_the_status_says_from_when_it_is(pack, film, monkeypatch) -> None:
    status = pack.module("nodes.status.node_status").NodeStatus
    lines, say = [], status.say
    monkeypatch.setattr(status, "say", lambda self, text: lines.append(text) or say(self, text))
    recalled, usual = (film("a red fox", 5.25, preset=preset) for preset in ("recall", "paper"))
    assert recalled["kv_bytes"] == usual["kv_bytes"]
    assert said_before(pack, 5.25, 0) == said_before(pack, 5.25, STEPS) == in_one_line(recalled)
    assert usual["recall"] is None and all(chunk["choice"] is None for chunk in usual["chunks"])
    assert not any("ecall" in note for note in usual["notes"])
    first = recalled["chunks"][6]["choice"]["frames"]
    clocks = ", ".join(dict.fromkeys(f"0:{round((4 * frame - 3) / 16):02d}" for frame in first))
    assert len([line for line in lines if f" | {len(first)} episodes from {clocks}, 0.0" in line]) == 1
    assert len([line for line in lines if "episodes from" in line]) == 1
    looked = lines.index("looking back for chunk 7 of 8")  # once, and after it the line of the chunk
    assert lines[looked + 1].startswith("chunk 7 of 8, ") and lines[looked - 1].startswith("chunk 6 of 8, ")
    assert len([line for line in lines if "looking back" in line]) == 1


@pytest.mark.parametrize(("steps", "passes"), [(1, 3), (2, 2)])
def test_the_step_that_a_recipe_of_one_makes_again_is_counted_apart(pack, film, steps: int, passes: int) -> None:
    report = film("a red fox", 6.0, torch.linspace(1.0, 0.0, steps + 1), preset="recall")
    assert report["recall"] == {"choices": 1, "looks": 1, "loads": 1, "passes": passes}
    assert bound_in(report)[:3] == [1, 2, passes + 1]
    assert said_before(pack, 6.0, steps) == in_one_line(report)


@pytest.mark.parametrize(
    ("inputs", "kept"),
    [
        ({"preset": "recall"}, ("chunk", "recall", -1.0)),
        ({"preset": "paper", "episode_choice": "recall", "recall_share": 0.5}, ("chunk", "recall", 0.5)),
        ({"preset": "low_vram", "episode_choice": "recall"}, ("chunk", "recall", -1.0)),
        ({"preset": "low_vram"}, ("frame", "novelty", -1.0)),
        ({"preset": "recall", "episode_choice": "novelty", "episode": "frame"}, ("frame", "novelty", -1.0)),
        ({"preset": "recall", "episode_choice": "novelty"}, ("chunk", "novelty", -1.0)),
    ],
)
def test_the_node_makes_the_policy_that_is_meant(pack, inputs: dict, kept: tuple) -> None:
    policy, told = pack.run("HeadForcingCachePolicy", **inputs)
    assert (policy.episode, policy.episode_choice, policy.recall_share) == kept
    assert f"episode {kept[0]}, chosen by {kept[1]}" in told and "nothing" not in told


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"preset": "recall", "episode": "frame"}, "episode_choice is recall, but episode is frame"),
        ({"preset": "low_vram", "episode_choice": "recall", "episode": "frame"}, "but episode is frame"),
        ({"preset": "full", "episode_choice": "recall"}, "The preset full keeps every frame"),
        ({"preset": "full", "recall_share": 0.1}, "The preset full keeps every frame"),
        ({"preset": "recall", "recall_share": 1.0}, "recall_share is 1.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(pack, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack.run("HeadForcingCachePolicy", **inputs)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (
            {"preset": "recall", "novelty_percentile": 80.0},
            "novelty_percentile does nothing, since episode",
        ),
        ({"preset": "paper", "recall_share": 0.1}, "recall_share does nothing, since episode_choice is novelty."),
        ({"preset": "recall", "episode_choice": "novelty", "recall_share": 0.0}, "recall_share does nothing"),
        ({"preset": "recall", "memory_episodes": 0}, "but memory_episodes is 0, so that nothing is recalled."),
        ({"preset": "uniform", "episode_choice": "recall"}, "but memory_episodes is 0, so that nothing is recalled."),
    ],
)
def test_what_does_nothing_is_said(pack, inputs: dict, sentence: str) -> None:
    assert sentence in pack.run("HeadForcingCachePolicy", **inputs)[1].splitlines()[-1]


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        (
            (25, 50, 75, 453, 13, 3),
            "Recall: at most 25 looks and 50 chunks read again (75 passes, beside 453), and 13 times more where the "
            "view changes without a new prompt; each of those, or a live prompt, adds up to 3.",
        ),
        (
            (1, 1, 2, 44, 0, 2),
            "Recall: at most 1 look and 1 chunk read again (2 passes, beside 44); a live prompt adds up to 2.",
        ),
        ((0, 1, 1, 30, 1, 2), "Recall: at most 0 looks and 1 chunk read again (1 pass, beside 30), and 1 time more "),
        ((0, 0, 0, 9, 0, 7), "(0 passes, beside 9); a live prompt adds up to 7."),
    ],
)
def test_the_bound_in_words(pack, bound: tuple, told: str) -> None:
    made = pack.module("headforcing_core.rollout.recall_bound").RecallBound(*bound)
    said = pack.module("nodes.request.run_cost").recall_in_words(made)
    assert told in said and (BOUND.search(said) is not None)
