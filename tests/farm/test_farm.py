"""The farm with Ray, from the registry's archive below custom_nodes: killed in two ways, and run again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devtools.server.base_directory import fill, link_models
from headforcing_core.run_store.lock import lock_folder
from tests.conftest import REPOSITORY, require
from tests.farm.farm_workflows import film, jobs_of

LONGEST_WAIT = 240
READY = re.compile(r"worker on \S+ \(process (\d+), ComfyUI (\d+)\) is ready")
CHUNKS = 5


class Farm:
    """A farm that runs; its lines as they come."""

    def __init__(self, pack: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "headforcing_core.farm", *arguments]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command, cwd=pack, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + LONGEST_WAIT
        while not is_so():
            assert time.monotonic() < end and self.process.poll() is None, "\n".join(self.lines)
            time.sleep(0.01)

    def workers(self) -> list[tuple[int, int]]:
        """Process ids of the workers that were ready so far, and of their ComfyUIs."""
        found = [READY.match(line) for line in self.lines]
        return [(int(match[1]), int(match[2])) for match in found if match]

    def end(self) -> int:
        code = self.process.wait(LONGEST_WAIT)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def times_in(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A base directory of ComfyUI in which the pack is what the registry's archive holds."""
    folder = tmp_path_factory.mktemp("base")
    fill(folder)
    link_models(require("HEADFORCING_FIXTURES"), folder)
    pack = folder / "custom_nodes" / "comfyui-head-forcing"
    pack.unlink()
    tracked, left_out = (
        set(subprocess.run(["git", "ls-files", *of], cwd=REPOSITORY, capture_output=True, text=True).stdout.split("\n"))
        for of in ((), ("--cached", "--ignored", "--exclude-from=.comfyignore"))
    )
    for name in tracked - left_out - {""}:
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, pack / name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_films_go_on_after_every_kill_and_are_made_once(base: Path, tmp_path: Path) -> None:
    host, pack = require("COMFYUI_PATH"), base / "custom_nodes" / "comfyui-head-forcing"
    output = tmp_path / "shared"
    runs = output / "head_forcing"
    jobs_of(tmp_path, "name,Sampler v1.0.seed\nwhole,5\nworker,5\ncomfyui,5\nbad,5\n", film())
    for name in ("whole", "bad"):
        (runs / name).mkdir(parents=True)
    (runs / "bad" / "holiday.jpg").write_text("something else lies where a run should be")
    held = lock_folder(runs / "whole")  # as by another machine that died a moment ago
    given = ["--workers", "1", "--output", str(output), "--comfyui", str(host)]
    comfyui = ["--", "--cpu", "--disable-api-nodes", "--base-directory", str(base)]

    def kept(name: str) -> int:
        path = runs / name / "journal.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    farm = Farm(pack, str(tmp_path / "workflow.json"), str(tmp_path / "jobs.csv"), *given, *comfyui)
    for name, which in (("worker", 0), ("comfyui", 1)):
        farm.wait_for(lambda name=name: kept(name) >= 1)
        if name == "worker":
            held.release()
        at, pids = kept(name), farm.workers()[-1]
        os.kill(pids[which], signal.SIGKILL)
        assert at < CHUNKS - 1, "the film was made too fast to be killed"
        farm.wait_for(lambda pids=pids: not lives(pids[1]))  # a ComfyUI ends with its worker
    assert farm.end() == 1
    assert farm.process.stdout is not None
    summary = {job["name"]: job for job in json.loads(farm.process.stdout.read())["jobs"]}
    told = "\n".join(farm.lines)
    assert len(farm.workers()) == 3, told
    assert "whole: waiting: The run 'whole' is in use by another run." in told, told
    assert "worker: waiting: its worker was lost (its process ended); it goes on with the next one" in told, told
    assert re.search(r"comfyui: waiting: its worker was lost \(.*websocket.*\); it goes on", told), told
    assert re.search(r"bad: failed: node 6 \(HeadForcingSampler\): The folder 'bad' holds 'holiday.jpg'", told), told
    assert [(job["state"], job["workers lost"]) for job in summary.values()] == [
        ("done", 0),
        ("done", 1),
        ("done", 1),
        ("failed", 0),
    ]
    assert summary["whole"]["files"] == ["films/fox_whole_00001_.mp4"]
    assert [path.name for path in (runs / "bad").iterdir() if path.name != "lock"] == ["holiday.jpg"]
    whole = {path.name: path.read_bytes() for path in (runs / "whole").glob("chunk_*")}
    assert len(whole) == CHUNKS
    for name in ("worker", "comfyui"):
        assert {path.name: path.read_bytes() for path in (runs / name).glob("chunk_*")} == whole, name
    assert sorted(path.name for path in (output / "films").iterdir()) == [
        f"fox_{name}_00001_.mp4" for name in ("comfyui", "whole", "worker")
    ]
    assert not [pid for pair in farm.workers() for pid in pair if lives(pid)]
    assert not list(Path("/tmp").glob(f"headforcing-farm-{farm.process.pid}-*"))

    before = times_in(output)
    jobs_of(tmp_path, "name,Sampler v1.0.seed\nwhole,5\nworker,5\ncomfyui,5\n", film())
    again = Farm(pack, str(tmp_path / "workflow.json"), str(tmp_path / "jobs.csv"), *given, *comfyui)
    assert again.end() == 0
    assert again.lines == [f"{name}: done before" for name in ("whole", "worker", "comfyui")]
    assert times_in(output) == before
