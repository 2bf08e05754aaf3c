"""A worker: a process on some machine that owns a ComfyUI, and one card if there are any, and makes one job after
another. Ray starts it and calls it; it knows no Ray itself."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .client import Client, NodeErrors, PromptRejected
from .events import Event, Preview
from .finished_jobs import is_done, note_done
from .job_table import Job
from .loopback import request
from .process import Program, Server
from .same_files import PACK, Found, found_by, pack_hash

DONE, FAILED, IN_USE, LOST = "done", "failed", "in use", "lost"
_IN_USE = "is in use by another run"  # in the sentence of run_store/lock.py
_SECONDS_TO_HEAR = 5.0
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "OMP_NUM_THREADS")  # what Ray and we set for this process alone


@dataclass(frozen=True)
class Order:
    """What every worker of a farm is told: ComfyUI's root and further arguments, the shared output folder, the threads
    that OMP_NUM_THREADS asks for, the hash of the pack, the texts and classes of all jobs, and a folder for what is to
    be thrown away, if there is one."""

    comfyui: Path
    arguments: tuple[str, ...]
    output: Path
    threads: str | None
    pack: str
    texts: tuple[str, ...]
    classes: tuple[str, ...]
    scratch: Path | None


@dataclass(frozen=True)
class Ready:
    """A worker whose ComfyUI answers: where it is, and what is there."""

    machine: str
    pid: int
    comfyui_pid: int
    versions: str
    found: Found


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a word, and the sentence of what went wrong."""

    word: str
    said: str = ""
    files: tuple[str, ...] = ()


class Worker:
    """One worker. `ready` comes first; `render` and `said` may go at once, in two threads."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._folder = Path(tempfile.mkdtemp(prefix="headforcing-worker-", dir=order.scratch))
        self._server: Server | None = None
        self._text = ""
        self._news = threading.Condition()

    def ready(self) -> Ready:
        """Start ComfyUI and look at what is there. ServerFailed, RuntimeError with a sentence."""
        order, machine = self._order, platform.node()
        if pack_hash() != order.pack:
            raise RuntimeError(f"{machine} has another version of this pack in {PACK}. Copy the same files there.")
        if not (order.comfyui / "main.py").is_file():
            raise RuntimeError(f"{machine} has no ComfyUI in {order.comfyui}. Every machine needs it in one place.")
        order.output.mkdir(parents=True, exist_ok=True)
        folders = [f"--{kind}-directory={self._folder / kind}" for kind in ("temp", "user")]
        for kind in ("temp", "user"):
            (self._folder / kind).mkdir()
        arguments = (*folders, f"--output-directory={order.output}", *order.arguments)
        program = Program(Path(sys.executable), order.comfyui, _variables(order.threads))
        self._server = Server(program, self._folder, arguments)
        self._server.__enter__()
        system = json.loads(request(f"{self._server.url}/system_stats"))["system"]
        versions = f"ComfyUI {system['comfyui_version']}, PyTorch {system['pytorch_version']}"
        found = found_by(self._server.url, order.texts, order.classes)
        return Ready(machine, os.getpid(), self._server.pid, versions, found)

    def render(self, job: Job) -> Outcome:
        """Make a job, or the rest of it."""
        assert self._server is not None
        self._hear("")
        if is_done(self._order.output, job):
            return Outcome(DONE)
        client = Client(self._server.url, is_strict=True)
        try:
            queued, end = client.follow(job.workflow, self._on_event)
            if end.kind == "execution_success":
                files = _saved(client, queued["prompt_id"])
                note_done(self._order.output, job, files)
                return Outcome(DONE, files=files)
        except PromptRejected as refusal:
            return Outcome(FAILED, _rejected(refusal.message, refusal.node_errors))
        except OSError as error:
            return Outcome(LOST, str(error))
        said = " ".join(end.text("exception_message").split())
        if end.kind != "execution_error":
            return Outcome(LOST, "it was interrupted")
        if _IN_USE in said:
            return Outcome(IN_USE, said)
        return Outcome(FAILED, f"node {end.text('node_id')} ({end.text('node_type')}): {said}")

    def said(self, before: str) -> str:
        """What ComfyUI says of the job: waits some seconds for something else than what it said `before`."""
        with self._news:
            self._news.wait_for(lambda: self._text != before, _SECONDS_TO_HEAR)
            return self._text

    def close(self) -> None:
        """End ComfyUI, and leave nothing behind."""
        if self._server is not None:
            self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _on_event(self, event: Event | Preview) -> None:
        if isinstance(event, Event) and event.kind == "progress_text":
            self._hear(event.text("text").partition(" | ")[0])

    def _hear(self, text: str) -> None:
        with self._news:
            self._text = text
            self._news.notify_all()


def _variables(threads: str | None) -> Mapping[str, str]:
    """The environment of ComfyUI: this process's, without what is meant for it alone, Ray's token above all."""
    kept = {name: value for name, value in os.environ.items() if name not in _HIDDEN and not name.startswith("RAY_")}
    return kept if threads is None else {**kept, "OMP_NUM_THREADS": threads}


def _saved(client: Client, prompt_id: str) -> tuple[str, ...]:
    """The files that nodes saved, by their paths in the output folder."""
    outputs: Mapping[str, Mapping[str, object]] = client.history(prompt_id)["outputs"]
    listed = [value for node in outputs.values() for value in node.values() if isinstance(value, list)]
    files = [file for each in listed for file in each if isinstance(file, dict) and file.get("type") == "output"]
    return tuple(Path(str(file["subfolder"]), str(file["filename"])).as_posix() for file in files)


def _rejected(message: str, nodes: NodeErrors) -> str:
    listed = [(key, node, node.get("errors")) for key, node in nodes.items()]
    told = [
        f"node {key} ({node.get('class_type')}): {each.get('details') or each.get('message')}"
        for key, node, errors in listed
        for each in (errors if isinstance(errors, list) else [])
    ]
    return "; ".join([message.rstrip("."), *told])
