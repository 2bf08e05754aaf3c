"""What a machine without network needs to run the host: packed on one that has it, unpacked there at run time."""

import atexit
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.card.fat_binary import without_ptx

OLDEST_TORCH = (2, 11)
MOST_BYTES = 12 * 2**20  # with the tracked files 55 MiB at most: what can be sent to a borrowed machine at once
SMALL_FILE = 60_000  # the host's tables for detecting models are smaller, its tokenizers larger
HOST_ARCHIVE = "host.zip"
HOST_PARTS = (
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfyui_version.py",
    "folder_paths.py",
    "latent_preview.py",
    "node_helpers.py",
    "protocol.py",
)
CARRIED = ("comfy-kitchen", "comfy-aimdo", "torchsde", "trampoline")
AMD = "/backends/hip/"  # kernels that are imported on ROCm alone
EXPECTED = (
    *("einops", "numpy", "PIL", "psutil", "safetensors", "scipy", "tokenizers", "torchaudio", "torchvision"),
    *("tqdm", "transformers", "typing_extensions", "yaml"),
)
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 27, 24, 17)),
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)


def pack(folder: Path, python: str) -> int:
    """Fill a folder with the host's code and the packages that it needs beside PyTorch's usual company, for a `python`
    such as 3.12 on x86-64 Linux and an NVIDIA card. Returns its size in bytes; a minute goes into making it small.

    RuntimeError without a host, without one of its packages, or when the folder would be too large to carry.
    """
    host = host_folder()
    if host is None:
        raise RuntimeError(
            f"COMFYUI_PATH is {os.environ.get('COMFYUI_PATH', '')!r}. What is packed comes from a real ComfyUI. Start "
            "with: python dev.py run -- python benchmarks/gpu.py --pack FOLDER"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.whl"), *folder.glob("*.part"), folder / HOST_ARCHIVE):
        old.unlink(missing_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="ascii")
    with zipfile.ZipFile(folder / HOST_ARCHIVE, "w", zipfile.ZIP_LZMA) as archive:
        for file in _host_files(host):
            archive.write(file, file.relative_to(host))
    _download(folder, python)
    for wheel in folder.glob("*.whl"):
        _make_small(wheel)
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > MOST_BYTES:
        raise RuntimeError(
            f"{folder} holds {size} bytes, more than the {MOST_BYTES} that are meant to travel. A package has grown. "
            "Look at the largest file there, and raise MOST_BYTES in benchmarks/card/carry.py if it is right."
        )
    return size


def unpack(folder: Path) -> None:
    """Put what was packed to use in this process: the host before everything, packages after what is installed.

    RuntimeError when the folder is not one that was packed, or was packed for another Python.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not (folder / HOST_ARCHIVE).is_file() or not wheels:
        raise RuntimeError(
            f"{folder} has no {HOST_ARCHIVE} or no wheels. It was not packed, or did not travel. Pack it on a machine "
            "with network: python dev.py run -- python benchmarks/gpu.py --pack FOLDER"
        )
    for wheel in wheels:
        _check_python(wheel.name)
    root = Path(tempfile.mkdtemp(prefix="head-forcing-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for archives, target in (([folder / HOST_ARCHIVE], root / "host"), (wheels, root / "packages")):
        for name in archives:
            with zipfile.ZipFile(name) as archive:
                archive.extractall(target)
    os.environ["COMFYUI_PATH"] = str(root / "host")
    sys.path.append(str(root / "packages"))


def check_machine() -> None:
    """RuntimeError unless this Python has a PyTorch that is new enough, the host, and the packages that it imports."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise RuntimeError(
            f"PyTorch is {torch.__version__}. What is measured needs {'.'.join(map(str, OLDEST_TORCH))}. Use that or a "
            "newer one."
        )
    if host_folder() is None:
        raise RuntimeError(
            f"COMFYUI_PATH is {os.environ.get('COMFYUI_PATH', '')!r} and no folder was carried. What is measured runs "
            "on a real ComfyUI. Give --carry FOLDER, or start with: python dev.py run -- python benchmarks/gpu.py"
        )
    wanted = [*EXPECTED, *(name.replace("-", "_") for name in CARRIED)]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"This Python, {sys.version.split()[0]}, lacks {', '.join(missing)}. ComfyUI imports them. Install "
            "them, or add them to CARRIED in benchmarks/card/carry.py and pack again."
        )


def host_folder() -> Path | None:
    """The ComfyUI that COMFYUI_PATH names, if it is one."""
    named = os.environ.get("COMFYUI_PATH", "")
    return Path(named) if named and (Path(named) / "comfy").is_dir() else None


def _host_files(host: Path) -> Iterator[Path]:
    for part in HOST_PARTS:
        files = sorted((host / part).rglob("*")) if (host / part).is_dir() else [host / part]
        for file in files:
            if file.suffix == ".py" or (file.suffix == ".json" and file.stat().st_size < SMALL_FILE):
                yield file


def _download(folder: Path, python: str) -> None:
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in CARRIED]
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--python-version", python, "--implementation", "cp", *platforms, "--dest", str(folder), *wanted),
    ]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(
            f"{', '.join(wanted)} cannot be had for Python {python}: {finished.stderr.strip()[-400:]}. The host needs "
            "them. Name another --pack-python, or another version in this environment."
        )


def _make_small(wheel: Path) -> None:
    """Write a wheel anew without kernels for AMD cards and without PTX, its members compressed by LZMA, which zipfile
    reads too."""
    small = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(small, "w", zipfile.ZIP_LZMA) as after:
        for name in before.namelist():
            if AMD not in name:
                data = before.read(name)
                after.writestr(name, without_ptx(data) if name.endswith(".so") else data)
    small.replace(wheel)


def _check_python(wheel: str) -> None:
    tag, abi = wheel.split("-")[-3:-1]
    if not tag.startswith("cp"):
        return
    made_for = (int(tag[2]), int(tag[3:]))
    fits = sys.version_info[:2] >= made_for if abi == "abi3" else sys.version_info[:2] == made_for
    if not fits:
        raise RuntimeError(
            f"{wheel} is for another Python than this {sys.version.split()[0]}. Wheels fit one Python or newer ones. "
            f"Pack again with --pack-python {sys.version_info.major}.{sys.version_info.minor}."
        )
