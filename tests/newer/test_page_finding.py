"""A template opens in the newer page as it was saved."""

from tests.page import test_finding as finding
from tests.page.test_finding import Opened, opened


def test_a_template_opens_as_it_was_saved(opened: Opened) -> None:
    finding.test_a_template_opens_as_it_was_saved(opened, "kept_film")
