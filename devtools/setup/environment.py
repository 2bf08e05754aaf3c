"""The managed Python environment: a virtual environment in the cache folder, verified at each start."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from ..paths import REQUIREMENTS, python_in, say
from ..problem import Problem, held_file
from .cpu_only import make_importable
from .package_folder import damage_of_packages, mark_whole
from .pip import pip, problem_of_output

NEEDED_BYTES = 5_000_000_000
_COMPLETE = "complete.json"
_FILES = ("constraints.txt", "host.txt", "host-no-deps.txt", "testing.txt")


def environment_key(requirements: Path, python_version: tuple[int, int]) -> str:
    """A short name for one set of requirement files and one Python."""
    digest = hashlib.sha256(repr(python_version).encode())
    for name in _FILES:
        digest.update((requirements / name).read_bytes())
    return digest.hexdigest()[:12]


def ensure_environment(cache: Path) -> Path:
    """The python of the managed environment, built or rebuilt when it is missing or damaged; raises Problem."""
    folder = cache / f"venv-{environment_key(REQUIREMENTS, sys.version_info[:2])}"
    if not (damage := damage_of(folder)):
        return python_in(folder)
    if folder.exists():
        say(f"The environment is not whole ({damage}); building it again.")
        _remove(folder)
    require_disk_space(cache, shutil.disk_usage(cache).free)
    _build(folder, cache / "pip.log")
    return python_in(folder)


def require_disk_space(folder: Path, free_bytes: int) -> None:
    """Raise Problem unless the first set-up fits."""
    if free_bytes < NEEDED_BYTES:
        raise Problem(
            f"Only {free_bytes / 1e9:.1f} GB are free in {folder}.",
            f"The first set-up needs about {NEEDED_BYTES / 1e9:.0f} GB for PyTorch, ComfyUI and their packages.",
            "Free some space, or set XDG_CACHE_HOME (Windows: LOCALAPPDATA) to a folder on a larger disk.",
        )


def damage_of(folder: Path) -> str:
    """What is wrong with the environment in `folder`, in a few words; empty when it is whole."""
    if folder.exists() and not python_in(folder).exists():
        return "its python is missing"
    return damage_of_packages(site_packages_of(folder), folder / _COMPLETE)


def site_packages_of(folder: Path) -> Path:
    """Where the packages of a virtual environment lie."""
    base = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", "venv", vars=base))


def _remove(folder: Path) -> None:
    (folder / _COMPLETE).unlink(missing_ok=True)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise held_file(str(folder), str(error)) from None


def _create(folder: Path, log: Path) -> None:
    try:
        venv.EnvBuilder(with_pip=True, symlinks=sys.platform != "win32").create(folder)
    except subprocess.CalledProcessError as error:
        output = error.output.decode(errors="replace") if error.output else ""
        if "ensurepip" in output and "No module named" in output:
            raise Problem(
                f"{sys.executable} has no ensurepip.",
                "The managed environment needs its own pip, and Debian ships that part of Python separately.",
                "Install it (Debian: apt-get install python3-venv), then run it again.",
            ) from None
        raise problem_of_output(output, log) from None


def _build(folder: Path, log: Path) -> None:
    say(f"Building the Python environment in {folder} (about two minutes; log: {log})")
    log.unlink(missing_ok=True)
    _create(folder, log)
    python, site_packages = python_in(folder), site_packages_of(folder)
    pinned = ["install", "-c", str(REQUIREMENTS / "constraints.txt")]
    say("  torch ...")
    pip(python, log, [*pinned, "torch==2.13.0"])
    say("  packages of ComfyUI and of the tests ...")
    pip(python, log, [*pinned, "-r", str(REQUIREMENTS / "host.txt"), "-r", str(REQUIREMENTS / "testing.txt")])
    say("  torchvision, torchaudio, spandrel ...")
    pip(python, log, [*pinned, "--no-deps", "-r", str(REQUIREMENTS / "host-no-deps.txt")])
    make_importable(python, site_packages)
    mark_complete(folder)


def mark_complete(folder: Path) -> None:
    """Declare an environment whole as it is now. The last step of a build."""
    mark_whole(site_packages_of(folder), folder / _COMPLETE)
