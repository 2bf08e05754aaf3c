"""The farm: many films over several cards and machines.

    python -m headforcing_core.farm workflow.json jobs.csv [options] [-- arguments of ComfyUI ...]

Run it in the folder of this pack, with ComfyUI's own Python. docs/farm.md says how.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType

from ..ray_needed import check_ray
from .finished_jobs import is_done
from .job_states import ALREADY, GOOD, JobState
from .job_table import classes_of, read_jobs, strings_of
from .same_files import PACK, folder_of, pack_hash
from .worker import Order
from .workflow_file import read_workflow

_OURS = (
    *("--listen", "--port", "--output-directory", "--temp-directory", "--user-directory", "--database-url"),
    *("--cuda-device", "--default-device"),
)


def main(arguments: list[str]) -> int:
    """Have all jobs made. 0: every job is done; 1: some are not; 2: nothing could start; 130: it was interrupted."""
    given, rest = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        comfyui = _comfyui(given.comfyui)
        output = (given.output or folder_of("output", comfyui, rest)).absolute()
        _check_arguments(rest)
        jobs = [JobState(job) for job in read_jobs(read_workflow(given.workflow), given.table)]
        for job in jobs:
            if is_done(output, job.job):
                job.word = ALREADY
                _say(job.line())
        is_begun = _make(given, comfyui, output, rest, jobs)
    except (ValueError, RuntimeError, OSError) as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted: all workers are ended; the same command goes on with what is not done")
        return 130
    print(json.dumps({"output": str(output), "jobs": [job.entry() for job in jobs]}, indent=1))
    return 0 if all(job.word in GOOD for job in jobs) else 1 if is_begun else 2


def _make(given: argparse.Namespace, comfyui: Path, output: Path, rest: Sequence[str], jobs: list[JobState]) -> bool:
    """Whether anything could be begun, if there is anything to do."""
    waiting = [job for job in jobs if job.word != ALREADY]
    if not waiting:
        return True
    check_ray("The farm has it start a worker for each card")
    from .ray_session import session

    threads = os.environ.get("OMP_NUM_THREADS")
    films = [job.job for job in waiting]
    # what Ray tells of a worker that was lost it prints by itself; it is told here in a line
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), session(given.address, given.workers) as found:
        from .foreman import Foreman

        signal.signal(signal.SIGTERM, _interrupt)  # Ray has put its own there
        named = tuple(strings_of(films)), tuple(classes_of(films))
        order = Order(comfyui, tuple(rest), output, threads, pack_hash(), *named, found.scratch)
        foreman = Foreman(order, waiting, found.workers, found.options, _say)
        try:
            return foreman.work()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not disturb the tidying up
            foreman.close()


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m headforcing_core.farm",
        description="Make many films over several cards and machines. What comes after -- goes to every ComfyUI.",
        allow_abbrev=False,
    )
    parser.add_argument("workflow", type=Path, help="a workflow that was exported by Export (API)")
    parser.add_argument("table", type=Path, help="CSV or JSON with a row for each job: name, and node.input = value")
    parser.add_argument("--workers", type=_workers, metavar="auto|N", help="auto: one for each card that Ray sees")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where all of them write; ComfyUI's own, if left out"
    )
    parser.add_argument("--comfyui", type=Path, metavar="PATH", help="the ComfyUI that this pack lies in, if left out")
    parser.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster; this machine alone, if left out")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:split]), arguments[split + 1 :]


def _workers(given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or not int(given):
        raise argparse.ArgumentTypeError(f"{given!r} is neither auto nor a number of workers")
    return int(given)


def _comfyui(given: Path | None) -> Path:
    found = given or PACK.parent.parent
    if (found / "main.py").is_file() and (given or PACK.parent.name == "custom_nodes"):
        return found.absolute()
    if given:
        raise ValueError(
            f"--comfyui {given} is not a ComfyUI: it has no main.py. Give the folder that directly holds it."
        )
    raise ValueError(
        f"This pack is in {PACK}, which is in no custom_nodes of a ComfyUI, so it is not known which ComfyUI is to be "
        "started. Write --comfyui and its folder."
    )


def _check_arguments(rest: Sequence[str]) -> None:
    for argument in rest:
        if (name := argument.partition("=")[0]) in _OURS:
            raise ValueError(
                f"{name} cannot be given to ComfyUI here, since the farm sets it for every worker. Leave it out."
            )


def _say(line: str) -> None:
    """Tell whoever watches; stdout is kept for the summary."""
    print(line, file=sys.stderr, flush=True)


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not disturb the tidying up
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
