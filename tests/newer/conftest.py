"""Tests of the folders `server` and `page` that run again, on one ComfyUI with newer packages and one browser.

A module says which by importing them. That of the server comes first by its name: the browser brings an event loop, and
the server's client needs one of its own.
"""

from collections.abc import Iterator

import pytest

from devtools.server.process import Server
from tests.conftest import require, running_comfyui
from tests.page.page import ComfyPage, open_page
from tests.server.conftest import client, saved_latent


@pytest.fixture(scope="session")
def comfyui() -> Iterator[Server]:
    yield from running_comfyui(require("HEADFORCING_NEWER"))


@pytest.fixture(scope="session")
def rendered(comfyui: Server) -> Iterator[ComfyPage]:
    """With Vue nodes, as a newer page draws them for whoever installs it."""
    with open_page(comfyui.url, "vue") as page:
        yield page


@pytest.fixture
def page(rendered: ComfyPage) -> ComfyPage:
    return rendered
