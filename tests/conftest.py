"""Lets core tests import headforcing_core, and host tests the host, however pytest was started; shares tests out."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from headforcing_core.farm.process import Server

REPOSITORY = Path(__file__).resolve().parent.parent
# the folders: so that all workers end together
LONGEST_FIRST = ("page", "cards", "farm", "server", "newer", "host", "testbed", "core", "dev")
ON_ONE_WORKER = ("tests/page", "tests/server", "tests/newer")  # each with a ComfyUI of its own, started once

sys.path.insert(0, str(REPOSITORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    folders = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: folders[item.path.relative_to(REPOSITORY / "tests").parts[0]])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling":
    """Give whole modules to workers, so that each sets up what its tests share once; of some folders all."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = "/".join(nodeid.split("/")[:2])
            return folder if folder in ON_ONE_WORKER else super()._split_scope(nodeid)

    return Scheduling(config, log)


def require(variable: str) -> Path:
    """A folder that dev.py names in the environment; the test fails without it."""
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        pytest.fail(
            f"{variable} is {value!r}: this test needs the real host. Start it with: python dev.py test", pytrace=False
        )
    return Path(value)


@pytest.fixture(scope="session")
def comfyui() -> Iterator["Server"]:
    """One running ComfyUI with the pack and the fixture models, for the server and the page tests alike."""
    yield from running_comfyui()


def running_comfyui(newer: Path | None = None) -> Iterator["Server"]:
    """A running ComfyUI, with the packages in the folder `newer` in place of those of its environment, if given."""
    require("COMFYUI_PATH")
    fixtures = require("HEADFORCING_FIXTURES")
    from devtools.server.base_directory import temporary_base_directory
    from devtools.setup.installation import Installation
    from headforcing_core.farm.client import Client

    installation = replace(Installation.from_environment(), newer=newer)
    with temporary_base_directory(fixtures) as folder, installation.server(folder) as server:
        if not Client(server.url).object_info("HeadForcingSampler"):
            raise server.problem("does not know the nodes of this pack")
        yield server
