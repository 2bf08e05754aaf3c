"""Kept runs: saved, resumed, checked, begun anew, locked, and never lost."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from run_specs import (
    FAST_DISK,
    LABELS,
    SHAPE,
    decision,
    digest,
    keep_run,
    latent,
    make_chunks,
    make_spec,
    read_lines,
    scene,
    seeds_of,
    swapped,
    write_lines,
    write_record,
)
from safetensors.torch import save

from headforcing_core.files import disk_room
from headforcing_core.files.disk_room import check_disk
from headforcing_core.files.plain_names import numbered_name
from headforcing_core.rollout.episodes import Decision
from headforcing_core.rollout.plan import Segment
from headforcing_core.rollout.recall import Choice
from headforcing_core.run_store import record_json
from headforcing_core.run_store.chunk_file import most_bytes
from headforcing_core.run_store.journal import MOST_BYTES, dump_lines, parse_journal
from headforcing_core.run_store.opening import kept_run
from headforcing_core.run_store.record import MOST_CHUNKS, ChunkRecord, RunSpec
from headforcing_core.run_store.record_json import begin_record, parse_record
from headforcing_core.run_store.store import RunStore

HERE = Path(__file__).resolve().parent


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder where syncing takes no time."""
    with tempfile.TemporaryDirectory(dir=FAST_DISK) as folder:
        yield Path(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def refused(root: Path, spec: RunSpec, message: str, on_existing: str = "resume", from_chunk: int = -1) -> None:
    """Opening fails with this message, and no file of any run is changed."""
    before = {folder.name: contents(folder) for folder in root.iterdir() if folder.is_dir()}
    with pytest.raises((ValueError, RuntimeError), match=message) as error:
        RunStore.open(root, "fox", spec, on_existing, from_chunk)
    assert str(error.value).endswith(".") and len(str(error.value)) >= 40
    assert {folder.name: contents(folder) for folder in root.iterdir() if folder.is_dir()} == before


# a run that is kept


def test_a_run_is_there_again_with_its_chunks_decisions_and_report(tmp_path: Path) -> None:
    folder = keep_run(tmp_path / "runs")
    with RunStore.open(tmp_path / "runs", "fox", make_spec()) as store:
        assert store.folder == folder and store.finished == store.chunks == 6 and store.notes == []
        assert seeds_of(store) == [1] * 6 and store.read(0).dtype == torch.float32
        assert [store.finished_chunk(chunk).decisions for chunk in range(6)] == [
            (decision(chunk),) for chunk in range(6)
        ]
        assert store.report_path.read_text() == '{"seed": 1}' and store.video_path.exists()


def test_a_run_goes_on_after_its_last_finished_chunk(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        make_chunks(store, 2)
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert store.finished == 2
        make_chunks(store)
        assert seeds_of(store) == [1] * 6


def test_the_record_names_everything_and_every_file_has_its_hash(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    record = json.loads((folder / "run.json").read_bytes())
    assert list(record) == ["format", "settings", "segments", "seeds", "profile", "prefix_hash", "sha256"]
    assert record["format"] == "headforcing.run/2" and record["seeds"] == [[0, 1]]
    assert record["profile"]["labels"] == [list(row) for row in LABELS] and record["settings"]["sigmas"] == [1, 0.5, 0]
    lines = read_lines(folder)
    assert [line["chunk"] for line in lines] == list(range(6)) and lines[4]["decisions"] == [vars(decision(4))]
    assert [line["sha256"] for line in lines] == [
        run_hash((folder / f"chunk_{chunk:05d}.safetensors").read_bytes()) for chunk in range(6)
    ]


def run_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def test_later_scenes_and_the_length_may_change(tmp_path: Path) -> None:
    keep_run(tmp_path)
    longer = make_spec(chunks=9, scenes=[scene("a red fox"), scene("a river", 6, "cut")])
    with RunStore.open(tmp_path, "fox", longer) as store:
        assert (store.finished, store.notes) == (6, [])
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", longer) as store:
        assert seeds_of(store) == [1] * 9


def test_a_shorter_video_uses_the_first_chunks_and_leaves_the_others(tmp_path: Path) -> None:
    before = contents(keep_run(tmp_path))
    with RunStore.open(tmp_path, "fox", make_spec(chunks=4)) as store:
        assert store.finished == 4 and "has 6 chunks; the first 4 are used" in store.notes[0]
        with pytest.raises(ValueError, match="has all of its 4 chunks"):
            store.append(latent(4), ())
        with pytest.raises(ValueError, match="no finished chunk 4"):
            store.read(4)
        assert contents(store.folder) == before
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert seeds_of(store) == [1] * 6


def test_scenes_beyond_a_shorter_video_are_not_compared(tmp_path: Path) -> None:
    scenes = [scene("a red fox"), scene("a river", 5)]
    with RunStore.open(tmp_path, "fox", make_spec(scenes=scenes)) as store:
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", make_spec(chunks=4)) as store:
        assert store.finished == 4
    with RunStore.open(tmp_path, "fox", make_spec(scenes=scenes)) as store:
        assert store.finished == 6


def test_a_run_without_a_finished_chunk_may_become_any_other(tmp_path: Path) -> None:
    RunStore.open(tmp_path, "fox", make_spec()).close()
    with RunStore.open(tmp_path, "fox", make_spec(seed=4, width=480)) as store:
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", make_spec(seed=4, width=480)) as store:
        assert seeds_of(store) == [4] * 6


def test_decisions_of_the_last_chunk_come_when_the_video_becomes_longer(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, "fox", make_spec(chunks=1)) as store:
        store.append(latent(0), ())
    with RunStore.open(tmp_path, "fox", make_spec(chunks=3)) as store:
        store.add_decisions(0, (decision(0),))
        store.add_decisions(0, (decision(8),))
        make_chunks(store, 1)
    with RunStore.open(tmp_path, "fox", make_spec(chunks=3)) as store:
        assert store.finished_chunk(0).decisions == (decision(0),)


@pytest.mark.parametrize(
    "wanted, message",
    [
        (make_spec(width=480), "made with width 832, now width is 480.*Set width back.*new.*replace"),
        (make_spec(sigmas=2.0), r"made with sigmas \[1.0, 0.5, 0.0\], now sigmas is 2.0"),
        (
            make_spec(weight_patches="5d41"),
            r"made with weight_patches \(LoRA\) \(not set\), now weight_patches \(LoRA\) is '5d41'.*the LoRA loaders",
        ),
        (make_spec(sigmas=2.0), "Choose the family of that run in Load AR Model, and sigmas as it had them to go on"),
        (make_spec(trained_frames=12), "the family of that run in Load AR Model, and trained_frames in Head Cache"),
        (make_spec(chunk_frames=4), "Choose the family and chunk_frames of that run in Load AR Model to go on"),
        (make_spec(policy_anchor=1), r"anchor \(Head Cache Policy\) is 1.*Set anchor back in .*or choose the family"),
        (make_spec(policy_fills=True), r"now fills \(of the preset\) is True.*Choose the preset of that run in Head"),
        (make_spec(fps=16.0), r"made with fps \(not set\), now fps is 16.0"),
        (swapped(make_spec()), "made with head labels [0-9a-f]{12}, now they are [0-9a-f]{12}.*Connect the profile"),
        (replace(make_spec(), profile=None), "made with head labels [0-9a-f]{12}, now they are none"),
        (
            replace(make_spec(), prefix_hash=digest("x"), begun_by="previous"),
            "made with nothing before it, now previous is connected.*Disconnect previous to go on.*new.*replace",
        ),
        (
            make_spec(seed=2),
            "Chunk 0 of the run 'fox' has seed 1, now it would be 2.*6 chunks.*to 0 to.*right-click chunk 0 on the",
        ),
        (
            make_spec(scenes=[scene("a cat")]),
            "Chunk 0 of the run 'fox' has the prompt 'a red fox', now it would be 'a cat'",
        ),
        (
            make_spec(scenes=[replace(scene("a red fox"), text=digest("lora"))]),
            "has the prompt 'a red fox', which is now another text, or encoded otherwise",
        ),
        (
            make_spec(scenes=[scene("a red fox"), scene("a river", 5)]),
            "Chunk 5 of the run 'fox' is now where the scene 'a river' begins, and none did before.*from_chunk to 5 to",
        ),
    ],
)
def test_a_run_of_another_kind_is_refused_by_its_first_difference(
    tmp_path: Path, wanted: RunSpec, message: str
) -> None:
    keep_run(tmp_path)
    refused(tmp_path, wanted, message)


@pytest.mark.parametrize(
    "begun_by, now, message",
    [
        (
            "previous",
            "b",
            "The scene before has changed since the run 'fox' was begun: previous has another .*to new",
        ),
        ("start_image", "b", "start_image has another picture than the run 'fox' was begun with.*to new"),
        ("start_image or previous", "b", "start_image or previous has another picture than the run 'fox'.*to new"),
        ("", None, "made with start_image or previous, now neither is connected.*Connect what it began with to go on"),
    ],
)
def test_a_run_that_began_otherwise_is_refused_by_what_is_connected(
    tmp_path: Path, begun_by: str, now: str | None, message: str
) -> None:
    with RunStore.open(tmp_path, "fox", replace(make_spec(), prefix_hash=digest("a"))) as store:
        make_chunks(store)
    refused(tmp_path, replace(make_spec(), prefix_hash=now and digest(now), begun_by=begun_by), message)


@pytest.mark.parametrize(
    "after, message",
    [
        ([scene("a"), scene("b", 2, "cut")], "Chunk 2.*begins the scene 'b', which takes over by recache, now by cut"),
        ([scene("a"), scene("b", 3)], "Chunk 2.*is where the scene 'b' begins, and now none does"),
        ([scene("a"), scene("b", 1)], "Chunk 1.*is now where the scene 'b' begins, and none did before"),
        ([scene("a"), scene("c", 2)], "Chunk 2.*has the prompt 'b', now it would be 'c'"),
        ([scene("a"), scene("b", 2), scene("c", 4, "soft", 3)], "Chunk 4.*recache, now by soft over 3 chunks"),
    ],
)
def test_a_scene_of_a_finished_chunk_cannot_change(tmp_path: Path, after: list[Segment[str]], message: str):
    with RunStore.open(tmp_path, "fox", make_spec(scenes=[scene("a"), scene("b", 2), scene("c", 4)])) as store:
        make_chunks(store)
    refused(tmp_path, make_spec(scenes=after), message)


def test_what_has_no_effect_is_not_compared(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, "fox", make_spec(scenes=[scene("a", 0, "cut"), scene("b", 2, "cut", 2)])) as store:
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", make_spec(scenes=[scene("a", 0, "soft", 9), scene("b", 2, "cut")])) as store:
        assert store.finished == 6


# scenes and labels that come while the run is open


def test_a_scene_that_comes_while_the_run_is_open_is_kept_with_it(tmp_path: Path) -> None:
    later = scene("a river", 3, live=True)
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        make_chunks(store, 3)
        store.note_segments([scene("a red fox"), later])
    kept, _ = parse_record((tmp_path / "fox/run.json").read_bytes(), "fox")
    assert kept.segments == (scene("a red fox"), later) and len(read_lines(tmp_path / "fox")) == 3
    with RunStore.open(tmp_path, "fox", make_spec(scenes=[scene("a red fox"), later])) as store:
        make_chunks(store)
        assert seeds_of(store) == [1] * 6
    refused(tmp_path, make_spec(), "Chunk 3 of the run 'fox' is where the scene 'a river' begins, and now none does")
    with RunStore.open(tmp_path, "fox", make_spec(scenes=[scene("a red fox"), replace(later, live=False)])) as store:
        assert store.finished == 6  # typed or written down, it is the same video


def test_labels_that_are_measured_once_the_run_is_open_are_kept_with_it(tmp_path: Path) -> None:
    spec = make_spec()
    with RunStore.open(tmp_path, "fox", replace(spec, profile=None)) as store:
        store.note_profile(spec.profile)
        make_chunks(store, 2)
        store.note_profile(spec.profile)
        with pytest.raises(RuntimeError, match="has 2 chunks, made with other head labels"):
            store.note_profile(swapped(spec).profile)
    with RunStore.open(tmp_path, "fox", spec) as store:
        assert store.finished == 2


# new and replace


def test_new_takes_the_next_free_name(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with RunStore.open(tmp_path, "fox", make_spec(), "new") as store:
            make_chunks(store, 1)
        names.append((store.name, len(store.notes)))
    assert names == [("fox", 0), ("fox_2", 1), ("fox_3", 1)]
    assert numbered_name("x" * 120, "_12") == "x" * 117 + "_12"


def test_replace_deletes_what_the_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    (folder / "notes.txt").write_text("mine")
    (folder / "chunk_1.safetensors").write_text("mine")
    with RunStore.open(tmp_path, "fox", make_spec(seed=2, width=64), "replace") as store:
        assert (
            set(contents(folder)) == {"run.json", "journal.jsonl", "notes.txt", "chunk_1.safetensors"}
            and store.finished == 0
        )
        make_chunks(store)
        assert seeds_of(store) == [2] * 6


def test_replace_also_takes_the_place_of_a_damaged_run(tmp_path: Path) -> None:
    (keep_run(tmp_path) / "run.json").write_text("{")
    with RunStore.open(tmp_path, "fox", make_spec(), "replace") as store:
        assert store.finished == 0


@pytest.mark.parametrize("on_existing", ["resume", "replace"])
def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, on_existing: str) -> None:
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox/video.mp4").write_text("mine")
    refused(tmp_path, make_spec(), "holds 'video.mp4' but no run.json", on_existing)


# from_chunk


def test_from_chunk_begins_anew_there_and_keeps_the_old_take(tmp_path: Path) -> None:
    old = contents(keep_run(tmp_path))
    for seeds in ([1, 1, 1, 2], [1, 1, 1, 2, 2]):  # the second time it is the same request again, which goes on
        with RunStore.open(tmp_path, "fox", make_spec(seed=2), from_chunk=3) as store:
            make_chunks(store, 1)
            assert seeds_of(store) == seeds
    assert contents(tmp_path / "fox_take_1") == old
    with RunStore.open(tmp_path, "fox_take_1", make_spec()) as take:
        assert seeds_of(take) == [1] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fox", "fox_take_1"]
    assert sorted(contents(tmp_path / "fox")) == [
        *(f"chunk_{chunk:05d}.safetensors" for chunk in range(5)),
        "journal.jsonl",
        "run.json",
    ]


def test_links_to_chunks_of_the_old_take_take_no_room(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    RunStore.open(tmp_path, "fox", make_spec(seed=2), from_chunk=3).close()
    assert (folder / "chunk_00001.safetensors").samefile(tmp_path / "fox_take_1/chunk_00001.safetensors")


def test_every_take_is_kept(tmp_path: Path) -> None:
    keep_run(tmp_path)
    for seed, from_chunk, seeds in ((2, 4, [1, 1, 1, 1, 2, 2]), (3, 2, [1, 1, 3, 3, 3, 3]), (4, 5, [1, 1, 3, 3, 3, 4])):
        with RunStore.open(tmp_path, "fox", make_spec(seed=seed), from_chunk=from_chunk) as store:
            make_chunks(store)
            assert f"Chunks from {from_chunk} on are made anew" in store.notes[0] and seeds_of(store) == seeds
    with RunStore.open(tmp_path, "fox_take_2", make_spec(seed=2), from_chunk=4) as take:
        assert seeds_of(take) == [1, 1, 1, 1, 2, 2]
    refused(tmp_path, make_spec(seed=9), "Chunk 0.*its seeds are 1 from chunk 0 on, 3 from chunk 2 on, 4 from chunk 5")
    with RunStore.open(tmp_path, "fox", make_spec(seed=4)) as store:  # the last one
        assert seeds_of(store) == [1, 1, 3, 3, 3, 4] and store.notes == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_that_is_not_whole_goes_on_with_its_seeds(tmp_path: Path, seed: int) -> None:
    keep_run(tmp_path, chunks=4)
    with RunStore.open(tmp_path, "fox", make_spec(seed=2, chunks=4), from_chunk=2) as store:
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", make_spec(seed=seed)) as store:
        make_chunks(store)
        assert seeds_of(store) == [1, 1, 2, 2, 2, 2]
        assert [f"with its seed 2, not with {seed}" in note for note in store.notes] == [True] * (seed != 2)


def test_from_chunk_may_change_scenes_and_only_the_first_that_differs_is_begun_anew(tmp_path: Path) -> None:
    keep_run(tmp_path)
    scenes = [scene("a red fox"), scene("a river", 4)]
    with RunStore.open(tmp_path, "fox", make_spec(scenes=scenes), from_chunk=1) as store:
        assert store.finished == 4
        make_chunks(store)
    assert json.loads((tmp_path / "fox/run.json").read_bytes())["seeds"] == [[0, 1]]
    with RunStore.open(tmp_path, "fox", make_spec(scenes=scenes)) as store:
        assert (store.finished, store.notes) == (6, [])


def test_from_chunk_of_a_shorter_video_keeps_the_whole_old_take(tmp_path: Path) -> None:
    keep_run(tmp_path)
    with RunStore.open(tmp_path, "fox", make_spec(seed=2, chunks=4), from_chunk=2) as store:
        make_chunks(store)
        assert seeds_of(store) == [1, 1, 2, 2]
    with RunStore.open(tmp_path, "fox_take_1", make_spec()) as take:
        assert seeds_of(take) == [1] * 6


def test_from_chunk_that_changes_nothing_goes_on(tmp_path: Path) -> None:
    keep_run(tmp_path)
    with RunStore.open(tmp_path, "fox", make_spec(chunks=8), from_chunk=2) as store:
        assert store.finished == 6
    with RunStore.open(tmp_path, "fox", make_spec(seed=5, chunks=8), from_chunk=6) as store:
        make_chunks(store)
        assert seeds_of(store) == [1] * 6 + [5] * 2 and store.seed_for(5) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["fox"]


@pytest.mark.parametrize(
    "wanted, on_existing, from_chunk, message",
    [
        (make_spec(seed=2, chunks=9), "resume", 7, "from_chunk is 7, but the run 'fox' has 6 finished chunks.*to 6 or"),
        (make_spec(seed=2), "resume", 6, "from_chunk is 6, but the video has 6 chunks, counted from 0.*to 5 or less"),
        (make_spec(seed=2), "new", 1, "from_chunk is 1, but on_existing_run is new"),
        (make_spec(seed=2), "replace", 1, "from_chunk is 1, but on_existing_run is replace"),
        (make_spec(seed=2, width=9), "resume", 0, "made with width 832"),
        (make_spec(2, scenes=[scene("a"), scene("b", 4)]), "resume", 4, "Chunk 0 .*, but from_chunk is 4.*to 0 or"),
        (make_spec(), "keep", -1, "on_existing_run is 'keep'. Known are resume, new, replace"),
    ],
)
def test_what_cannot_be_begun_anew_is_refused(
    tmp_path: Path, wanted: RunSpec, on_existing: str, from_chunk: int, message: str
) -> None:
    keep_run(tmp_path)
    refused(tmp_path, wanted, message, on_existing, from_chunk)


def test_from_chunk_without_a_run_is_refused_and_makes_no_folder(tmp_path: Path) -> None:
    refused(tmp_path, make_spec(), "there is no run 'fox' yet", from_chunk=0)
    assert not list(tmp_path.iterdir())
    (tmp_path / "fox").mkdir()
    refused(tmp_path, make_spec(), "there is no run 'fox' yet", from_chunk=0)


def test_damage_before_from_chunk_does_not_lose_the_request(tmp_path: Path) -> None:
    damage(keep_run(tmp_path), 1, lambda data: data[:50])
    for finished in (1, 2):
        with RunStore.open(tmp_path, "fox", make_spec(seed=2), from_chunk=3) as store:
            assert store.finished == finished and store.seed_for(2) == 1 and store.seed_for(3) == 2
            make_chunks(store, 1)
    assert len(contents(tmp_path / "fox_take_1")) == 11  # with its damaged file, its video, report and timeline


# damage


def damage(folder: Path, chunk: int, change: Callable[[bytes], bytes | None]) -> None:
    """Change the file of a chunk; None removes it."""
    path = folder / f"chunk_{chunk:05d}.safetensors"
    data = change(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)


def as_listed(folder: Path, chunk: int, data: bytes) -> bytes:
    """Put the hash of other bytes into the journal, as somebody who edits a run would."""
    lines = read_lines(folder)
    lines[chunk]["sha256"] = run_hash(data)
    write_lines(folder, lines)
    return data


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda data: None, "it is missing"),
        (lambda data: b"", "its 0 bytes are not those that were written"),
        (lambda data: data[:-1], "its 5[0-9]+ bytes are not those"),
        (lambda data: data + b" " * 5000, "more than 1544"),
        (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "bytes are not those that were written"),
    ],
)
def test_a_run_goes_on_from_the_last_good_chunk_before_a_damaged_one(
    tmp_path: Path, change: Callable[[bytes], bytes | None], reason: str
) -> None:
    damage(keep_run(tmp_path), 2, change)
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert store.finished == 2
        (note,) = store.notes
        assert note.startswith("chunk_00002.safetensors is damaged: ") and note.endswith(
            "The run goes on from chunk 2, and the 3 chunks after it are made again."
        )
        assert re.search(reason, note)
        make_chunks(store)
        assert seeds_of(store) == [1] * 6


@pytest.mark.parametrize(
    "tensors, reason",
    [
        ({"latent": torch.full(SHAPE, torch.nan)}, "not finite"),
        ({"latent": torch.zeros(1, 16, 2, 2, 3)}, r"shape \[1, 16, 2, 2, 3\]"),
        ({"latent": torch.zeros(SHAPE, dtype=torch.float16)}, "type F16, not F32"),
        ({"noise": torch.zeros(SHAPE)}, "lacks 'latent'"),
        ({"latent": torch.zeros(SHAPE), "more": torch.zeros(1)}, "has the unknown name 'more'"),
    ],
)
def test_a_file_whose_hash_was_edited_too_is_still_checked(
    tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str
) -> None:
    folder = keep_run(tmp_path)
    damage(folder, 5, lambda _: as_listed(folder, 5, save(tensors)))
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert store.finished == 5 and re.search(reason, store.notes[0])


def test_a_file_that_changes_while_the_run_is_open_is_noticed(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        damage(folder, 3, lambda data: data[::-1])
        with pytest.raises(RuntimeError, match="chunk_00003.*was changed while the run was open"):
            store.read(3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "run.json of the run 'fox' cannot be used: Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": "headforcing.run/3", "new": 1}', "format headforcing.run/3 of a newer version"),
        ('{"format": "other"}', "not of a run"),
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        ('{"a": NaN}', "the number NaN is not finite"),
        ('{"a": 1e999}', "the number 1e999 is not finite"),
        ('{"a": ' + "9" * 5000 + "}", "a number has 5000 digits"),
    ],
)
def test_a_damaged_record_is_refused_and_nothing_is_touched(tmp_path: Path, text: str, message: str) -> None:
    (keep_run(tmp_path) / "run.json").write_text(text)
    refused(tmp_path, make_spec(), message)


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("segments",), [], "segments do not begin at chunk 0"),
        (("segments", 0, "first_chunk"), 2, "segments do not begin at chunk 0"),
        (("segments", 0, "transition"), "fade", "transition is 'fade', not one of recache, flush, soft, cut, shot"),
        (("segments", 0, "soft_chunks"), 0, "soft_chunks is 0, not a whole number from 1"),
        (("seeds",), [[0, 1], [0, 2]], "seeds do not begin at chunk 0 and go on in order"),
        (("seeds", 0), [0], r"seeds\[0\] is a list of 1, not a chunk and a seed"),
        (("seeds", 0, 1), 2**64, "not a whole number from 0 to 18446744073709551615"),
        (("settings", "width"), {"a": "b"}, "settings.width.a is 'b', not a whole number"),
        (("settings", "width"), [[1]], r"settings.width\[0\] is a list of 1, not a number"),
        (("settings",), 3, "settings is 3, not an object"),
        (("profile", "labels"), [["local"], []], "not a full table"),
        (("profile", "labels", 0, 0), "far", r"labels\[0\]\[0\] is 'far', not one of"),
        (("profile", "rule"), None, "profile.rule is null, not text"),
        (("prefix_hash",), "x" * 70, "prefix_hash is 'x{59}.*, not a SHA-256"),
        (("more",), 1, "made by a newer version of this pack: run.json has the unknown name 'more'.*Update the pack"),
    ],
)
def test_every_field_of_the_record_is_checked(
    tmp_path: Path, place: tuple[str | int, ...], value: object, message: str
) -> None:
    folder = keep_run(tmp_path)
    record = json.loads((folder / "run.json").read_bytes())
    inner = record
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    write_record(folder, record)
    refused(tmp_path, make_spec(), message)


def test_no_flipped_bit_of_the_record_goes_unseen(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    good = (folder / "run.json").read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1 << place % 7
        (folder / "run.json").write_bytes(data)
        with pytest.raises(RuntimeError, match="run.json of the run 'fox' cannot be used"):
            RunStore.open(tmp_path, "fox", make_spec())


@pytest.mark.parametrize("name", ["format", "settings", "segments", "seeds", "profile", "prefix_hash"])
def test_every_field_of_the_record_must_be_there(tmp_path: Path, name: str) -> None:
    folder = keep_run(tmp_path)
    record = json.loads((folder / "run.json").read_bytes())
    del record[name]
    write_record(folder, record)
    refused(tmp_path, make_spec(), "not of a run" if name == "format" else f"lacks '{name}'")


def test_a_record_too_large_to_read_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = keep_run(tmp_path)
    os.truncate(folder / "run.json", 2**40)
    with pytest.raises(RuntimeError, match="it has 1099511627776 bytes, more than"):
        RunStore.open(tmp_path, "fox", make_spec())
    with pytest.raises(RuntimeError, match="holds more than 4000000 values"):
        parse_record(b"[" + b"0," * 4_000_000 + b"0]", "fox")
    monkeypatch.setattr(record_json, "MOST_BYTES", 400)
    with pytest.raises(ValueError, match="This run cannot be kept .*more than 400.*Leave run_name empty"):
        begin_record(make_spec())


# links, names


@pytest.mark.parametrize("name", ["run.json", "chunk_00001.safetensors", "report.json", "lock", ".run.json.tmp"])
def test_links_are_refused(tmp_path: Path, name: str) -> None:
    folder = keep_run(tmp_path / "runs")
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    for on_existing in ("resume", "replace"):
        with pytest.raises(RuntimeError, match=f"{name} of the run 'fox' is a link"):
            RunStore.open(tmp_path / "runs", "fox", make_spec(), on_existing)
    assert outside.read_text() == "secret" and (folder / "chunk_00000.safetensors").exists()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    with pytest.raises(RuntimeError, match="run.json of the run 'fox' is a link or a folder, not a file"):
        RunStore.open(tmp_path, "fox", make_spec())


@pytest.mark.parametrize("blocked", ["root", "above"])
@pytest.mark.parametrize("what", ["a dead link", "a file", "a link to a file"])
def test_a_place_that_is_no_folder_is_told_as_what_it_is(tmp_path: Path, what: str, blocked: str) -> None:
    root = tmp_path / "output" / "runs"
    place = root if blocked == "root" else root.parent
    place.parent.mkdir(exist_ok=True)
    (tmp_path / "notes.txt").write_text("mine")
    if what == "a file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / ("unplugged" if what == "a dead link" else "notes.txt"))
    said = "a link to no folder" if place.is_symlink() else "a file"
    with pytest.raises(RuntimeError, match=f"^{place.name} is {said}.* leave run_name empty."):
        RunStore.open(root, "fox", make_spec())
    assert place.is_symlink() or place.read_text() == "mine"


def test_a_root_that_is_a_link_to_a_folder_is_as_good_as_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "elsewhere")
    with RunStore.open(tmp_path / "runs", "fox", make_spec()) as run:
        assert run.folder.resolve().parent == (tmp_path / "elsewhere").resolve()


def test_a_run_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    folder = keep_run(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/fox").symlink_to(folder)
    for on_existing in ("resume", "replace"):
        with pytest.raises(RuntimeError, match="'fox' in the folder of runs is a link"):
            RunStore.open(tmp_path / "runs", "fox", make_spec(), on_existing)
    with RunStore.open(tmp_path / "runs", "fox", make_spec(), "new") as store:
        assert store.name == "fox_2"


@pytest.mark.parametrize("target", ["/mnt/not/there", "runs", "file"])
def test_a_place_of_runs_that_leads_nowhere_is_told(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs").symlink_to(target)
    for on_existing in ("resume", "new", "replace"):
        with pytest.raises(RuntimeError, match="runs is a link to no folder"):
            RunStore.open(tmp_path / "runs", "fox", make_spec(), on_existing)
    assert kept_run(tmp_path / "runs", "fox") is None


def test_a_temporary_that_vanishes_while_the_folder_is_listed_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ComfyUI that makes the run renames its temporaries at any time."""
    keep_run(tmp_path)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / ".run.json.other.7.tmp", *listed(folder)]))
    found = kept_run(tmp_path, "fox")
    assert found is not None and found.settings["width"] == 832


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../fox", "a/b", "a\\b", ".fox", "fox.", "fox ", "con", "NUL.txt", "Com1", "aux .x", "C:", "f\0x"]
    + ["x" * 121, "f\u00f6x", "~", "-fox", "fox\n"],
)
def test_only_plain_names_are_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="run_name is .* must stay in its folder"):
        RunStore.open(tmp_path / "runs", name, make_spec())
    assert not list(tmp_path.iterdir())


# lock


def test_a_run_can_be_open_once_in_a_process_and_its_threads(tmp_path: Path) -> None:
    said: list[str] = []

    def open_again() -> None:
        try:
            RunStore.open(tmp_path, "fox", make_spec()).close()
        except RuntimeError as error:
            said.append(str(error))

    with RunStore.open(tmp_path, "fox", make_spec()):
        open_again()
        thread = Thread(target=open_again)
        thread.start()
        thread.join()
    assert len(said) == 2 and all("The run 'fox' is in use by another run" in each for each in said)
    open_again()
    assert len(said) == 2


def test_a_run_is_free_again_when_opening_failed(tmp_path: Path) -> None:
    keep_run(tmp_path)
    refused(tmp_path, make_spec(width=1), "made with width")
    RunStore.open(tmp_path, "fox", make_spec()).close()


def test_the_lock_of_another_process_holds_until_it_dies(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    program = (
        "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, folder / "lock"], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"1\n"
            with pytest.raises(RuntimeError, match="in use by another run.*Wait until that one has ended"):
                RunStore.open(tmp_path, "fox", make_spec())
        finally:
            other.kill()
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert store.finished == 6


# crashes and disks


@pytest.fixture(scope="module")
def after_crashes() -> dict[str, list[str] | list[int] | int]:
    """What crashes.py found; it checks every state by itself."""
    with tempfile.TemporaryDirectory(dir=FAST_DISK) as folder:
        done = subprocess.run(
            [sys.executable, "-P", HERE / "crashes.py", folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE)))},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_chunks_finished_before_a_kill_are_there(after_crashes: dict[str, list[int]]) -> None:
    assert len(after_crashes["killed_at_random"]) == 10 and max(after_crashes["killed_at_random"]) > 0


def test_no_kill_while_chunks_are_begun_anew_loses_or_doubles_a_take(after_crashes: dict[str, int]) -> None:
    assert after_crashes["killed_at_every_call"] > 40 and after_crashes["killed_while_copying"] > 40


def test_no_kill_while_a_take_is_chosen_loses_or_doubles_one(after_crashes: dict[str, list[str]]) -> None:
    # before the first rename and after it the run is as it was, after the second the take is the run
    found = after_crashes["killed_while_choosing"]
    assert found == sorted(found) and {"the run", "the take"} == set(found) and len(found) >= 6


def test_a_line_that_was_cut_short_counts_for_nothing_and_is_told(after_crashes: dict[str, list[str]]) -> None:
    (one, other) = after_crashes["killed_in_a_line"]  # nothing written is nothing torn
    assert one == other and "journal.jsonl was cut short" in one and one.endswith("chunk 2 is made again.")


def test_a_full_disk_is_told_and_costs_no_finished_chunk(after_crashes: dict[str, list[str]]) -> None:
    for said in after_crashes["full_disk"]:
        assert "the disk is full (File too large;" in said and said.endswith(".")
    assert "Chunk 3 of the run 'journal' could not be kept" in after_crashes["full_disk"][1]
    assert "Chunk 1 of the run 'chunk' could not be kept" in after_crashes["full_disk"][0]
    assert "run again with on_existing_run resume to go on" in after_crashes["full_disk"][0]


def test_a_disk_that_cannot_hold_the_run_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 5 * most_bytes(SHAPE)

    monkeypatch.setattr(disk_room.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(RuntimeError, match="The 6 chunks still to be made take 0.0 MB.*Make room"):
        RunStore.open(tmp_path / "runs", "fox", make_spec())
    assert not list(tmp_path.iterdir())
    with RunStore.open(tmp_path, "fox", make_spec(chunks=4)) as store:
        make_chunks(store)
    refused(tmp_path, make_spec(chunks=9), "The 5 chunks still to be made")
    with RunStore.open(tmp_path, "fox", make_spec(chunks=8)) as store:
        assert store.finished == 4
    with RunStore.open(tmp_path, "fox", make_spec(chunks=5), "replace") as store:  # counts what it replaces
        assert store.finished == 0


def test_the_disk_is_asked_where_the_folder_will_be(tmp_path: Path) -> None:
    check_disk(tmp_path / "not/there/yet", 1, 1)
    with pytest.raises(RuntimeError, match="2000000 GB with their video"):
        check_disk(tmp_path, 1_600_000, 10**9)


def test_temporaries_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    for name in (".run.json.tmp", ".chunk_00007.safetensors.tmp", ".video.mp4.tmp", "video_next.mp4", ".mine.tmp"):
        (folder / name).write_text("half")
    (tmp_path / ".fox_take.tmp").mkdir()
    (tmp_path / ".fox_take.tmp/chunk_00000.safetensors").write_text("half")
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert store.next_video_path == folder / "video_next.mp4"
        assert not store.next_video_path.exists()
    assert [path.name for path in folder.glob(".*")] == [".mine.tmp"] and not (tmp_path / ".fox_take.tmp").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(RuntimeError, match="Chunk 0 .* does not let it .Permission denied.. Check the output"):
            make_chunks(store, 1)
        monkeypatch.undo()
        make_chunks(store)
        assert seeds_of(store) == [1] * 6


# what is appended


@pytest.mark.parametrize(
    "chunk, told, message",
    [
        (torch.full(SHAPE, torch.inf), (), "Chunk 0 .* not finite, so it was not kept.*Use another weight_dtype"),
        (torch.zeros(1, 16, 3, 2, 2), (), r"Chunk 0 has shape \(1, 16, 3, 2, 2\), those of the run 'fox' have"),
        (torch.zeros(SHAPE), (Decision(1, float("nan"), 0.0, True, None),), r"decisions\[0\].novelty is NaN"),
        (torch.zeros(SHAPE), Choice((3,), (float("nan"),), 2, 1, 0.1, 0.9), r"choice.likeness\[0\] is NaN"),
        (torch.zeros(SHAPE), Choice((3,), (), 2, 1), "1 frames and 0 likenesses"),
        (torch.zeros(SHAPE), Choice((3, 0), (0.5, 0.5), 2, 1, 0.1, 0.9), r"choice.frames\[1\] is 0, not a whole"),
        (torch.zeros(SHAPE), Choice((), (), 0, 0, -9.0, 0.0), "choice.lowest is -9"),
    ],
)
def test_what_could_not_be_read_again_is_not_kept(
    tmp_path: Path, chunk: torch.Tensor, told: tuple[Decision, ...] | Choice, message: str
) -> None:
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        before = contents(store.folder)
        with pytest.raises((RuntimeError, ValueError), match=message):
            store.append(chunk, *(((), told) if isinstance(told, Choice) else (told,)))
        assert contents(store.folder) == before


@pytest.mark.parametrize(
    "spec, message",
    [
        (make_spec(chunks=0), "The video has 0 chunks"),
        (make_spec(chunks=150_001), "The video has 150001 chunks. A run that is kept can have 1 to 150000"),
        (make_spec(seed=2**64), "This run cannot be kept .*seeds"),
        (make_spec(width=float("nan")), "This run cannot be kept .*JSON"),
        (make_spec(scenes=[scene("a", 1)]), "segments do not begin at chunk 0"),
    ],
)
def test_a_run_that_could_not_be_read_again_is_not_begun(tmp_path: Path, spec: RunSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunStore.open(tmp_path / "runs", "fox", spec)
    assert not list(tmp_path.iterdir())


def test_chunks_are_checked_aloud_and_checking_can_be_stopped(tmp_path: Path) -> None:
    keep_run(tmp_path)
    told: list[tuple[int, int]] = []
    RunStore.open(tmp_path, "fox", make_spec(), on_check=lambda done, chunks: told.append((done, chunks))).close()
    assert told == [(chunk + 1, 6) for chunk in range(6)]

    def stop(done: int, chunks: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunStore.open(tmp_path, "fox", make_spec(), on_check=stop)
    RunStore.open(tmp_path, "fox", make_spec()).close()


def test_the_journal_of_ten_hours_fits() -> None:
    share = 50
    made = Decision(2**30, 0.12345678901234567, 0.12345678901234567, False, None)
    chose = Choice((2**30, 2**30 + 1), (0.12345678901234567,) * 2, 2**20, 4, -0.12345678901234567, 0.9234567890123456)
    chunks = (ChunkRecord(digest("x"), (made,), chose),) * (MOST_CHUNKS // share)
    data, seal = dump_lines(chunks)
    journal = parse_journal(data)
    assert journal.chunks == chunks and journal.seal == seal and len(data) * share < MOST_BYTES
