"""House rules that a tool can check."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def sources() -> list[Path]:
    """Every file of the repository that is text."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    return [ROOT / name for name in listed if name.endswith((".py", ".js", ".md", ".toml", ".json", ".txt", ".csv"))]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment in the repository."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", [("check", "."), ("format", "--check", ".")])
def test_ruff_is_content(command: tuple[str, ...]) -> None:
    done = run("ruff", *command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_right() -> None:
    host = os.environ.get("COMFYUI_PATH")
    assert host, "COMFYUI_PATH is not set: start this with python dev.py test"
    done = run("basedpyright", "--pythonpath", sys.executable, PYTHONPATH=host)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sources_are_ascii() -> None:
    for path in sources():
        assert path.read_bytes().isascii(), path.name


def test_the_core_does_not_know_the_host() -> None:
    found = list((ROOT / "headforcing_core").rglob("*.py"))
    assert len(found) > 30
    for path in found:
        assert not re.search(r"^\s*(import|from) (comfy|folder_paths|nodes|server)\b", path.read_text(), re.M), (
            path.name
        )


def test_requirements_and_pyproject_name_the_same_packages() -> None:
    required = (ROOT / "requirements.txt").read_text().split()
    declared = re.search(r"^dependencies = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert declared is not None and re.findall(r'"([^"]+)"', declared[1]) == required


def test_the_pack_imports_without_the_host() -> None:
    program = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('pack', sys.argv[1]); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(ROOT / "__init__.py")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "fine\n", done.stderr
