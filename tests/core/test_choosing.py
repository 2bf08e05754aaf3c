"""The takes of a run: which there are, from which chunk on they differ, and one of them made the run."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_specs import FAST_DISK, as_0_1_0, keep_run, make_chunks, make_spec, seeds_in, seeds_of

from headforcing_core.files.plain_names import LONGEST_NAME
from headforcing_core.files.safe_files import sync_folder
from headforcing_core.run_store import choosing
from headforcing_core.run_store.choosing import choose_take, list_takes, settled
from headforcing_core.run_store.lock import lock_folder
from headforcing_core.run_store.opening import kept_run
from headforcing_core.run_store.store import RunStore


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder where syncing takes no time."""
    with tempfile.TemporaryDirectory(dir=FAST_DISK) as folder:
        yield Path(folder)


def make_anew(root: Path, seed: int, from_chunk: int, name: str = "fox", count: int | None = None) -> None:
    """Make the chunks of a run anew from one on, all of them or so many."""
    with RunStore.open(root, name, make_spec(seed=seed), from_chunk=from_chunk) as store:
        make_chunks(store, count)


def told(root: Path, name: str = "fox") -> list[tuple[str, bool, int, int | None]]:
    """The takes: name, whether it is the run, its chunks and from which one on it differs."""
    return [(each.folder.name, each.is_run, len(each.chunks), each.differs_from) for each in list_takes(root, name)]


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder but locks, by its place."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_takes_are_told_with_the_first_chunk_that_is_not_the_runs(tmp_path: Path) -> None:
    assert list_takes(tmp_path / "no folder yet", "fox") == []
    (tmp_path / "link").symlink_to(keep_run(tmp_path, "owl"))
    assert list_takes(tmp_path, "link") == []
    keep_run(tmp_path)
    assert told(tmp_path) == [("fox", True, 6, None)]
    make_anew(tmp_path, seed=2, from_chunk=4)
    make_anew(tmp_path, seed=3, from_chunk=2, count=2)  # interrupted
    make_anew(tmp_path, seed=4, from_chunk=3)
    keep_run(tmp_path, "fox_take_10", chunks=2)  # by number, not by letter
    keep_run(tmp_path, "fox_take_1_take_1")  # a take of a take
    (tmp_path / "fox_take_7").write_text("a file")
    (tmp_path / "fox_take_8").symlink_to(tmp_path / "fox_take_1")
    assert told(tmp_path) == [
        ("fox", True, 6, None),
        ("fox_take_1", False, 6, 2),
        ("fox_take_2", False, 6, 2),
        ("fox_take_3", False, 4, 3),
        ("fox_take_10", False, 2, 2),  # all that it has is the run's
    ]
    assert [each.record.seeds for each in list_takes(tmp_path, "fox")[:3] if each.record] == [
        ((0, 1), (2, 3), (3, 4)),
        ((0, 1),),
        ((0, 1), (4, 2)),
    ]


@pytest.mark.parametrize("name", ["n" * LONGEST_NAME, "a take_1", "fox_take_1"])
def test_takes_of_any_name_are_found(tmp_path: Path, name: str) -> None:
    keep_run(tmp_path, name)
    make_anew(tmp_path, 2, 3, name)
    run, take = list_takes(tmp_path, name)
    choose_take(tmp_path, name, take.folder.name)
    assert (seeds_in(run.folder), seeds_in(take.folder)) == ([1] * 6, [1, 1, 1, 2, 2, 2])


def test_a_run_that_is_open_and_one_of_0_1_0_are_told(tmp_path: Path) -> None:
    as_0_1_0(keep_run(tmp_path))
    with RunStore.open(tmp_path, "fox", make_spec(seed=2), from_chunk=4) as store:
        make_chunks(store, 1)
        assert told(tmp_path) == [("fox", True, 5, None), ("fox_take_1", False, 6, 4)]


def test_a_take_that_cannot_be_read_is_told_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_run(tmp_path)
    for seed in (2, 3):
        make_anew(tmp_path, seed, from_chunk=4)
    (tmp_path / "fox_take_1/run.json").write_text("{}")
    (tmp_path / "fox_take_3").mkdir()
    run, damaged, take, empty = list_takes(tmp_path, "fox")
    assert (run.problem, take.problem, take.differs_from) == ("", "", 4)
    assert "run.json of the run 'fox_take_1' cannot be used" in damaged.problem
    assert empty.problem == "'fox_take_3' cannot be read: No such file or directory: run.json."
    (tmp_path / "fox/journal.jsonl").write_text("nothing\nnothing\n")
    run, _, take, _ = list_takes(tmp_path, "fox")
    assert "journal.jsonl of the run 'fox' cannot be used" in run.problem and take.differs_from is None
    choose_take(tmp_path, "fox", "fox_take_2")  # as a rescue
    assert seeds_in(tmp_path / "fox") == [1, 1, 1, 1, 2, 2]
    read = choosing.Ledger.read

    def refuse(folder: Path) -> object:
        if folder.name == "fox":
            raise PermissionError(13, "Permission denied", str(folder / "run.json"))
        return read(folder)

    monkeypatch.setattr(choosing.Ledger, "read", refuse)
    told_of = {each.folder.name: each.problem for each in list_takes(tmp_path, "fox")}
    assert told_of["fox"] == "'fox' cannot be read: Permission denied: run.json." and len(told_of) == 4


def test_a_chosen_take_and_the_run_change_places_with_everything_in_them(tmp_path: Path) -> None:
    (keep_run(tmp_path) / "notes.txt").write_text("the first")
    make_anew(tmp_path, 2, from_chunk=2)
    make_anew(tmp_path, 3, from_chunk=2)
    (tmp_path / "fox_take_1/mine.txt").write_text("good but for the fox")
    before = contents(tmp_path)
    record = choose_take(tmp_path, "fox", "fox_take_1")
    assert record == kept_run(tmp_path, "fox") and record.seeds == ((0, 1),)
    places = {"fox": "fox_take_1", "fox_take_1": "fox", "fox_take_2": "fox_take_2"}
    expected = {f"{places[place.split('/')[0]]}/{place.split('/', 1)[1]}": data for place, data in before.items()}
    assert contents(tmp_path) == expected
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert (store.finished, store.notes) == (6, []) and store.video_path.read_text() == "video of seed 1"
    choose_take(tmp_path, "fox", "fox_take_1")  # and back
    assert contents(tmp_path) == before


def test_a_take_that_was_interrupted_goes_on_once_it_is_chosen(tmp_path: Path) -> None:
    keep_run(tmp_path)
    make_anew(tmp_path, 2, from_chunk=2, count=1)
    make_anew(tmp_path, 3, from_chunk=2)
    record = choose_take(tmp_path, "fox", "fox_take_2")
    with RunStore.open(tmp_path, "fox", make_spec(seed=record.seeds[-1][1])) as store:
        assert store.finished == 3
        make_chunks(store)
        assert seeds_of(store) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("held", ["fox", "fox_take_1"])
def test_what_is_in_use_is_left_alone(tmp_path: Path, held: str) -> None:
    keep_run(tmp_path)
    make_anew(tmp_path, 2, from_chunk=2)
    before, lock = contents(tmp_path), lock_folder(tmp_path / held)
    with pytest.raises(RuntimeError, match=f"The run '{held}' is in use by another run"):
        choose_take(tmp_path, "fox", "fox_take_1")
    lock.release()
    assert contents(tmp_path) == before
    choose_take(tmp_path, "fox", "fox_take_1")
    for name in ("fox", "fox_take_1"):  # both are free again
        lock_folder(tmp_path / name).release()


@pytest.mark.parametrize("take", ["fox", "fox_take_2", "owl", "fox_take_01", "../fox_take_1", "", "fox_take_1/."])
def test_what_is_no_take_of_the_run_is_refused(tmp_path: Path, take: str) -> None:
    keep_run(tmp_path)
    keep_run(tmp_path, "owl")
    make_anew(tmp_path, 2, from_chunk=2)
    before = contents(tmp_path)
    with pytest.raises(RuntimeError, match="There is no take .* of the run 'fox'"):
        choose_take(tmp_path, "fox", take)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda take: (take / "run.json").write_text("{}"), "run.json of the run 'fox_take_1' cannot be used"),
        (lambda take: (take / "run.json").unlink(), "holds '.*' but no run.json"),
        (lambda take: [path.unlink() for path in take.iterdir()], "'fox_take_1' holds no run"),
    ],
)
def test_a_take_that_is_no_run_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    keep_run(tmp_path)
    make_anew(tmp_path, 2, from_chunk=2)
    damage(tmp_path / "fox_take_1")
    before = contents(tmp_path)
    with pytest.raises(RuntimeError, match=message):
        choose_take(tmp_path, "fox", "fox_take_1")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["../fox", ".fox", "", "con"])
def test_only_plain_names_are_taken(tmp_path: Path, name: str) -> None:
    for asked in (lambda: list_takes(tmp_path, name), lambda: choose_take(tmp_path, name, f"{name}_take_1")):
        with pytest.raises(ValueError, match="run_name is"):
            asked()


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_disk_that_lets_no_rename_leaves_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    keep_run(tmp_path)
    make_anew(tmp_path, 2, from_chunk=2)
    rename, calls = os.rename, []

    def fail_once(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(choosing.os, "rename", fail_once)
    with pytest.raises(RuntimeError, match="could not become the run 'fox': the disk does not let it"):
        choose_take(tmp_path, "fox", "fox_take_1")
    found = [seeds_in(tmp_path / name) for name in ("fox", "fox_take_1")]
    assert found == [[1] * 6, [1, 1, 2, 2, 2, 2]][:: 1 if failing == 3 else -1]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_that_lies_aside_is_there_for_whoever_asks_next(tmp_path: Path) -> None:
    keep_run(tmp_path)
    make_anew(tmp_path, 2, from_chunk=2)
    asked: list[Callable[[], object]] = [
        lambda: kept_run(tmp_path, "fox"),
        lambda: list_takes(tmp_path, "fox"),
        lambda: choose_take(tmp_path, "fox", "fox_take_1"),
        lambda: RunStore.open(tmp_path, "fox", make_spec()).close(),
    ]
    for each in asked:
        os.rename(tmp_path / "fox", tmp_path / ".fox_chosen.tmp")
        each()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["fox", "fox_take_1"]


ASKING = {
    "the list": lambda root: [each.folder.name for each in list_takes(root, "fox")] == ["fox", "fox_take_1"],
    "a run before it opens": lambda root: kept_run(root, "fox") is not None,
    "a run": lambda root: RunStore.open(root, "fox", make_spec()).__exit__(None, None, None) is None,
    "another choice": lambda root: bool(choose_take(root, "fox", "fox_take_1")),
}


@pytest.mark.parametrize("asking", ASKING)
def test_whoever_asks_while_a_take_is_chosen_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking: str
) -> None:
    keep_run(tmp_path)
    make_anew(tmp_path, 2, from_chunk=2)
    answers: list[bool] = []
    asked = threading.Thread(target=lambda: answers.append(ASKING[asking](tmp_path)))

    def between(root: Path) -> None:
        sync_folder(root)
        if not (tmp_path / "fox").exists():
            asked.start()
            asked.join(0.05)
            assert asked.is_alive()

    with monkeypatch.context() as patch:
        patch.setattr(choosing, "sync_folder", between)
        choose_take(tmp_path, "fox", "fox_take_1")
    asked.join(10)
    assert answers == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fox", "fox_take_1"]
    assert seeds_in(tmp_path / "fox") == ([1, 1, 2, 2, 2, 2] if asking == "another choice" else [1] * 6)


def test_beside_a_run_of_the_same_name_it_becomes_a_take(tmp_path: Path) -> None:
    keep_run(tmp_path)
    os.rename(keep_run(tmp_path, "owl", seed=2), tmp_path / ".fox_chosen.tmp")
    with settled(tmp_path, "fox"):
        assert not (tmp_path / ".fox_chosen.tmp").exists()
    assert told(tmp_path) == [("fox", True, 6, None), ("fox_take_1", False, 6, 0)]
