"""Runs that older versions kept: they go on, to the bits that those versions would have made."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.old_runs.record import CHUNKS, MODEL, MORE, RUNS, keep_run, recorded_vae

OLD = Path(__file__).resolve().parents[1] / "old_runs"
KEPT = [folder for version in sorted(OLD.glob("*.*.*")) for folder in sorted(version.iterdir()) if folder.name in RUNS]


@pytest.fixture(scope="module")
def vae(pack, tmp_path_factory: pytest.TempPathFactory):
    """The VAE of the recording."""
    return recorded_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture
def go_on(pack, load, vae, runs: Path) -> Callable[..., Path]:
    """Put a recorded run there, in a form of its run.json, and go on with it; its folder."""

    def run(recorded: Path, change: Callable[[dict], dict] = lambda record: record, chunks: int = MORE) -> Path:
        folder = runs / recorded.name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(recorded, folder)
        sealed(folder / "run.json", change(json.loads((folder / "run.json").read_bytes())))
        keep_run(pack.run, load(MODEL), vae, recorded.name, chunks)
        return folder

    return run


def sealed(path: Path, record: dict) -> None:
    """Write a run.json as 0.1.0 sealed it."""
    text = json.dumps({name: value for name, value in record.items() if name != "sha256"}, separators=(",", ":"))
    path.write_text(f'{text[:-1]},"sha256":"{hashlib.sha256(text.encode()).hexdigest()}"}}')


def chunk_files(folder: Path) -> dict[str, bytes]:
    """The bytes of a run's chunks."""
    return {path.name: path.read_bytes() for path in folder.glob("chunk_*")}


@pytest.mark.parametrize("recorded", KEPT, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_run_of_an_older_version_goes_on(recorded: Path, go_on: Callable[..., Path]) -> None:
    folder = go_on(recorded)
    made = chunk_files(folder)
    assert len(made) == MORE and made.items() >= chunk_files(recorded).items()
    for path in sorted((recorded.parent / f"{recorded.name}_next").iterdir()):
        one, other = (load_file(each / path.name)["latent"] for each in (folder, path.parent))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    # written out with the settings of today, it goes on to the same bits
    written = json.loads((folder / "run.json").read_bytes())
    today = go_on(recorded, lambda old: {**old, "settings": written["settings"], "prefix_hash": written["prefix_hash"]})
    assert chunk_files(today) == made


@pytest.mark.parametrize("recorded", KEPT, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_whole_run_of_an_older_version_is_given_again_and_not_changed(
    recorded: Path, go_on: Callable[..., Path]
) -> None:
    before = {path.name: path.read_bytes() for path in recorded.iterdir()}
    folder = go_on(recorded, chunks=CHUNKS)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before


def without(*names: str) -> Callable[[dict], dict]:
    """A run.json whose version did not have these settings."""
    return lambda old: {**old, "settings": {key: each for key, each in old["settings"].items() if key not in names}}


def test_a_setting_that_a_run_lacks_means_what_its_version_did(go_on: Callable[..., Path]) -> None:
    recorded = OLD / "0.1.0" / "frames"
    assert chunk_files(go_on(recorded, without("policy_episode"))) == chunk_files(go_on(recorded))


def test_a_run_that_lacks_a_setting_goes_on_as_it_began_though_the_node_has_another(
    pack, load, vae, runs: Path, go_on: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset paper has whole chunks as episodes now; the version without the setting had single frames."""
    recorded = OLD / "0.1.0" / "frames"
    expected = chunk_files(go_on(recorded))
    monkeypatch.setitem(RUNS, "frames", {"preset": "paper"})
    assert chunk_files(go_on(recorded, without("policy_episode"))) == expected
    (note,) = re.findall(r"The run was begun by a version[^\"]*", (runs / "frames/report.json").read_text())
    assert "without episode" in note and "with episode frame; Head Cache Policy would give chunk" in note
    with pytest.raises(ValueError, match=r"made with episode \(Head Cache Policy\) 'frame', now .* is 'chunk'"):
        go_on(recorded)  # which says that it was made with single frames


def test_a_run_from_before_recall_goes_on_with_its_bank_though_the_node_recalls(
    runs: Path, go_on: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = OLD / "0.1.0" / "film"
    names = "policy_episode_choice", "policy_recall_share", "policy_kv_precision", "policy_fills"
    assert not json.loads((recorded / "run.json").read_bytes())["settings"].keys() & names
    monkeypatch.setitem(RUNS, "film", {"preset": "recall", "compress_from_chunk": -1, "kv_precision": "int8"})
    folder, name = go_on(recorded, chunks=CHUNKS + 1), f"chunk_{CHUNKS:05d}.safetensors"
    assert chunk_files(folder).items() >= chunk_files(recorded).items()
    one, other = (load_file(each / name)["latent"] for each in (folder, recorded.parent / "film_next"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    written = json.loads((folder / "run.json").read_bytes())["settings"]
    assert [written[name] for name in names] == ["novelty", -1.0, "model", False]
    notes = re.findall(r"The run was begun by a version[^\"]*", (runs / "film/report.json").read_text())
    changed = "episode_choice novelty", "kv_precision model", "fills False"
    for name, would_give, note in zip(changed, ("recall", "int8", "True"), notes, strict=True):
        assert f"with {name}; Head Cache Policy would give {would_give}" in note
    with pytest.raises(ValueError, match=r"made with episode_choice \(Head Cache Policy\) 'novelty', now .* 'recall'"):
        go_on(recorded, lambda old: {**old, "settings": written})


def test_only_the_picture_that_is_used_is_the_beginning_of_a_run(pack, load, vae, runs: Path) -> None:
    def keep(images: torch.Tensor) -> None:
        pack.run(
            "HeadForcingSampler",
            model=load(MODEL),
            positive=[[torch.zeros(1, 512, 64), {}]],
            seconds=1.0,
            width=64,
            height=64,
            vae=vae,
            policy=pack.run("HeadForcingCachePolicy", preset="uniform")[0],
            start_image=images,
            run_name="film",
        )

    pictures = torch.rand(3, 64, 64, 4, generator=torch.Generator().manual_seed(0))
    keep(pictures[:1, ..., :3])
    before = (runs / "film/run.json").read_bytes()
    keep(pictures)  # a batch, with an alpha channel: the same first picture
    assert (runs / "film/run.json").read_bytes() == before
    with pytest.raises(ValueError, match="start_image has another picture than the run 'film'"):
        keep(pictures[1:])
