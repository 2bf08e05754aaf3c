"""Where things lie: the repository, its requirement files, and the per-user cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).resolve().parent / "setup" / "requirements"


def cache_folder() -> Path:
    """The folder that holds the environment, ComfyUI and the fixtures; made when missing."""
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif os.environ.get("XDG_CACHE_HOME"):
        parent = os.environ["XDG_CACHE_HOME"]
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Caches"
    else:
        parent = Path.home() / ".cache"
    folder = Path(parent).absolute() / "comfyui-head-forcing"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def python_in(environment: Path) -> Path:
    """The python of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def say(line: str) -> None:
    """Tell the user something; stdout is kept for results."""
    print(line, file=sys.stderr, flush=True)
