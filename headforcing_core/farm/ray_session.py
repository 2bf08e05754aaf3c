"""Ray for the time of one farm: of this machine alone, or a cluster that somebody has started."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..ray_needed import check_answers
from .same_files import PACK

_PLACE = Path("/tmp")  # the path of a socket may have 107 characters, and Ray adds 65
_LEFT = re.compile(r"headforcing-farm-(\d+)-\w+")
_STORE_BYTES = 100 * 2**20  # no tensor goes through it
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it listens on 127.0.0.1 and nowhere else
    "RAY_AUTH_MODE": "token",
    "RAY_memory_monitor_refresh_ms": "0",  # a ComfyUI may well fill the memory; Ray would end its worker
    "RAY_worker_niceness": "0",  # which a ComfyUI inherits
}


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
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    scratch = None if address else _scratch()
    if scratch is not None:  # before Ray is imported: every port on loopback, a token of its own
        os.environ |= {**_ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
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


def _scratch() -> Path:
    """A folder of this farm's own; those of farms that were killed are removed."""
    is_short = _PLACE.is_dir()
    for path in _PLACE.iterdir() if is_short else ():
        if (match := _LEFT.fullmatch(path.name)) and not _lives(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"headforcing-farm-{os.getpid()}-", dir=_PLACE if is_short else None))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
