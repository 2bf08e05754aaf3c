"""What travels to a machine without network: packed from wheels that are made here, unpacked in another process."""

import importlib.metadata
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.card.carry import CARRIED, HOST_ARCHIVE, MOST_BYTES, pack
from benchmarks.card.fat_binary import without_ptx

ROOT = Path(__file__).resolve().parents[2]
MOST_TOGETHER = 55 * 2**20
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp{PYTHON.replace('.', '')}"
PTX, MACHINE_CODE = 1, 2
CODE, TEXT = b"\x7fELF" + bytes(range(200)), bytes(range(1, 251))


def container(*entries: tuple[int, bytes], version: int = 1, more: int = 0) -> bytes:
    """Kernels as NVIDIA's compiler puts them side by side: (kind, what it holds). Its header says `more` bytes."""
    parts = b"".join(struct.pack("<HHIQ", kind, 257, 64, len(data)) + bytes(48) + data for kind, data in entries)
    return struct.pack("<IHHQ", 0xBA55ED50, version, 16, len(parts) + more) + parts


PROGRAM = bytes(range(256)) * 400
KERNELS = PROGRAM + container((MACHINE_CODE, CODE), (PTX, TEXT)) + b"the end"
CARRIED_KERNELS = PROGRAM + container((MACHINE_CODE, CODE), (PTX, bytes(len(TEXT)))) + b"the end"
_UNPACK = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.card.carry import unpack
unpack(Path(sys.argv[2]))
import carried_comfy_kitchen
host = os.environ["COMFYUI_PATH"]
kernels = Path(carried_comfy_kitchen.__file__).with_name("comfy_kitchen") / "backends" / "cuda" / "_C.so"
print(json.dumps([host, os.listdir(host), kernels.read_bytes().hex()]))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of each package at the installed version."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in CARRIED:
        distribution, version = name.replace("-", "_"), importlib.metadata.version(name)
        about = f"{distribution}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{distribution}-{version}-{TAG}-{TAG}-manylinux_2_28_x86_64.whl", "w") as wheel:
            wheel.writestr(f"carried_{distribution}.py", "")
            for backend in ("cuda", "hip"):
                wheel.writestr(f"{distribution}/backends/{backend}/_C.so", KERNELS)
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nTag: {TAG}-{TAG}-manylinux_2_28_x86_64\n")
            wheel.writestr(f"{about}/RECORD", "")
    return folder


@pytest.fixture(scope="module")
def packed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was packed from those wheels, which pip takes in place of the network."""
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        assert pack(folder, PYTHON) == sum(file.stat().st_size for file in folder.iterdir())
    return folder


def unpacked(folder: Path) -> subprocess.CompletedProcess[str]:
    """What a process without a host says that unpacks a folder."""
    without = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    command = [sys.executable, "-c", _UNPACK, str(ROOT), str(folder)]
    return subprocess.run(command, env=without, capture_output=True, text=True, check=False)


def test_wheels_are_packed_small_and_without_what_amd_cards_run(wheels: Path, packed: Path) -> None:
    assert {wheel.name for wheel in packed.glob("*.whl")} == {wheel.name for wheel in wheels.iterdir()}
    for wheel in wheels.iterdir():
        assert (packed / wheel.name).stat().st_size < len(KERNELS)
        with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(packed / wheel.name) as after:
            kept = [name for name in before.namelist() if "/hip/" not in name]
            assert after.namelist() == kept != before.namelist()
            kernels = {name for name in kept if name.endswith(".so")}
            assert all(after.read(name) == (CARRIED_KERNELS if name in kernels else before.read(name)) for name in kept)


def test_what_was_packed_is_used_and_goes_again(packed: Path) -> None:
    done = unpacked(packed)
    assert done.returncode == 0, done.stderr
    host, parts, kernels = json.loads(done.stdout)
    assert host != os.environ["COMFYUI_PATH"] and "comfy" in parts
    assert bytes.fromhex(kernels) == CARRIED_KERNELS
    assert not Path(host).exists()


BOTH = container((PTX, TEXT), (MACHINE_CODE, CODE), (PTX, TEXT[:90]))
BLANKED = container((PTX, bytes(len(TEXT))), (MACHINE_CODE, CODE), (PTX, bytes(90)))


@pytest.mark.parametrize(
    ("library", "carried"),
    [
        (b"before" + BOTH + b"between" + BOTH + b"after", b"before" + BLANKED + b"between" + BLANKED + b"after"),
        (container((PTX, TEXT)), None),  # nothing else could run there
        (container((MACHINE_CODE, CODE)), None),
        (container((PTX, TEXT), (MACHINE_CODE, CODE), (3, TEXT)), None),  # a kind that is not known
        (container((PTX, TEXT), (MACHINE_CODE, CODE), version=2), None),
        (container((PTX, TEXT), (MACHINE_CODE, CODE), more=8) + bytes(8), None),
        (container((PTX, TEXT), (MACHINE_CODE, CODE), more=8), None),  # cut short
        (container((PTX, TEXT), (MACHINE_CODE, CODE))[:100], None),
        (container()[:10], None),
        (TEXT, None),
    ],
)
def test_ptx_is_blanked_where_there_is_machine_code_and_nothing_else_changes(
    library: bytes, carried: bytes | None
) -> None:
    assert without_ptx(library) == (library if carried is None else carried)


def test_another_python_is_refused(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path, dirs_exist_ok=True)
    for wheel in tmp_path.glob("*.whl"):
        wheel.rename(wheel.with_name(wheel.name.replace(TAG, "cp39")))
    assert f"Pack again with --pack-python {PYTHON}." in unpacked(tmp_path).stderr


def test_a_folder_that_was_not_packed_is_refused(tmp_path: Path) -> None:
    assert f"has no {HOST_ARCHIVE} or no wheels" in unpacked(tmp_path).stderr


def test_repository_and_what_is_packed_travel_together() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert sum(path.stat().st_size for path in files) + MOST_BYTES <= MOST_TOGETHER
