"""Run pip, keep its output in a log, and say in plain words why it failed."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from ..paths import say
from ..problem import Problem, full_disk, held_file

_NO_NETWORK = re.compile(
    r"NewConnectionError|Failed to establish a new connection|Max retries exceeded|Temporary failure in name resolution"
    r"|ConnectTimeout|ReadTimeout|Read timed out|ProxyError|Connection refused|getaddrinfo failed|Connection broken"
    r"|RemoteDisconnected|Network is unreachable"
)
_FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded|\[Errno 28\]|\[WinError 112\]")
_HELD_FILE = re.compile(r".*(?:\[Errno 13\]|\[WinError (?:5|32|33)\]|Permission denied).*")


def pip(python: Path, log: Path, arguments: list[str]) -> None:
    """Run `python -m pip ARGUMENTS`, its output appended to `log`; raises Problem when it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    started = time.monotonic()
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        start = file.tell()
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
        file.seek(start)
        output = file.read()
    if done.returncode != 0:
        raise problem_of_output(output, log)
    say(f"    {time.monotonic() - started:.0f} s")


def problem_of_output(output: str, log: Path) -> Problem:
    """The Problem that explains a failed pip's output."""
    tail = "\n".join(f"        {line}" for line in output.strip().splitlines()[-12:])
    if _FULL_DISK.search(output):
        return full_disk(f"the environment (log: {log})")
    if _NO_NETWORK.search(output):
        return Problem(
            f"pip could not reach its package index. The end of {log}:\n{tail}",
            "The first set-up downloads PyTorch and the packages of ComfyUI; later runs need no network.",
            "Check the network, the proxy and pip's own settings (pip config list), then run it again.",
        )
    if held := _HELD_FILE.search(output):
        return held_file("the environment", held.group(0).strip())
    return Problem(
        f"pip failed. The end of {log}:\n{tail}",
        "A package could not be found, built or installed for this Python and this system.",
        "Read the log; after mending the cause run it again, it starts from a clean environment.",
    )
