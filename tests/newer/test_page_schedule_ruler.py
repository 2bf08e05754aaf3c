"""The ruler under the text of Prompt Schedule in the newer page."""

from tests.page.test_schedule_ruler import (
    ruler,
    test_an_error_is_marked_at_its_line_and_goes_when_it_is_mended,
    test_bars_begin_where_the_scenes_do,
    test_choices_and_comments_are_drawn_as_in_the_hosts_prompt_box,
)
