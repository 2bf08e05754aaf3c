"""The newer page is the one that opens; the main workflow runs in it."""

from devtools.setup.newer import versions_in
from tests.conftest import require
from tests.page.page import ComfyPage
from tests.page.test_page import (
    finished,
    opened,
    test_it_runs_with_progress_and_previews_and_shows_video_and_report,
    test_the_page_sends_what_the_api_form_says,
)


def test_the_page_is_the_newer_one(page: ComfyPage) -> None:
    newer = versions_in(require("HEADFORCING_NEWER"))["comfyui-frontend-package"]
    assert page.tab.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__") == newer
