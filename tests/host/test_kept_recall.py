"""Runs that recall old chunks: kept or not, stopped or not, made anew from a chunk on, they make the same bits."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.host.conftest import Pack
from tests.host.test_kept_run import stopped
from tests.host.test_live_prompts import NODE, Typist, typist

__all__ = ["typist"]

FOX, RIVER = "a red fox in deep snow", "the fox finds a frozen river"
FILM = f"[0s] {FOX}\n[3.6s recache] {RIVER}\n[5.8s recache] {FOX}"
CHUNKS, CHANGES, COMPRESSED = 10, (5, 8), 4  # nine frames fit into the ten of memory heads, twelve do not
SECONDS = (12 * CHUNKS - 3) / 16
SIZE, STEPS = 32, (1.0, 0.5, 0.0)

Make = Callable[..., Tensor]


@pytest.fixture(scope="module")
def model(load):
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def make(pack: Pack, model, clip) -> Make:
    """Make a film; LATENT's samples."""
    profile = pack.run("HeadForcingProfileHeads", model=model, rule="random")[0]
    policy = pack.run("HeadForcingCachePolicy", preset="recall", memory_sink=1, memory_recent=3)[0]

    def run(text: str = FILM, **inputs: object) -> Tensor:
        schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=text)[0]
        given = {"schedule": schedule, "profile": profile, "policy": policy, "sigmas": torch.tensor(STEPS)}
        size = {"seconds": SECONDS, "width": SIZE, "height": SIZE}
        return pack.run("HeadForcingSampler", unique_id=NODE, **{"model": model, **given, **size, **inputs})[0][
            "samples"
        ]

    return run


@pytest.fixture(scope="module")
def counted(model) -> Iterator[list[int]]:
    """Grows by one with every pass of the model."""
    passes: list[int] = []
    hook = model.model.diffusion_model.blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
    yield passes
    hook.remove()


@pytest.fixture(scope="module")
def unkept(make: Make, counted: list[int]) -> tuple[Tensor, int]:
    """The film that is not kept, and the passes that it took."""
    before = len(counted)
    return make(), len(counted) - before


@pytest.fixture(scope="module")
def whole(unkept: tuple[Tensor, int]) -> Tensor:
    """The film that is not kept."""
    return unkept[0]


def choices_of(run: Path) -> dict[int, dict]:
    """What a run's journal says was chosen, by chunk."""
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return {line["chunk"]: line["choice"] for line in lines if "choice" in line}


def write_journal(path: Path, lines: list[dict]) -> None:
    """A journal of these lines, sealed."""
    before, sealed = "headforcing.journal/1", ""
    for line in lines:
        text = json.dumps(line, separators=(",", ":"))[:-1]
        before = hashlib.sha256(f"{before}{text}".encode()).hexdigest()
        sealed += f'{text},"seal":"{before}"}}\n'
    path.write_text(sealed)


def check_latent(latent: Tensor, run: Path, model, before: Tensor | None = None) -> None:
    """A LATENT is what was there before and then, out of model space, each chunk's file."""
    chunks = [load_file(path)["latent"] for path in sorted(run.glob("chunk_*"))]
    frames = [] if before is None else [before]
    assert torch.equal(latent, torch.cat([*frames, *map(model.model.process_latent_out, chunks)], dim=2))


def test_a_kept_film_is_one_that_is_not_kept(runs: Path, make: Make, model, whole: Tensor) -> None:
    latent = make(run_name="film")
    assert torch.equal(latent, whole)
    check_latent(latent, runs / "film", model)
    choices = choices_of(runs / "film")
    assert list(choices) == [COMPRESSED, *CHANGES]
    first, middle, last = choices.values()
    assert [choice["candidates"] for choice in (first, middle, last)] == [2, 3, 6]
    assert all(choice["frames"] for choice in choices.values()) and len(last["frames"]) == 2
    assert torch.equal(make(run_name="film"), whole)  # given again without a step


@pytest.mark.parametrize("after", [CHANGES[1], CHANGES[1] + 1], ids=["before its choice is kept", "after"])
def test_a_stopped_film_goes_on_to_the_same_bits_without_a_look_at_what_is_finished(
    pack: Pack,
    runs: Path,
    make: Make,
    unkept: tuple[Tensor, int],
    counted: list[int],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    whole, passes = unkept
    stopped(pack, monkeypatch, after, lambda: make(run_name="film"))
    kept = choices_of(runs / "film")
    assert [*kept] == [chunk for chunk in (COMPRESSED, *CHANGES) if chunk < after]
    before = len(counted)
    assert torch.equal(make(run_name="film"), whole)
    looks = sum(choice["candidates"] > 1 for choice in kept.values())
    assert len(counted) - before == passes - after * (len(STEPS) - 1) - looks
    again = choices_of(runs / "film")
    assert again.items() >= kept.items() and [*again] == [COMPRESSED, *CHANGES]


def test_another_seed_from_a_chunk_on_is_a_fresh_run_that_does_the_same(
    runs: Path, make: Make, model, whole: Tensor
) -> None:
    make(run_name="film")
    first = CHANGES[0] + 1
    again = make(run_name="film", seed=2, from_chunk=first)
    assert torch.equal(again[:, :, : 3 * first], whole[:, :, : 3 * first])
    assert not torch.equal(again[:, :, 3 * first :], whole[:, :, 3 * first :])
    check_latent(again, runs / "film", model)
    make(run_name="fresh", seconds=(12 * first - 3) / 16)
    assert torch.equal(make(run_name="fresh", seed=2, from_chunk=first), again)
    assert choices_of(runs / "fresh") == choices_of(runs / "film")


def test_a_live_prompt_recalls_and_goes_on_recalling(
    pack: Pack, runs: Path, make: Make, typist: Typist, whole: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed at the times of the film's scenes, it is the same video."""
    typist.at = {CHANGES[0] - 1: (RIVER, "recache"), CHANGES[1] - 1: (FOX, "recache")}
    stopped(pack, monkeypatch, CHANGES[1] + 1, lambda: make(FOX, run_name="film"))
    typist.at = {}
    assert torch.equal(make(FOX, run_name="film"), whole)
    assert [*choices_of(runs / "film")] == [COMPRESSED, *CHANGES]


@pytest.mark.parametrize("begins", ["with a start image", "with previous"])
def test_what_was_there_before_is_recalled(
    pack: Pack, runs: Path, make: Make, model, vae, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    random, chunks = torch.Generator().manual_seed(4), CHANGES[0] + 2
    if begins == "with previous":
        before = torch.randn(1, 16, 19, SIZE // 8, SIZE // 8, generator=random)
        inputs = {"previous": {"samples": before}, "seconds": 12 * chunks / 16}
    else:
        before = None
        inputs = {"start_image": torch.rand(1, SIZE, SIZE, 3, generator=random), "vae": vae}
        inputs["seconds"] = (12 * chunks + 1) / 16
    expected = make(**inputs)
    stopped(pack, monkeypatch, chunks - 1, lambda: make(run_name="film", **inputs))
    latent = make(run_name="film", **inputs)
    assert torch.equal(latent, expected)
    check_latent(latent, runs / "film", model, expected[:, :, :1] if before is None else before)
    recalled = [frame for choice in choices_of(runs / "film").values() for frame in choice["frames"]]
    assert len(recalled) > 1 and (before is None or 3 <= min(recalled) < before.shape[2] - 6)


def test_a_film_of_which_a_choice_is_lost_says_so_and_stays_as_it_is(runs: Path, make: Make) -> None:
    make(run_name="film", seconds=(12 * (COMPRESSED + 1) - 3) / 16)
    journal = runs / "film" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    del lines[COMPRESSED]["choice"]
    write_journal(journal, [line for line in lines if line.pop("seal")])

    def kept() -> dict[str, bytes]:  # but the film strip, which says how long the film is to be
        return {path.name: path.read_bytes() for path in journal.parent.iterdir() if path.name != "strip.jsonl"}

    before = kept()
    with pytest.raises(RuntimeError, match=f"What chunk {COMPRESSED} recalled of the past is not recorded"):
        make(run_name="film")
    assert kept() == before
