"""Ray in ComfyUI's process: on this machine alone, begun when it is first used, and ended without a trace."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import secrets
import shutil
import sys
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import psutil
import torch

from ...headforcing_core.ray_needed import ALONE, OF_CLUSTERS, USUAL, check_answers, own_folder
from ...headforcing_core.ray_needed import check_ray as check_installed

log = logging.getLogger(__name__)

LOCAL = "local"
_MOST_SHARED = 128 * 2**20  # what is larger goes by files in the folder
_ENDING, _LAST_WORDS = 20.0, 5.0

_LOOK, _TO_END = 0.5, 20.0  # a minute after Ray's own processes are gone it ends the process that uses it
_OWN_PROCESSES = ("gcs_server", "raylet")

Ray = Any  # the module, which has no types of its own


def check_ray() -> None:
    """RuntimeError where Ray is not to be had, without importing it."""
    if sys.platform != "linux":
        raise RuntimeError(
            f"This system is {sys.platform}, where cards cannot exchange tensors: that needs Linux with NCCL. Set "
            "cards to 1, or take out Spread over Cards."
        )
    check_installed("Spread over Cards starts a process for each card by Ray")


class LocalRay:
    """Ray, from now until `end`. `address` is "local", or that of a cluster which this machine belongs to. Where
    another pack has begun it before, it is used as it is, and not ended. `folder` is for files of this process."""

    def __init__(self, address: str) -> None:
        self.folder = own_folder("headforcing")
        self.module: Ray = None
        self.is_ours = True
        self._address = address
        self._processes: list[psutil.Process] = []
        self._error: BaseException | None = None
        self._begun, self._over = Event(), Event()
        # One thread from beginning to end: Linux ends Ray's processes with the thread that began them, and a thread
        # that is not the main one leaves ComfyUI's signal handlers alone.
        self._thread = Thread(target=self._live, name="head-forcing-ray", daemon=True)
        self._thread.start()
        self._begun.wait()
        if self._error is not None:
            self.end()
            raise self._error
        atexit.register(self.end)

    @property
    def is_lost(self) -> bool:
        """Whether its own processes are gone, as after `ray stop`. What is asked of it then may end this process."""
        return not all(map(lives, self._processes))

    def end(self) -> None:
        """End it, and wait until its processes are gone."""
        atexit.unregister(self.end)
        self._over.set()
        self._thread.join(_ENDING)

    def _live(self) -> None:
        try:
            self._begin()
        except BaseException as error:
            self._error = error
        self._begun.set()
        while not self._over.wait(_LOOK):
            if self.is_lost:
                self._over.wait(_TO_END)  # for a run, which hears of it
                break
        if self.is_ours and self._error is None:
            self.module.shutdown()
        ends = monotonic() + _LAST_WORDS
        while self.folder.exists() and monotonic() < ends:  # while the last of its processes writes there
            shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self) -> None:
        known = sys.modules.get("ray")
        if known is not None and known.is_initialized():
            self.module, self.is_ours = known, False
            log.warning("Head forcing: another custom node has begun Ray, and it is used as that node set it up")
            return
        _set_environment(self._address)
        self.module = importlib.import_module("ray")
        _check_reach(self._address)
        if self._address != LOCAL:
            check_answers(self._address)
            self.module.init(address=self._address, log_to_driver=False, logging_level="ERROR")
            return
        self.module.init(
            address=LOCAL,
            num_cpus=0,
            num_gpus=torch.cuda.device_count(),
            object_store_memory=_MOST_SHARED,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(self.folder / "ray"),  # which Ray opens to everybody; the folder around it is ours alone
        )
        self._processes = [each for each in psutil.Process().children() if each.name() in _OWN_PROCESSES]


class SharedRay:
    """One Ray for all groups of this process: begun for the first, ended with the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ray: LocalRay | None = None
        self._address = ""
        self._users = 0

    def enter(self, address: str) -> LocalRay:
        """Ray at an address; `leave` once for each call. RuntimeError while it is at another one."""
        with self._lock:
            if self._ray is not None and self._ray.is_lost:
                self._ray.end()
                self._ray = None
            if self._ray is None:
                self._ray, self._address = LocalRay(address), address
            if address != self._address:
                raise RuntimeError(
                    f"address is {address}, and another Spread over Cards is at {self._address}. One ComfyUI can be at "
                    "one address. Set both to the same."
                )
            self._users += 1
            return self._ray

    def leave(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._ray is not None:
                self._ray.end()
                self._ray = None


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has asked for its end is still listed."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _set_environment(address: str) -> None:
    os.environ |= USUAL
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # once it has ended, no call begins another one
    if address == LOCAL:
        os.environ |= ALONE
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once, so it stays


def _check_reach(address: str) -> None:
    """RuntimeError where Ray has been imported before with another reach than it needs."""
    reaches_out = bool(importlib.import_module("ray._private.ray_constants").ENABLE_RAY_CLUSTER)
    if reaches_out and address == LOCAL:
        raise RuntimeError(
            "Another custom node has imported Ray before, in such a way that it would listen on the network. Set "
            f"{OF_CLUSTERS}=0 in the environment that ComfyUI is started in, or take that node out."
        )
    if not reaches_out and address != LOCAL:
        raise RuntimeError(
            f"Ray was imported for this machine alone, so it does not reach {address}. Unset {OF_CLUSTERS} if it is "
            "set, and restart ComfyUI."
        )


SHARED_RAY = SharedRay()
