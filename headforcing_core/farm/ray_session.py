"""Ray for the time of one farm: of this machine alone, or a cluster that somebody has started."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..ray_needed import ALONE, USUAL, check_answers, own_folder
from .same_files import PACK

_STORE_BYTES = 100 * 2**20  # no tensor goes through it


@dataclass(frozen=True)
class Session:
    """A Ray that answers: how many workers, what each takes, and a folder for what is to be thrown away, if there is
    one."""

    workers: int
    options: dict[str, float]
    scratch: Path | None


@contextmanager
def session(address: str | None, workers: int | None) -> Iterator[Session]:
    """Ray at an address, else one of our own, which leaves nothing behind. `workers` None: one for each card, one
    without cards. RuntimeError with a sentence when there is no Ray there, or fewer cards."""
    os.environ |= USUAL
    scratch = None if address else own_folder("headforcing-farm")
    if scratch is not None:  # before Ray is imported: every port on loopback, a token of its own
        os.environ |= {**ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    try:
        _connect(address, workers, scratch)
        cards = int(ray.cluster_resources().get("GPU", 0))
        most, what = (cards, "cards") if cards else (int(ray.cluster_resources().get("CPU", 1)), "processors")
        if workers is not None and workers > most:
            raise RuntimeError(
                f"{workers} workers were asked for, and Ray has {most} {what}. Each takes one. Write --workers auto."
            )
        options: dict[str, float] = {"num_gpus": 1, "num_cpus": 0} if cards else {"num_cpus": 1}
        yield Session(workers or cards or 1, options, scratch)
    finally:
        ray.shutdown()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _connect(address: str | None, workers: int | None, scratch: Path | None) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    found = {"runtime_env": {"env_vars": {"PYTHONPATH": str(PACK)}}, **quiet}
    if scratch is None:
        assert address is not None
        check_answers(address)
        try:
            ray.init(address=address, **found)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RuntimeError(
                f"There is no Ray at {address}, or it does not let this process in "
                f"({str(error).partition(chr(10))[0]}). Start it there with: ray start "
                "--head, and give this process the same RAY_AUTH_TOKEN."
            ) from error
        return
    cpus = max(workers or 1, os.cpu_count() or 1)
    ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _temp_dir=str(scratch / "ray"),  # which Ray opens to everybody; the folder around it is ours alone
        **found,
    )
