"""A workflow and a blueprint of version 0.1.0 open in the newer page with all that was set in them."""

from tests.page import test_old_workflows as old
from tests.page.page import ComfyPage
from tests.page.test_old_workflows import test_an_old_blueprint_in_a_workflow_sends_what_it_shows


def test_an_old_workflow_opens_with_every_value_in_its_place(page: ComfyPage) -> None:
    path = old.RECORDED / "0.1.0" / "page" / "first_minute.json"
    old.test_an_old_workflow_opens_with_every_value_in_its_place(page, path)
