"""Kept runs under whatever is in their files, and under any sequence of requests."""

import json
import tempfile
from pathlib import Path

from damaged_runs import is_sentence
from fuzz_files import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from run_specs import FAST_DISK, SHAPE, latent, make_chunks, make_spec, seeds_in, seeds_of

from headforcing_core.rollout.episodes import Decision
from headforcing_core.rollout.plan import Segment
from headforcing_core.rollout.recall import Choice
from headforcing_core.run_store.chunk_file import pack_chunk, unpack_chunk
from headforcing_core.run_store.journal import dump_lines, parse_journal
from headforcing_core.run_store.record import MOST_SEED, ChunkRecord, RunProfile, RunRecord
from headforcing_core.run_store.record_json import FORMAT, FORMAT_WITH_CHUNKS, dump_record, parse_record
from headforcing_core.run_store.store import RunStore

HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
NUMBERS = st.floats(-1.0, 3.0) | st.integers(-1, 3)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@st.composite
def stretches(draw: st.DrawFn) -> list[int]:
    """First chunks, from 0 on, in order."""
    return sorted({0, *draw(st.lists(st.integers(1, 150_000), max_size=5))})


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    """A decision as a rollout makes it."""
    frame, admitted = draw(st.integers(0, 2**31)), draw(st.booleans())
    dropped = draw(st.none() | st.integers(0, frame)) if admitted else None
    return Decision(frame, draw(NUMBERS), draw(NUMBERS), admitted, dropped)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """A choice as a rollout makes it."""
    frames = sorted(draw(st.sets(st.integers(0, 2**31), max_size=4)))
    lowest, *likeness, best = sorted(draw(st.floats(-1.0, 1.0)) for _ in range(len(frames) + 2))
    counts = draw(st.integers(len(frames), 2**31)), draw(st.integers(0, len(frames) + 2))
    return Choice(tuple(frames), tuple(likeness), *counts, lowest, best)


@st.composite
def run_records(draw: st.DrawFn) -> RunRecord:
    """Any run that can be."""
    width = draw(st.integers(1, 4))
    row = st.tuples(*[st.sampled_from(("local", "anchor", "memory"))] * width)
    labels = st.lists(row, min_size=1, max_size=4).map(tuple)
    shares = st.none() | st.floats(0, 1, exclude_max=True)
    profiles = st.builds(RunProfile, st.text(), st.text(), labels, st.none() | st.just((0,)), shares)
    finite = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
    sizes = st.dictionaries(st.text(), st.integers(0, 9))
    setting = st.none() | st.booleans() | finite | st.text() | st.lists(finite) | sizes
    return RunRecord(
        draw(st.dictionaries(st.text(), setting, max_size=5)),
        tuple(
            Segment(first, draw(HASHES), draw(st.sampled_from(("soft", "cut"))), 4, draw(st.text()))
            for first in draw(stretches())
        ),
        tuple((first, draw(st.integers(0, MOST_SEED))) for first in draw(stretches())),
        draw(st.none() | profiles),
        draw(st.none() | HASHES),
    )


def test_no_damaged_file_does_more_than_be_refused() -> None:
    found = fuzz(2000, seed=0)
    assert not found.wrong and len(found.taken) == len(found.refused) == 7


@given(run_records())
@settings(max_examples=100, deadline=None)
def test_a_record_comes_back_as_it_was(record: RunRecord) -> None:
    assert parse_record(dump_record(record), "fox") == (record, None)


CHUNK_RECORDS = st.builds(ChunkRecord, HASHES, st.lists(decisions(), max_size=2).map(tuple), st.none() | choices())


@given(st.lists(CHUNK_RECORDS, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_journal_comes_back_as_it_was(chunks: list[ChunkRecord]) -> None:
    data, seal = dump_lines(chunks)
    assert parse_journal(data) == (tuple(chunks), seal, False)
    one_by_one, before = b"", "headforcing.journal/1"
    for number, chunk in enumerate(chunks):
        line, before = dump_lines([chunk], number, before)
        one_by_one += line
    assert one_by_one == data


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_refused_in_a_sentence(value: object) -> None:
    for inner in (value, *({"format": each, "chunks": value} for each in (FORMAT, FORMAT_WITH_CHUNKS))):
        try:
            parse_record(json.dumps(inner).encode(), "fox")
        except RuntimeError as error:
            assert is_sentence(str(error))
        else:
            raise AssertionError("taken")


@given(st.binary(max_size=200), st.integers(0, 600), st.integers(0, 8))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_as_a_chunk(data: bytes, at: int, removed: int) -> None:
    good = pack_chunk(latent(0))
    for each in (data, good[:at] + data + good[at + removed :]):
        try:
            assert unpack_chunk(each, SHAPE).shape == SHAPE
        except ValueError as error:
            assert str(error)


@given(
    st.lists(
        st.tuples(st.integers(-1, 6), st.integers(1, 3), st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=6
    )
)
@settings(max_examples=40, deadline=None)
def test_any_sequence_of_requests_does_what_lists_of_seeds_do(requests: list[tuple[int, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory(dir=FAST_DISK) as folder:
        root = Path(folder)
        with RunStore.open(root, "fox", make_spec()) as store:
            make_chunks(store, 3)
        made, plan = [1] * 3, [1] * 6  # seeds of the finished chunks, and of all
        takes: list[tuple[list[int], list[int]]] = []  # the same of the takes that were kept, each once
        for from_chunk, seed, chunks, count in requests:
            goes_on = from_chunk < 0 and made and (seed == plan[-1] or len(made) < chunks)  # with its own seeds
            wanted = plan if goes_on else (plan[:from_chunk] if from_chunk > 0 else []) + [seed] * 6
            differs = next((at for at in range(min(len(made), chunks)) if made[at] != wanted[at]), None)
            begun_there = from_chunk >= 0 and plan[from_chunk:][:1] == [seed] and [seed] != plan[:from_chunk][-1:]
            beyond = from_chunk >= chunks or (from_chunk > len(made) and not begun_there)
            spec = make_spec(seed, chunks)
            try:
                with RunStore.open(root, "fox", spec, from_chunk=from_chunk) as store:
                    assert not beyond and (differs is None or from_chunk >= 0)
                    if differs is not None:
                        takes += [(made, plan)] if (made, plan) not in takes else []
                        made, plan = made[:differs], wanted[:6]
                    assert seeds_of(store) == made[:chunks]
                    for chunk in range(store.finished, min(store.finished + count, chunks)):
                        make_chunks(store, 1)
                        made, plan = [*made, wanted[chunk]], wanted[:6]
            except ValueError as error:
                assert is_sentence(str(error)) and (beyond or differs is not None)
        for number, (seeds, _) in enumerate(takes, 1):
            assert seeds_in(root / f"fox_take_{number}") == seeds
        assert seeds_in(root / "fox") == made and len(list(root.iterdir())) == 1 + len(takes)
