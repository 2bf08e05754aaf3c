"""Everything a command needs in one value: a python, a ComfyUI, and the fixture models."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headforcing_core.farm.process import Program, Server

from ..paths import cache_folder
from ..problem import Problem
from .environment import ensure_environment
from .fixtures import ensure_fixtures
from .foreign_host import own_python, require_comfyui, require_packages
from .host_source import ensure_host
from .lock import exclusive


@dataclass(frozen=True)
class Installation:
    """What was set up: the python that runs ComfyUI, ComfyUI's root, the folder with the fixture models, and one with
    newer packages that ComfyUI finds before those of its python, if any."""

    python: Path
    host: Path
    models: Path
    newer: Path | None = None

    @classmethod
    def ready(cls, comfyui: Path | None, packages: tuple[str, ...]) -> Installation:
        """Set up whatever is missing, one process at a time. `comfyui` is a ComfyUI to use instead of the managed one;
        the packages are those that its own python must have. Raises Problem."""
        cache = cache_folder()
        with exclusive(cache / "lock"):
            if comfyui is None:
                python = ensure_environment(cache)
                host = ensure_host(cache, python)
            else:
                host = require_comfyui(comfyui)
                python = own_python(host) or ensure_environment(cache)
                require_packages(python, packages)
            variables = _variables(python, host)
            return cls(python, host, ensure_fixtures(cache, python, variables))

    @classmethod
    def from_environment(cls) -> Installation:
        """The installation that the running process was started in by dev.py; raises Problem outside of one."""
        try:
            return cls(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), Path(os.environ["HEADFORCING_FIXTURES"]))
        except KeyError as missing:
            raise Problem(
                f"The environment variable {missing} is not set.",
                "This needs a real ComfyUI and the fixture models, which dev.py sets up.",
                "Start it through dev.py: python dev.py test, or python dev.py run -- COMMAND.",
            ) from None

    def server(self, base_directory: Path, arguments: Sequence[str] = ()) -> Server:
        """A ComfyUI of this installation on the processor, which works in a base directory; to be used in a `with`."""
        own = ("--cpu", "--disable-api-nodes", "--preview-method", "auto", "--base-directory", str(base_directory))
        return Server(Program(self.python, self.host, self.variables()), base_directory, (*own, *arguments))

    def variables(self) -> dict[str, str]:
        """The environment variables of a command that runs in this installation."""
        newer = {"PYTHONPATH": str(self.newer)} if self.newer else {}
        return {**_variables(self.python, self.host), **newer, "HEADFORCING_FIXTURES": str(self.models)}


def _variables(python: Path, host: Path) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    variables["PATH"] = str(python.parent) + os.pathsep + variables.get("PATH", os.defpath)
    variables.pop("VIRTUAL_ENV", None)
    if (python.parent.parent / "pyvenv.cfg").exists():
        variables["VIRTUAL_ENV"] = str(python.parent.parent)
    variables["COMFYUI_PATH"] = str(host)
    variables["HF_HUB_OFFLINE"] = variables["TRANSFORMERS_OFFLINE"] = "1"
    # torch's threads spin while they wait: with a second busy process one thread is many times faster than two.
    variables.setdefault("OMP_NUM_THREADS", "1")
    if host.parent != cache_folder():
        variables["PYTHONDONTWRITEBYTECODE"] = "1"  # nothing is written into somebody's own ComfyUI
    return variables
