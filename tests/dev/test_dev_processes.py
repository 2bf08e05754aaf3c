"""Locks, exit codes, and servers that do not outlive what started them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devtools.paths import REPOSITORY
from devtools.server.base_directory import fill, link_models, temporary_base_directory
from devtools.setup.installation import Installation
from devtools.setup.lock import exclusive
from headforcing_core.farm.process import ServerFailed

_HOLD = """
import sys, time
from pathlib import Path
sys.path.append(sys.argv[2])
from devtools.setup.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def holder(lock: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(lock), str(REPOSITORY), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_second_set_up_says_so_and_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = holder(tmp_path / "lock", 0.5)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with exclusive(tmp_path / "lock"):
        assert first.wait(5) == 0
    first.stdout.close()
    assert "Another dev.py is setting up" in capsys.readouterr().err


def test_a_lock_falls_with_its_holder(tmp_path: Path) -> None:
    first = holder(tmp_path / "lock", 60)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    first.kill()
    first.wait()
    first.stdout.close()
    with exclusive(tmp_path / "lock"):
        pass


def test_a_tethered_script_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, time\nprint(sys.argv[1:], sys.path[0], __name__, flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, str(REPOSITORY / "headforcing_core" / "farm" / "tether.py"), str(script), "--port", "1"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == f"['--port', '1'] {tmp_path} __main__\n"
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(5) == 1
    child.stdout.close()


def test_run_gives_its_command_the_environment_and_passes_its_exit_code() -> None:
    names = "COMFYUI_PATH HEADFORCING_FIXTURES OMP_NUM_THREADS HF_HUB_OFFLINE TRANSFORMERS_OFFLINE"
    code = f"import os, sys; [os.environ[name] for name in '{names}'.split()]; print(sys.executable); sys.exit(7)"
    command = [sys.executable, "dev.py", "run", "--comfyui", os.environ["COMFYUI_PATH"], "--", "python", "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert Path(done.stdout.strip()).exists()


def test_a_comfyui_that_does_not_start_is_a_problem_with_its_last_words() -> None:
    installation = Installation.from_environment()
    started = time.monotonic()
    with (
        temporary_base_directory(installation.models) as folder,
        pytest.raises(ServerFailed, match=r"(?s)ended with exit code 2.*--no-such-option"),
        installation.server(folder, ("--no-such-option",)),
    ):
        raise AssertionError("it started")
    assert not folder.exists()
    assert time.monotonic() - started < 30


def test_a_base_directory_links_the_pack_and_the_models_and_keeps_what_was_made(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "vae").mkdir(parents=True)
    (models / "vae" / "a.safetensors").write_bytes(b"a")
    base = tmp_path / "base"
    for _ in range(2):
        fill(base)
        link_models(models, base)
        (base / "output" / "video.mp4").write_bytes(b"video")
    assert (base / "models" / "vae" / "a.safetensors").samefile(models / "vae" / "a.safetensors")
    assert (base / "custom_nodes" / "comfyui-head-forcing" / "dev.py").samefile(REPOSITORY / "dev.py")
    assert (base / "output" / "video.mp4").read_bytes() == b"video"
    assert (base / "custom_nodes" / "headforcing_test_nodes" / "__init__.py").exists()


def test_removing_a_temporary_base_directory_leaves_the_repository_alone(tmp_path: Path) -> None:
    with temporary_base_directory(tmp_path) as folder:
        assert (folder / "custom_nodes" / "comfyui-head-forcing" / "dev.py").exists()
    assert not folder.exists()
    assert (REPOSITORY / "dev.py").exists()
