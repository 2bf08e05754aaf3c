"""Lets core tests import headforcing_core, and host tests the host, however pytest was started."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from devtools.server import Server

REPOSITORY = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(REPOSITORY))


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
    require("COMFYUI_PATH")
    fixtures = require("HEADFORCING_FIXTURES")
    from devtools.base_directory import temporary_base_directory
    from devtools.client import Client
    from devtools.installation import Installation
    from devtools.server import Server

    with temporary_base_directory(fixtures) as folder, Server(Installation.from_environment(), folder) as server:
        if not Client(server.url).object_info("HeadForcingSampler"):
            raise server.problem("does not know the nodes of this pack")
        yield server
