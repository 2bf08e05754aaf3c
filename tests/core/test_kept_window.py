"""What stands behind a chunk is kept with it, and checked as the chunk is."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from run_specs import FAST_DISK, SHAPE, latent, make_spec
from safetensors.torch import save
from torch import Tensor

from headforcing_core.run_store.chunk_file import most_bytes, pack_chunk, read_window, unpack_chunk
from headforcing_core.run_store.record import RunSpec
from headforcing_core.run_store.store import RunStore

FRAMES = 8
GOOD = pack_chunk(latent(0), latent(1, shape=(1, 16, FRAMES, 2, 2)))


def window(chunk: int, frames: int = FRAMES) -> Tensor:
    return latent(100 + chunk, shape=(1, 16, frames, 2, 2))


def with_header(data: bytes, name: str, **values: object) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header[name] |= values
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + data[8 + length :]


def spec(chunks: int = 4, seed: int = 1) -> RunSpec:
    return replace(make_spec(seed, chunks), window_frames=FRAMES)


@pytest.fixture
def root() -> Iterator[Path]:
    with TemporaryDirectory(dir=FAST_DISK) as folder:
        yield Path(folder)


def test_a_file_with_a_window_is_no_larger_than_it_may_be() -> None:
    assert torch.equal(unpack_chunk(GOOD, SHAPE, FRAMES), latent(0))
    numbers = 4 * 16 * (2 + FRAMES) * 4
    assert numbers < len(GOOD) <= most_bytes(SHAPE, FRAMES) == numbers + 8 + 1024


@pytest.mark.parametrize(
    ("data", "frames", "message"),
    [
        (GOOD, 0, "the header has the unknown name 'window'"),
        (pack_chunk(latent(0)), FRAMES, "the header lacks 'window'"),
        (GOOD, FRAMES - 1, r"window has shape \[1, 16, 8, 2, 2\]"),
        (save({"latent": latent(0), "window": window(0).half()}), FRAMES, "window has type F16"),
        (pack_chunk(latent(0), window(0) / 0), FRAMES, "not finite"),
        (pack_chunk(latent(0) / 0, window(0)), FRAMES, "not finite"),
        (GOOD[:-4], FRAMES, "it holds 2556 bytes of numbers, not 2560"),
        (GOOD + bytes(4), FRAMES, "it holds 2564 bytes of numbers, not 2560"),
        (with_header(GOOD, "window", data_offsets=[0, 2048]), FRAMES, "bytes of numbers"),
        (with_header(GOOD, "latent", data_offsets=[2048, 2560]), FRAMES, "bytes of numbers"),
    ],
)
def test_a_file_that_holds_anything_else_is_refused(data: bytes, frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_chunk(data, SHAPE, frames)


def test_windows_are_kept_with_their_chunks_and_with_a_take(root: Path) -> None:
    with RunStore.open(root, "film", spec()) as run:
        for chunk in range(4):
            run.append(latent(chunk), (), window=window(chunk))
    with RunStore.open(root, "film", spec(6)) as run:
        assert run.finished == 4
        assert all(torch.equal(run.read_window(chunk), window(chunk)) for chunk in range(4))
        run.append(latent(4), (), window=window(4))
    with RunStore.open(root, "film", spec(6, seed=2), from_chunk=2) as run:
        assert run.finished == 2 and torch.equal(run.read_window(1), window(1))
        run.append(latent(7), (), window=window(7))
    with RunStore.open(root, "film_take_1", spec(6)) as run:
        assert run.finished == 5 and torch.equal(run.read_window(4), window(4))


def test_a_chunk_with_another_window_or_none_is_not_kept(root: Path) -> None:
    with RunStore.open(root, "film", spec()) as run:
        for wrong, error, message in (
            (None, ValueError, "0 noisy frames stand behind chunk 0, those of the run 'film' have 8"),
            (window(0, 4), ValueError, "4 noisy frames"),
            (window(0) / 0, RuntimeError, "not finite"),
        ):
            with pytest.raises(error, match=message):
                run.append(latent(0), (), window=wrong)
        assert run.finished == 0
    with RunStore.open(root, "plain", make_spec()) as run, pytest.raises(ValueError, match="8 noisy frames"):
        run.append(latent(0), (), window=window(0))


def test_a_changed_window_ends_what_is_good_of_a_run(root: Path) -> None:
    with RunStore.open(root, "film", spec()) as run:
        for chunk in range(3):
            run.append(latent(chunk), (), window=window(chunk))
    path = root / "film" / "chunk_00001.safetensors"
    path.write_bytes(pack_chunk(latent(1), window(9)))
    with RunStore.open(root, "film", spec()) as run:
        assert run.finished == 1 and any("chunk_00001.safetensors is damaged" in note for note in run.notes)
    with pytest.raises(ValueError, match="bytes are not those that were written"):
        read_window(path, "0" * 64, SHAPE, FRAMES)
