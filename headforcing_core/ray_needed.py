"""Ray, which places and starts processes: what is said where it is not to be had, what it is told, and the folder that
it has. It is optional, so no requirement names it, and it is imported only when a run asks for it."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

HOW_TO_INSTALL = 'Install it with the Python that runs ComfyUI: pip install "ray>=2.59,<3"'
_SECONDS_TO_ANSWER = 5.0
OF_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # off, Ray listens on 127.0.0.1 and nowhere else
USUAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # a ComfyUI fills the main memory on purpose; Ray would end its worker
    "RAY_worker_niceness": "0",  # else all that computes beside comes before what Ray begins
}
"""What stands in the environment wherever Ray is used."""
ALONE = {OF_CLUSTERS: "0", "RAY_AUTH_MODE": "token"}
"""And where it is for this machine alone, beside a token. Read where Ray is imported, here and in what it begins."""
_PLACE = Path("/tmp")  # the path of a socket may have 107 characters, and Ray adds 65
_FOLDER = re.compile(r"headforcing-(?:farm-)?(\d+)-\w+")
_OLDEST = (2, 59)  # the first that is guarded by a token


def check_ray(why: str) -> None:
    """RuntimeError, with how to get it, where Ray is not installed or too old; it is not imported. `why` it is needed,
    a sentence without its full stop."""
    try:
        version = importlib.metadata.version("ray") if importlib.util.find_spec("ray") is not None else ""
    except importlib.metadata.PackageNotFoundError:  # a folder by that name
        version = ""
    if not version:
        raise RuntimeError(f"Ray is not installed. {why}. {HOW_TO_INSTALL}")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise RuntimeError(f"Ray {version} is too old. {why}. {HOW_TO_INSTALL}")


def check_answers(address: str) -> None:
    """RuntimeError for an address, HOST:PORT, where nobody answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise RuntimeError(
            f"address is {address}, where no Ray answers ({error}). Begin Ray there by ray start --head, and write its "
            "address as HOST:PORT; for this machine alone leave address as it was."
        ) from error


def own_folder(name: str) -> Path:
    """A new folder that this user alone can open, of this process, "headforcing" or "headforcing-farm"."""
    remove_left_behind()
    return Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=_PLACE if _PLACE.is_dir() else None))


def remove_left_behind() -> None:
    """Remove the folders of processes that ended without doing so."""
    for folder in _PLACE.iterdir() if _PLACE.is_dir() else ():
        named = _FOLDER.fullmatch(folder.name)
        if named and not psutil.pid_exists(int(named[1])):
            shutil.rmtree(folder, ignore_errors=True)
