"""What becomes of a text on its way to a video: notes in reports, a kept run that meets another draw or an older
reading, live prompts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.host.conftest import Pack
from tests.host.test_live_prompts import NODE, Typist, typist

__all__ = ["typist"]
FOX, RIVER = "a red fox in deep snow", "the fox finds a frozen river"
HALF, WHOLE = 0.5, 1.2  # one chunk, two chunks


@pytest.fixture(scope="module")
def make(pack: Pack, load, clip) -> Callable[..., tuple]:
    """Make a small video under a schedule, or the text of one; LATENT's samples and the report."""
    model = load("self_forcing_dmd.safetensors")
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]

    def run(schedule: object, seconds: float = WHOLE, **inputs: object) -> tuple[torch.Tensor, dict]:
        if isinstance(schedule, str):
            schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=schedule)[0]
        given = {"model": model, "schedule": schedule, "policy": policy, "seconds": seconds, "width": 16, "height": 16}
        latent, _, _, report = pack.run("HeadForcingSampler", unique_id=NODE, **given, **inputs)
        return latent["samples"], json.loads(report)

    return run


@pytest.fixture(scope="module")
def as_read_before(pack: Pack, clip) -> Callable[[str], object]:
    """A schedule of one scene with this prompt, as version 0.1.0 read it: to the letter."""
    scene, socket = pack.module("headforcing_core.schedule.scenes").Scene, pack.module("nodes.sockets").PromptSchedule

    def schedule(prompt: str) -> object:
        text = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        return socket((scene(0.0, None, prompt, None),), (text,), "recache", 4, clip)

    return schedule


def test_notes_stand_in_both_reports(pack: Pack, clip, make) -> None:
    text = f"[0s] {FOX} <lora:fox:1>\n[0.5s] {RIVER}\n5s: a city"
    notes = [
        "The scene at 0 s: '<lora:fox:1>' loads nothing and is read as words. A LoRA is an input of Load AR Model.",
        "The scene at 0.5 s: line 3, '5s: a city', begins no scene: its time is not in brackets. Write it like [5s].",
    ]
    schedule, report = pack.run("HeadForcingPromptSchedule", clip=clip, text=text)
    assert report.splitlines()[-2:] == notes
    told = make(schedule)[1]
    assert [note for note in told["notes"] if note in notes] == notes
    assert told["segments"][1]["prompt"] == f"{RIVER} 5s: a city"


def test_a_schedule_can_be_cancelled_before_each_of_its_prompts(pack: Pack, clip) -> None:
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        pack.run("HeadForcingPromptSchedule", clip=clip, text=f"[0s] {FOX}\n[5s] {RIVER}")


def test_a_kept_run_that_meets_another_draw_says_both_texts_and_the_one_to_go_on_with(runs: Path, make) -> None:
    first, second = (f"[0s] {FOX}, {'golden light between bare birches, ' * 5}{last}" for last in ("fog", "rain"))
    half = make(first, HALF, run_name="film")[0]
    kept = json.loads((runs / "film/run.json").read_text())
    assert kept["segments"][0]["prompt"] == first.removeprefix("[0s] ")
    with pytest.raises(ValueError) as refusal:
        make(second, run_name="film")
    message, schedule = str(refusal.value).split(":\n")
    assert "birches, fog', now it would be '..." in message and "birches, rain'. 1 chunks" in message
    assert message.endswith(
        "To set it back, also where a choice such as {red|blue} was drawn another way, put the texts of the run into "
        "Prompt Schedule"
    )
    whole, report = make(schedule, run_name="film")
    assert (schedule, report["schedule"]) == (first, first)
    assert torch.equal(whole[:, :, : half.shape[2]], half)


@pytest.mark.parametrize(
    ("before", "now", "is_seen"),  # whether the tokenizer, which drops signs that it lacks, sees the difference
    [
        (f"\ufeff{FOX}", f"\ufeff{FOX}", False),
        (f"{FOX} // the hero", f"[0s] {FOX} // the hero\n", True),
        (f"{FOX} // the hero", FOX, True),  # as the page sends it
        (f": {FOX}\u00ad", f"[0s]: {FOX}\u00ad", True),
        (f"{FOX} \\{{a\\}}", f"{FOX} \\{{a\\}}", False),
    ],
)
def test_a_run_that_an_older_version_read_otherwise_goes_on_as_it_began(
    runs: Path, make, as_read_before, before: str, now: str, is_seen: bool
) -> None:
    schedule = as_read_before(before)
    make(schedule, HALF, run_name="old")
    whole, report = make(now, run_name="old")
    assert torch.equal(whole, make(schedule)[0])
    assert torch.equal(whole, make(now)[0]) == (not is_seen)
    assert report["segments"][0]["prompt"] == before
    assert any(note.startswith("Chunk 0 goes on under its text as the version that began") for note in report["notes"])


@pytest.mark.parametrize(
    "before", [f"{FOX} \u200b[5s] {RIVER}", f'0: "{FOX}", 24: "{RIVER}"', "a {red|blue} fox", f"\u30100s\u3011{FOX}"]
)
def test_a_run_under_a_text_that_is_refused_or_drawn_now_goes_on_with_the_schedule_that_is_told(
    runs: Path, make, as_read_before, before: str
) -> None:
    schedule = as_read_before(before)
    make(schedule, HALF, run_name="old")
    with pytest.raises(ValueError, match="has the prompt") as refusal:
        make("another text", run_name="old")
    told = str(refusal.value).split(":\n")[1]
    whole, report = make(told, run_name="old")
    assert torch.equal(whole, make(schedule)[0])
    assert report["segments"][0]["prompt"] == before


def test_an_older_reading_counts_for_nothing_where_chunks_are_made_anew(runs: Path, make, as_read_before) -> None:
    make(as_read_before(f"{FOX}\u200b"), HALF, run_name="old")
    report = make(f"{FOX}\u200b", run_name="old", from_chunk=0, seed=5)[1]
    assert report["segments"][0]["prompt"] == FOX


def test_a_live_prompt_has_its_notes_in_the_report_and_its_braces_in_the_schedule(make, typist: Typist) -> None:
    typist.at = {1: ("a {red|blue} fox", "recache", ("The live prompt: a note.",))}
    report = make(FOX, 2.7)[1]
    assert "The live prompt: a note." in report["notes"]
    assert report["schedule"] == f"[0s] {FOX}\n[1.312s recache] a \\{{red|blue\\}} fox"
    typist.at = {}
    again = make(report["schedule"], 2.7)[1]
    assert [segment["prompt"] for segment in again["segments"]] == [FOX, "a {red|blue} fox"]


def test_weights_of_words_act_so_nothing_is_told_of_them(clip) -> None:
    plain, weighted = (clip.encode_from_tokens(clip.tokenize(text)) for text in ("a red fox", "a (red:1.5) fox"))
    assert plain.shape == weighted.shape and not torch.equal(plain, weighted)
