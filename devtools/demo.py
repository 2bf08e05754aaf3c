"""The demo: the shipped first-minute workflow on the small world, run by a real ComfyUI, ending in a video file.

Runs in the environment's python; dev.py starts it.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import av
from av.error import FFmpegError

from headforcing_core.farm.client import Client, PromptRejected, RunResult
from headforcing_core.farm.events import Event, Preview

from .paths import REPOSITORY
from .problem import exit_code_of
from .server.base_directory import fill
from .server.tiny_workflow import Workflow, load, only_node
from .server.world_workflow import MINUTE, SHORT, Story, link_world, on_world
from .setup.installation import Installation

FIRST_MINUTE = REPOSITORY / "workflows" / "api" / "first_minute.json"
_BASE_DIRECTORY = REPOSITORY / "build" / "demo"
_CHUNK = re.compile(r"chunk \d+ of \d+")


class DemoFailed(Exception):
    """The run did not give the video that it should; the message says what came instead."""


class Report(TypedDict):
    """What the demo reads of the sampler's report."""

    chunks: list[object]
    kv_bytes: int
    seconds: float


@dataclass(frozen=True)
class Video:
    """A video file that opens and decodes to its end."""

    path: Path
    frames: int
    seconds: float


class ChunkLines:
    """Prints one line for each chunk that the sampler tells of."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, event: Event | Preview) -> None:
        """Print the event when it is the first one of a new chunk."""
        if isinstance(event, Event) and event.kind == "progress_text":
            text = event.text("text")
            found = _CHUNK.search(text)
            if found and text[: found.end()] != self._last:
                self._last = text[: found.end()]
                print(text, flush=True)


def main(arguments: list[str]) -> int:
    """Run the demo; the exit code is 0 when the video is there, 1 when the run failed, 2 when ComfyUI did not start."""
    parser = argparse.ArgumentParser(prog="dev.py demo")
    parser.add_argument("--minute", action="store_true")
    story = MINUTE if parser.parse_args(arguments).minute else SHORT
    return exit_code_of(lambda: _show(story))


def _show(story: Story) -> int:
    installation = Installation.from_environment()
    fill(_BASE_DIRECTORY)
    link_world(_BASE_DIRECTORY)
    workflow = on_world(load(FIRST_MINUTE), story, secrets.randbelow(2**31))
    print(f"Starting ComfyUI from {installation.host} ...", flush=True)
    try:
        with installation.server(_BASE_DIRECTORY) as server:
            print(f"{server.url} samples {story.seconds:.0f} seconds of video:\n{story.text}", flush=True)
            result = Client(server.url).run(workflow, ChunkLines(), timeout_seconds=3600)
        print_result(check_video(video_path(workflow, result)), report_of(workflow, result))
    except (PromptRejected, DemoFailed, ConnectionError, TimeoutError) as failure:
        print(f"The demo failed: {failure}\nComfyUI's output: {_BASE_DIRECTORY / 'host.log'}", file=sys.stderr)
        return 1
    return 0


def video_path(workflow: Workflow, result: RunResult) -> Path:
    """Where SaveVideo put the video; raises DemoFailed when the run did not get there."""
    if result.node_errors:
        raise DemoFailed(f"ComfyUI left out nodes: {json.dumps(result.node_errors)}")
    if result.status != "success":
        where = f" in node {result.node_id} ({result.node_type})" if result.node_id else ""
        raise DemoFailed(f"the run ended as {result.status}{where}: {result.error.strip()}")
    files = result.outputs.get(only_node(workflow, "SaveVideo"), {}).get("images", [])
    if len(files) != 1:
        raise DemoFailed(f"SaveVideo saved {len(files)} files instead of one")
    return _BASE_DIRECTORY / "output" / files[0]["subfolder"] / files[0]["filename"]


def check_video(path: Path) -> Video:
    """Decode a video to its end; raises DemoFailed when it does not open or holds no picture."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = sum(1 for _ in container.decode(stream))
            rate = stream.average_rate
    except (FFmpegError, OSError, IndexError) as error:
        raise DemoFailed(f"the video {path} does not open: {error}") from error
    if not frames or not rate:
        raise DemoFailed(f"the video {path} holds {frames} frames at rate {rate}")
    return Video(path, frames, float(frames / rate))


def report_of(workflow: Workflow, result: RunResult) -> Report:
    """The sampler's report, as PreviewAny showed it; raises DemoFailed when it is not there."""
    texts = result.outputs.get(only_node(workflow, "PreviewAny"), {}).get("text", [])
    if not texts:
        raise DemoFailed("PreviewAny showed no report of the sampler")
    return cast(Report, json.loads(texts[0]))


def print_result(video: Video, report: Report) -> None:
    """The figures of a demo run."""
    chunks = len(report["chunks"])
    print("It shows the small world of testbed/README.md. A place that the prompt returns to should look as before.")
    print(f"video              {video.path}")
    print(f"duration           {video.seconds:.2f} s, {video.frames} frames")
    print(f"chunks             {chunks}")
    print(f"seconds per chunk  {report['seconds'] / max(1, chunks):.3f}")
    print(f"KV bytes           {report['kv_bytes']} ({report['kv_bytes'] / 1e6:.1f} MB)")
