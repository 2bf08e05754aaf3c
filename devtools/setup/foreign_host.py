"""Using a ComfyUI that somebody already has. Nothing is ever written into it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ..problem import Problem

_OWN_PYTHONS = (
    "venv/bin/python",
    ".venv/bin/python",
    "venv/Scripts/python.exe",
    ".venv/Scripts/python.exe",
    "../python_embeded/python.exe",
)
_MISSING = """import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if not importlib.util.find_spec(name)]))"""


def require_comfyui(path: Path) -> Path:
    """The absolute root of the ComfyUI at `path`; raises Problem when it is none."""
    host = path.expanduser().absolute()
    missing = [name for name in ("main.py", "comfy") if not (host / name).exists()]
    if missing:
        raise Problem(
            f"--comfyui {path} is not a ComfyUI: it has no {' and no '.join(missing)}.",
            "The folder that directly holds ComfyUI's main.py is needed.",
            "Give that folder (in the portable Windows build it is the inner folder ComfyUI), or leave --comfyui out.",
        )
    return host


def own_python(host: Path) -> Path | None:
    """The python that belongs to this ComfyUI, or None when it has none of its own."""
    candidates = (host / name for name in _OWN_PYTHONS)
    return next((python for python in candidates if python.exists()), None)


def require_packages(python: Path, packages: tuple[str, ...]) -> None:
    """Raise Problem unless `python` runs and has all these packages."""
    command = [str(python), "-c", _MISSING, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Problem(
            f"{python} does not run: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no output'}",
            "It is the python of the ComfyUI that was given with --comfyui.",
            "Mend that environment, or leave --comfyui out to use a managed ComfyUI.",
        )
    if missing := json.loads(done.stdout):
        raise Problem(
            f"{python} lacks {', '.join(missing)}.",
            "That python belongs to the ComfyUI that was given with --comfyui, and this command runs in it.",
            f'Run: "{python}" -m pip install {" ".join(missing)}   (or leave --comfyui out)',
        )
