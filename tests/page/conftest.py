"""ComfyUI's own page, with each way in which it draws nodes."""

from collections.abc import Iterator

import pytest

from headforcing_core.farm.process import Server
from tests.page.page import ComfyPage, open_page


@pytest.fixture(scope="module", params=["classic", "vue"])
def rendered(request: pytest.FixtureRequest, comfyui: Server) -> Iterator[ComfyPage]:
    """A page with classic nodes, and one with Vue nodes, each for all tests of a module."""
    with open_page(comfyui.url, request.param) as page:
        yield page
