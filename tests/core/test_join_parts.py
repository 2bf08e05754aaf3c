"""The parts of a model become one file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from headforcing_core.checkpoint.join_parts import join, parts_of
from tests.conftest import REPOSITORY

NAMES = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        save_file({f"{number}.weight": torch.full((2, 3), float(number))}, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("named", NAMES)
def test_any_part_names_all_of_them(folder: Path, named: str) -> None:
    assert [part.name for part in parts_of(folder / named)] == NAMES


def test_the_command_writes_one_file_with_all_tensors(folder: Path) -> None:
    command = [sys.executable, "-m", "headforcing_core.checkpoint.join_parts"]
    ended = subprocess.run(
        [*command, str(folder / NAMES[1]), str(folder / "whole.safetensors")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"{folder / 'whole.safetensors'}: 3 tensors\n"
    whole = load_file(folder / "whole.safetensors")
    assert {name: tensor[0, 0].item() for name, tensor in whole.items()} == {f"{n}.weight": float(n) for n in range(3)}


def test_parts_of_a_pickle_are_read_as_tensors_alone(tmp_path: Path) -> None:
    for number in (1, 2):
        torch.save({f"{number}.weight": torch.ones(2)}, tmp_path / f"x-{number:05}-of-00002.pt")
    assert join(parts_of(tmp_path / "x-00001-of-00002.pt"), tmp_path / "x.safetensors") == 2
    torch.save({"step": 3}, tmp_path / "x-00002-of-00002.pt")
    with pytest.raises(ValueError, match="x-00002-of-00002.pt holds more than named tensors"):
        join(parts_of(tmp_path / "x-00001-of-00002.pt"), tmp_path / "y.safetensors")


def test_what_cannot_be_joined_is_refused_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(ValueError, match="whole.safetensors is not named as a part"):
        parts_of(folder / "whole.safetensors")
    save_file({"0.weight": torch.ones(1)}, folder / NAMES[2])
    with pytest.raises(ValueError, match=f"{NAMES[2]} holds 0.weight, as a part before it does"):
        join(parts_of(folder / NAMES[0]), folder / "whole.safetensors")
    (folder / NAMES[1]).unlink()
    with pytest.raises(ValueError, match=f"1 of the 3 parts are not beside {NAMES[0]}, the first is {NAMES[1]}"):
        parts_of(folder / NAMES[0])
    (folder / "whole.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is there already"):
        join([], folder / "whole.safetensors")
    assert sorted(path.name for path in folder.iterdir()) == sorted([NAMES[0], NAMES[2], "whole.safetensors"])


def test_what_stands_at_the_head_of_the_parts_is_kept(folder: Path) -> None:
    heads = ({"format": "pt", "_quantization_metadata": "{}"}, {"format": "pt"}, {"config": "{}"})
    for number, head in enumerate(heads):
        save_file({f"{number}.weight": torch.ones(1)}, folder / NAMES[number], head)
    join(parts_of(folder / NAMES[0]), folder / "whole.safetensors")
    with safe_open(folder / "whole.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "_quantization_metadata": "{}", "config": "{}"}
    save_file({"2.weight": torch.ones(1)}, folder / NAMES[2], {"_quantization_metadata": "{1}"})
    with pytest.raises(ValueError, match=f"{NAMES[2]} says at its head of _quantization_metadata what a part before"):
        join(parts_of(folder / NAMES[0]), folder / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"not tensors", b"PK\x03\x04 cut short", b"\x80\x02cos\nsystem\n."])
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_part_that_is_damaged_is_refused_by_its_name(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / f"x-00001-of-00001.{ending}").write_bytes(content)
    with pytest.raises(ValueError, match=f"x-00001-of-00001.{ending} cannot be read as tensors alone"):
        join(parts_of(tmp_path / f"x-00001-of-00001.{ending}"), tmp_path / "whole.safetensors")
    assert len(list(tmp_path.iterdir())) == 1
