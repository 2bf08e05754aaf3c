"""Results of videos, a line of JSON each, appended as they come."""

import gzip
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

Job = TypeVar("Job")
log = logging.getLogger(__name__)


def read_results(path: Path) -> list[dict]:
    """The lines of a results file, also of one packed by gzip, without a last one that is not yet whole; none when
    there is no such file."""
    data = path.read_bytes() if path.exists() else b""
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def drop_cut_line(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def append_results(path: Path, jobs: Sequence[Job], line_of: Callable[[Job], dict], workers: int) -> None:
    """Append the line of every job as soon as it is found, by so many processes of one thread each. Only this process
    writes, so lines stay whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate(_lines(jobs, line_of, workers), 1):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        name = f"{line.get('film', '')} {line['policy']}".strip()
        log.info("%d of %d: %s, seed %d, %.1f s", number, len(jobs), name, line["seed"], line["seconds"])


def _lines(jobs: Sequence[Job], line_of: Callable[[Job], dict], workers: int) -> Iterator[dict]:
    if workers < 2:
        torch.set_num_threads(1)
        yield from map(line_of, jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
    with pool:
        for future in as_completed([pool.submit(line_of, job) for job in jobs]):
            yield future.result()
