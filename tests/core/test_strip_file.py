"""The film strip's file: which chunks are read, what comes back from the disk, and that nothing of it is an error."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from headforcing_core.run_store.strip_entry import StripEntry, StripHeader, dump_entry, parse_entry
from headforcing_core.run_store.strip_file import StripFile, copy_first, read_strip

HEADER = StripHeader(40, 16.0, 3, 0, 480)
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
ENTRIES = [
    StripEntry(0, (), False, JPEG),
    StripEntry(1, ((0, 0),), False),
    StripEntry(2, ((-1, 1),), True, JPEG),
    StripEntry(9, ((0, 0), (3, 4), (7, 8)), True, JPEG[:100]),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with four chunks."""
    file = StripFile(tmp_path / "strip.jsonl", 0, grows=True)
    assert file.begin(HEADER) == {}
    for entry in ENTRIES:
        file.append(entry)
    return file.path


def test_what_is_written_is_read_again(path: Path) -> None:
    assert read_strip(path) == (HEADER, {entry.chunk: entry for entry in ENTRIES})
    file = StripFile(path, 9, grows=True)
    file.append(replace(ENTRIES[1], picture=JPEG))
    longer = replace(HEADER, chunks=60)
    assert file.begin(longer) == {0: ENTRIES[0], 1: replace(ENTRIES[1], picture=JPEG), 2: ENTRIES[2]}
    assert read_strip(path).header == longer and sorted(read_strip(path).entries) == [0, 1, 2]
    assert len(path.read_bytes().splitlines()) == 4


def test_one_that_does_not_grow_is_left_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    file = StripFile(path, 3, grows=False)
    assert sorted(file.begin(replace(HEADER, chunks=3))) == [0, 1, 2]
    file.append(replace(ENTRIES[0], picture=b""))
    assert path.read_bytes() == before


def test_a_take_leaves_the_first_chunks(path: Path, tmp_path: Path) -> None:
    copy_first(path, tmp_path / "run.jsonl", 2)
    assert read_strip(tmp_path / "run.jsonl") == (HEADER, {0: ENTRIES[0], 1: ENTRIES[1]})
    copy_first(tmp_path / "missing", tmp_path / "other", 2)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("frames", "before", "chunks"),
    [
        ((), 0, ()),
        ((0, 1, 2, 9, 10, 11, 12), 0, ((0, 0), (3, 4))),
        ((0, 1, 2, 3, 4, 5), 5, ((-1, 0),)),
        ((0, 11), 5, ((-1, -1), (2, 2))),
        ((40,), 5, ((11, 11),)),
    ],
)
def test_frames_are_told_by_their_chunks(frames: tuple[int, ...], before: int, chunks: tuple) -> None:
    assert replace(HEADER, prefix_frames=before).chunks_of(frames) == chunks


@pytest.mark.parametrize(
    ("chunk_frames", "before", "seconds"),
    [(3, 0, (0, 9 / 16, 21 / 16)), (1, 1, (1 / 16, 5 / 16, 9 / 16)), (8, 5, (17 / 16,))],
)
def test_a_chunk_begins_behind_the_pictures_before_it(chunk_frames: int, before: int, seconds: tuple) -> None:
    header = replace(HEADER, chunk_frames=chunk_frames, prefix_frames=before)
    assert tuple(header.second(chunk) for chunk in range(len(seconds))) == seconds


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ENTRIES[3], reads=((3, 4), (0, 0))),
        replace(ENTRIES[3], reads=((-2, 0),)),
        replace(ENTRIES[3], reads=((5, 4),)),
        replace(ENTRIES[3], reads=((0, 10),)),
        replace(ENTRIES[3], picture=b"<svg onload=alert(1)>"),
        replace(ENTRIES[3], picture=JPEG + bytes(3000)),
        replace(ENTRIES[3], chunk=-1),
        StripEntry(5000, tuple((2 * each, 2 * each) for each in range(1000)), False, JPEG),
    ],
)
def test_what_could_not_be_read_again_is_not_written(wrong: StripEntry) -> None:
    with pytest.raises(ValueError):
        dump_entry(wrong)


def test_no_damage_is_an_error(path: Path) -> None:
    whole, chance = path.read_bytes(), random.Random(5)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        path.write_bytes(data[: chance.randrange(len(data) + 1)])
        header, entries = read_strip(path)
        assert header is not None or not entries
        assert all(parse_entry(dump_entry(entry)) == entry for entry in entries.values())
    path.write_bytes(b"[" * 100_000)
    assert read_strip(path) == (None, {})


def test_no_link_is_followed(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    before = path.read_bytes()
    assert read_strip(link) == (None, {})
    StripFile(link, 3, grows=True).append(ENTRIES[1])
    assert path.read_bytes() == before and "link.jsonl is not written further" in caplog.text
    assert StripFile(link, 3, grows=True).begin(HEADER) == {}  # in its place stands a file from now on
    assert path.read_bytes() == before and not link.is_symlink()
