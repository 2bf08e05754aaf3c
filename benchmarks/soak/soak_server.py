"""Real ComfyUI servers: interrupted, killed, and two of them at one run."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import cast

import safetensors.torch

from benchmarks.shared.tables import Findings, Row, Target, others, tell, yes
from benchmarks.soak.soak_host import CHECKPOINT, FPS, RUN_NAME, Film, bits_of, folder_of, pictures_of
from benchmarks.soak.soak_killed import chunks_listed, plays
from devtools.server.base_directory import temporary_base_directory
from devtools.server.tiny_workflow import Node, Workflow
from devtools.setup.installation import Installation
from headforcing_core.farm.client import Client, OutputFile
from headforcing_core.farm.events import Event, Preview
from headforcing_core.farm.process import Server

SEED = 23
LONGEST_WAIT = 600.0


def graph(film: Film, has_video: bool, **inputs: object) -> Workflow:
    """A film as a workflow: policy paper, heads of all types, its latent saved, and its video if there is to be one."""
    size = {"width": film.width, "height": film.height}
    sampler = {"seconds": film.seconds, "fps": FPS, "seed": 1, **size, **inputs}
    links = {name: [name, 0] for name in ("model", "schedule", "policy", "profile")}
    made = {
        "model": _node("HeadForcingLoadARModel", model_name=CHECKPOINT),
        "clip": _node("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors"),
        "schedule": _node("HeadForcingPromptSchedule", clip=["clip", 0], text="a red fox in deep snow"),
        "policy": _node("HeadForcingCachePolicy", preset="paper"),
        "profile": _node("HeadForcingProfileHeads", model=["model", 0], rule="random", **size),
        "sampler": _node("HeadForcingSampler", **links, **sampler),
        "save latent": _node("SaveLatent", samples=["sampler", 0], filename_prefix="latents/soak"),
    }
    if has_video:
        made["vae"] = _node("VAELoader", vae_name="wan_2.1_vae.safetensors")
        made["sampler"]["inputs"]["vae"] = ["vae", 0]
        video = {"filename_prefix": "video/soak", "format": "auto", "codec": "auto"}
        made["save video"] = _node("SaveVideo", video=["sampler", 1], **video)
    return made


def _node(class_type: str, **inputs: object) -> Node:
    return {"class_type": class_type, "inputs": inputs}


def prove_interrupted(long: Film, short: Film, interrupts: int, findings: Findings) -> list[Target]:
    """Table: every interrupt, how long the run went on after it, and whether the next run had the right bits."""
    with _server() as server:
        fresh = _latent(Client(server.url), graph(short, has_video=False))
    generator = random.Random(SEED)
    rows: list[Row] = []
    with _server() as server:
        client = Client(server.url)
        unbroken = Listener(client)
        client.run(graph(Film(8, long.width, long.height), has_video=True), unbroken, LONGEST_WAIT)
        for number in range(1, interrupts + 1):
            listener = Listener(client, generator.uniform(0.05, 8.0))
            result = client.run(graph(long, has_video=True, seed=number), listener, LONGEST_WAIT)
            row: Row = {
                "interrupt": number,
                "after seconds": listener.moment,
                "steps done": len(listener.steps),
                "ended": result.status,
                "seconds to the end": listener.ended - listener.interrupted,
                "longest step or decode": max([*unbroken.gaps, *listener.gaps]),
                "next run equal": "yes" if _latent(client, graph(short, has_video=False)) == fresh else "NO",
                "open files": len(os.listdir(f"/proc/{server.pid}/fd")),
                "threads": len(os.listdir(f"/proc/{server.pid}/task")),
            }
            rows.append(row)
            tell(row)
    findings.add("interrupted", f"Interrupts of {long.chunks} chunks of {long.size} with video", rows)
    waits = [float(str(row["seconds to the end"])) for row in rows]
    shares = [wait / float(str(row["longest step or decode"])) for wait, row in zip(waits, rows, strict=True)]
    findings.figures |= {"interrupt to end, longest seconds": max(waits), "interrupt to end, median": median(waits)}
    return [
        Target("interrupted: runs that were not interrupted", others(rows, "ended", "interrupted"), most=0),
        Target("interrupted: next runs with other bits than a fresh process", others(rows, "next run equal"), most=0),
        Target("interrupted: longest way to the end, in steps or decodes", max(shares), most=1),
        Target("interrupted: open files more at the end", _growth(rows, "open files"), most=0),
        Target("interrupted: threads more at the end", _growth(rows, "threads"), most=0),
    ]


def prove_servers_killed(film: Film, kills: int, findings: Findings) -> list[Target]:
    """Table: servers that were killed while they made a film, and what the next server made of it."""
    generator = random.Random(SEED)
    rows: list[Row] = []
    made = graph(film, has_video=True, run_name=RUN_NAME)
    with temporary_base_directory(Installation.from_environment().models) as base:
        output = base / "output"
        with _server_in(base) as server:
            started = time.perf_counter()
            whole = _latent(Client(server.url), graph(film, has_video=True, run_name="whole"))
            seconds = time.perf_counter() - started
        pictures = pictures_of(output / "head_forcing" / "whole" / "video.mp4")
        for number in range(1, kills + 1):
            inputs = {"run_name": RUN_NAME, "on_existing_run": "replace" if number > 1 else "resume"}
            with _server_in(base) as server:
                Client(server.url).submit(graph(film, has_video=True, **inputs))
                moment = generator.uniform(0.2, 0.9) * seconds
                time.sleep(moment)
                os.kill(server.pid, signal.SIGKILL)
                server.wait()
            kept, there = chunks_listed(output), plays(folder_of(output))
            with _server_in(base) as server:
                again = _latent(Client(server.url), made)
            row: Row = {
                "kill": number,
                "after seconds": moment,
                "chunks kept": kept,
                "pictures": there[0],
                "what is there plays": there[1],
                "latents equal": "yes" if again == whole else "NO",
                "video equal": "yes" if pictures_of(folder_of(output) / "video.mp4") == pictures else "NO",
            }
            rows.append(row)
            tell(row)
    findings.add("servers", f"Servers killed while making {film.chunks} chunks of {film.size}", rows)
    return [
        Target("servers: resumed latents other than the unbroken run's", others(rows, "latents equal"), most=0),
        Target("servers: resumed videos other than the unbroken run's", others(rows, "video equal"), most=0),
        Target("servers: videos that did not play after the kill", others(rows, "what is there plays"), most=0),
    ]


def prove_twice(film: Film, findings: Findings) -> list[Target]:
    """Table: what two servers with one output folder say that are asked for the same run at once."""
    made = graph(film, has_video=True, run_name=RUN_NAME)
    with _server() as one:
        output = one.folder / "output"
        with _server("--output-directory", str(output)) as two:
            first, second = Client(one.url), Client(two.url)
            whole = _latent(second, graph(film, has_video=False))
            found: list[str] = []
            thread = threading.Thread(target=lambda: found.append(_latent(first, made)))
            thread.start()
            while chunks_listed(output) < film.chunks // 4:
                time.sleep(0.05)
            refused = second.run(made, timeout_seconds=LONGEST_WAIT)
            at = chunks_listed(output)
            thread.join()
            afterwards = _latent(second, made)
    rows: list[Row] = [
        {
            "who": "the second, meanwhile",
            "when": f"{at} of {film.chunks} chunks",
            "ended": refused.status,
            "right bits": "-",
            "said": refused.error.strip(),
        },
        {"who": "the first", "when": "", "ended": "success", "right bits": yes(found == [whole]), "said": ""},
        {
            "who": "the second, afterwards",
            "when": "",
            "ended": "success",
            "right bits": yes(afterwards == whole),
            "said": "",
        },
    ]
    findings.add("twice", f"Two servers at one run of {film.chunks} chunks of {film.size}", rows)
    is_clear = refused.status == "error" and "is in use by another run" in refused.error and at < film.chunks
    return [
        Target("twice: clear refusals of the second", int(is_clear), least=1),
        Target("twice: runs with the right bits, the first and the second afterwards", _rights(rows), least=2),
    ]


class Listener:
    """Hears a run, and interrupts it so many seconds after its execution began, as the page does."""

    def __init__(self, client: Client, moment: float | None = None) -> None:
        self.moment = moment
        self.steps: list[float] = []
        self.interrupted = self.ended = 0.0
        self._client = client

    @property
    def gaps(self) -> list[float]:
        """Seconds between one step's news and the next one's."""
        return [b - a for a, b in zip(self.steps, self.steps[1:], strict=False)]

    def __call__(self, event: Event | Preview) -> None:
        """Hear one event."""
        self.ended = time.perf_counter()
        if not isinstance(event, Event):
            return
        if event.kind == "progress" and event.text("node") == "sampler":
            self.steps.append(self.ended)
        if event.kind == "execution_start" and self.moment is not None:
            threading.Timer(self.moment, self._interrupt).start()

    def _interrupt(self) -> None:
        self.interrupted = time.perf_counter()
        self._client.interrupt()


def _latent(client: Client, workflow: Workflow) -> str:
    """A hash of the latent that a workflow saves. RuntimeError when it was not made just now, or not at all."""
    result = client.run(workflow, timeout_seconds=LONGEST_WAIT)
    if result.status != "success":
        raise RuntimeError(f"A run that should have succeeded ended so: {result.status}, {result.error}.")
    (file,) = cast("dict[str, list[OutputFile]]", result.outputs["save latent"])["latents"]
    return bits_of(safetensors.torch.load(client.download(file))["latent_tensor"])


@contextmanager
def _server(*arguments: str) -> Iterator[Server]:
    with (
        temporary_base_directory(Installation.from_environment().models) as base,
        _server_in(base, *arguments) as server,
    ):
        yield server


@contextmanager
def _server_in(base: Path, *arguments: str) -> Iterator[Server]:
    with Installation.from_environment().server(base, arguments) as server:
        yield server


def _rights(rows: list[Row]) -> int:
    return sum(1 for row in rows if row["right bits"] == "yes")


def _growth(rows: list[Row], name: str) -> int:
    """How much a number grew: the least of the last ten, since a connection may be closing, over that of the first."""
    first, last = (min(int(str(row[name])) for row in part) for part in (rows[:10], rows[-10:]))
    return last - first
