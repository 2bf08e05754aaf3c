"""The browser of the page tests: Debian's chromium, or one that is already there."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from ..paths import say
from ..problem import Problem

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def ensure_chromium(cache: Path) -> Path:
    """The browser named by HEADFORCING_CHROMIUM or found on PATH; on Debian root gets it installed. Raises Problem."""
    if chosen := os.environ.get("HEADFORCING_CHROMIUM"):
        if not Path(chosen).is_file():
            raise _missing(f"HEADFORCING_CHROMIUM is {chosen}, and there is no such file.")
        return Path(chosen)
    if found := _on_path():
        return found
    if not _can_install():
        raise _missing("No chromium was found.")
    say("Installing chromium (about a minute) ...")
    log = cache / "chromium.log"
    with log.open("wb") as file:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            done = subprocess.run(
                ["apt-get", *command], stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
            )
            if done.returncode != 0:
                raise _missing(f"apt-get {command[0]} failed (log: {log}).")
    if found := _on_path():
        return found
    raise _missing(f"chromium was installed and is not on PATH (log: {log}).")


def _on_path() -> Path | None:
    return next((Path(found) for name in _NAMES if (found := shutil.which(name))), None)


def _can_install() -> bool:
    try:
        debian = platform.freedesktop_os_release().get("ID") == "debian"
    except OSError:
        return False
    return debian and os.geteuid() == 0 and shutil.which("apt-get") is not None


def _missing(what: str) -> Problem:
    return Problem(
        what,
        "The page tests open ComfyUI's real page in a browser.",
        "Install chromium (Debian: apt-get install chromium) or Chrome; elsewhere than on PATH, put its file name"
        " into HEADFORCING_CHROMIUM.",
    )
