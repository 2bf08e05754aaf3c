"""One real ComfyUI on a free loopback port, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .loopback import free_port, request

_TETHER = Path(__file__).resolve().parent / "tether.py"
_PORT_TAKEN = "already in use"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ServerFailed(RuntimeError):
    """A ComfyUI does not run as it should: what is wrong, with the end of its output, why, and what to do."""


class PortTaken(Exception):
    """Another program took the port between its choice and its use."""


@dataclass(frozen=True)
class Program:
    """A ComfyUI that can be started: its python, its root, and the environment variables that it gets."""

    python: Path
    host: Path
    variables: Mapping[str, str]


class Server:
    """A running ComfyUI; use it in a `with`. It ends with the block, and with the process that started it.

    `url`, `log` (its output) and `pid` say where it is. Its arguments name `folder`, or a folder in it, by which it is
    told from others; the log lies there. Raises ServerFailed when it does not start.
    """

    def __init__(
        self, program: Program, folder: Path, arguments: Sequence[str] = (), start_seconds: float = 180
    ) -> None:
        self.folder = folder
        self.log = folder / "host.log"
        self.url = ""
        self._program = program
        self._arguments = arguments
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for attempt in range(5):
            try:
                self._start(free_port())
                self._wait_until_it_answers()
            except PortTaken:
                self.stop()
                if attempt == 4:
                    raise self.problem("found its port taken five times") from None
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of ComfyUI."""
        return self._running().pid

    def wait(self) -> int:
        """Wait until ComfyUI ends on its own; its exit code."""
        return self._running().wait()

    def stop(self) -> None:
        """End ComfyUI: ask, wait ten seconds, then kill. Does nothing when it has ended already."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def problem(self, what: str) -> ServerFailed:
        """The error of a ComfyUI that does not run as it should, with the end of its output."""
        return ServerFailed(
            f"ComfyUI {what}. The end of its output:\n{tail_of(self.log)}\n"
            f"  why:  It runs from {self._program.host} with {self._program.python}.\n"
            "  do:   Mend what its output names; a custom node or a missing package is the usual cause."
        )

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this Server has not been started; use it in a with block")
        return self._process

    def _start(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(str(self._program.python), str(_TETHER), str(self._program.host / "main.py")),
            *("--listen", "127.0.0.1", "--port", str(port)),
            *("--disable-auto-launch", "--database-url", "sqlite:///:memory:", *self._arguments),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._program.host,
                env=dict(self._program.variables),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop it
            )

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + self._start_seconds
        while time.monotonic() < end:
            if (code := self._running().poll()) is not None:
                if _PORT_TAKEN in tail_of(self.log):
                    raise PortTaken
                raise self.problem(f"ended with exit code {code} while it started")
            if self._answers():
                return
            time.sleep(0.1)
        raise self.problem(f"did not answer within {self._start_seconds:.0f} s")

    def _answers(self) -> bool:
        """Whether this very ComfyUI answers, and not another one on the same port."""
        try:
            stats = json.loads(request(f"{self.url}/system_stats", timeout_seconds=5))
            return any(str(self.folder) in argument for argument in stats["system"]["argv"])
        except (OSError, ValueError, KeyError):
            return False


def tail_of(log: Path, lines: int = 15) -> str:
    """The end of a log, indented to stand in an error."""
    text = _COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(f"        {line}" for line in text.splitlines()[-lines:])
