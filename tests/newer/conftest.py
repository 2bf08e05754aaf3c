"""Tests of the folders `server` and `page` that run again, on one ComfyUI with newer packages and one browser.

A module says which by importing them. That of the server comes first by its name: the browser brings an event loop, and
the server's client needs one of its own.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headforcing_core.farm.process import Server
from tests.conftest import require, running_comfyui
from tests.page.page import ComfyPage, open_page
from tests.server.conftest import client, saved_latent


@pytest.fixture(scope="session")
def comfyui() -> Iterator[Server]:
    yield from running_comfyui(require("HEADFORCING_NEWER"))


_BROWSER = ExitStack()


@pytest.fixture(scope="session")
def rendered(comfyui: Server) -> ComfyPage:
    """With Vue nodes, as a newer page draws them for whoever installs it."""
    return _BROWSER.enter_context(open_page(comfyui.url, "vue"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """Close the browser with the last test of this folder: those after it need the event loop."""
    yield
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        _BROWSER.close()


@pytest.fixture
def page(rendered: ComfyPage) -> ComfyPage:
    return rendered
