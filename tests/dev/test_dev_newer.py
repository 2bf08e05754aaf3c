"""The folder of newer packages: filled by the real pip from a folder of tiny wheels, as pinned or the newest."""

import sys
import zipfile
from pathlib import Path

import pytest

from devtools.problem import Problem
from devtools.setup.installation import Installation
from devtools.setup.newer import ensure_newer, install_newest, pins, versions_in

PINNED = {"comfyui-frontend-package": "1.58.1", "comfy-kitchen": "0.2.40", "comfy-aimdo": "0.6.0"}
PYTHON = Path(sys.executable)


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A package of one line that says its version."""
    name = name.replace("-", "_")
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


def make_all(folder: Path) -> None:
    """The pinned packages."""
    for name, version in PINNED.items():
        make_wheel(folder, name, version)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip can find: the pinned wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_all(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_pins_are_what_support_says() -> None:
    assert dict(pin.split("==") for pin in pins()) == PINNED
    table = (Path(__file__).resolve().parents[2] / "docs" / "support.md").read_text(encoding="ascii")
    page, kitchen, aimdo = PINNED.values()
    assert f"page {page}, comfy-kitchen {kitchen} and comfy-aimdo {aimdo}" in table


def test_a_folder_is_filled_once_as_pinned_and_again_when_it_is_damaged(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "comfy-aimdo", "0.7.0")
    folder = ensure_newer(tmp_path, PYTHON)
    assert versions_in(folder) == PINNED
    for wheel in index.iterdir():
        wheel.unlink()
    assert ensure_newer(tmp_path, PYTHON) == folder
    (folder / "comfy_kitchen" / "__init__.py").unlink()
    with pytest.raises(Problem, match="pip failed"):
        ensure_newer(tmp_path, PYTHON)
    make_all(index)
    assert ensure_newer(tmp_path, PYTHON) == folder and (folder / "comfy_kitchen" / "__init__.py").exists()


def test_the_newest_are_taken_every_time(index: Path, tmp_path: Path) -> None:
    assert versions_in(install_newest(tmp_path, PYTHON)) == PINNED
    make_wheel(index, "comfyui-frontend-package", "1.60.0")
    newest = install_newest(tmp_path, PYTHON)
    assert versions_in(newest) == {**PINNED, "comfyui-frontend-package": "1.60.0"}


def test_a_comfyui_finds_them_before_those_of_its_environment(tmp_path: Path) -> None:
    given = Installation.from_environment()
    plain = given.variables()
    assert "PYTHONPATH" not in plain
    assert Installation(given.python, given.host, given.models, tmp_path).variables() == {
        **plain,
        "PYTHONPATH": str(tmp_path),
    }
