"""What a user reads when something is wrong: three parts, the value, and no traceback."""

import errno
import os
import sys
from pathlib import Path

import pytest

from devtools.commands import main
from devtools.problem import Problem, exit_code_of, problem_of_os_error
from devtools.setup.foreign_host import own_python, require_comfyui, require_packages
from devtools.setup.installation import Installation
from devtools.setup.pip import problem_of_output


def parts(problem: Problem | None) -> str:
    text = str(problem)
    assert "\n  why:  " in text and "\n  do:   " in text
    return text


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("Retrying after NewConnectionError('Failed to establish a new connection: refused')", "could not reach"),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: [WinError 32] The process cannot access the file: 'c10.dll'", "cannot be written or removed"),
        ("ERROR: No matching distribution found for torch==2.13.0", "pip failed"),
    ],
)
def test_a_failed_pip_is_explained(output: str, said: str) -> None:
    assert said in parts(problem_of_output(output, Path("pip.log")))


def test_the_end_of_pips_output_is_shown() -> None:
    output = "\n".join(f"line {number}" for number in range(100))
    assert "line 99" in str(problem_of_output(output, Path("pip.log")))
    assert "line 10\n" not in str(problem_of_output(output, Path("pip.log")))


def test_a_full_disk_and_a_held_file_are_explained() -> None:
    assert "disk is full: /cache/x" in parts(problem_of_os_error(OSError(errno.ENOSPC, "full", "/cache/x")))
    assert "/cache/y cannot be written" in parts(problem_of_os_error(PermissionError(errno.EACCES, "no", "/cache/y")))
    assert problem_of_os_error(FileNotFoundError(errno.ENOENT, "none", "/cache/z")) is None


def test_a_problem_ends_with_exit_code_2_and_an_interrupt_with_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise Problem("a is 1", "b", "c")

    def interrupt() -> int:
        raise KeyboardInterrupt

    assert exit_code_of(fail) == 2
    assert capsys.readouterr().err == "error: a is 1\n  why:  b\n  do:   c\n"
    assert exit_code_of(interrupt) == 130
    assert exit_code_of(interrupt, interrupted=0) == 0


def test_a_folder_that_is_no_comfyui_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--comfyui", str(tmp_path), "--", "true"], "") == 2
    said = capsys.readouterr().err
    assert f"--comfyui {tmp_path} is not a ComfyUI: it has no main.py and no comfy" in said


def test_the_own_python_of_a_comfyui_is_found(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    (tmp_path / "comfy").mkdir()
    assert require_comfyui(tmp_path) == tmp_path
    assert own_python(tmp_path) is None
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text("")
    assert own_python(tmp_path) == tmp_path / ".venv" / "bin" / "python"


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    require_packages(Path(sys.executable), ("pytest",))
    with pytest.raises(Problem) as refused:
        require_packages(Path(sys.executable), ("pytest", "no_such_package"))
    assert "lacks no_such_package." in parts(refused.value)
    assert "-m pip install no_such_package" in str(refused.value)


def test_outside_of_dev_py_the_installation_says_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    with pytest.raises(Problem, match="COMFYUI_PATH"):
        Installation.from_environment()


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--comfyui", os.environ["COMFYUI_PATH"], "--", "no-such-command"]
    assert main(arguments, "") == 2
    assert "There is no command no-such-command." in capsys.readouterr().err
