"""What a run takes, and a prompt typed while it goes on, in the newer page."""

from tests.page.test_sampler_panel import (
    opened,
    test_a_prompt_that_took_over_before_the_answer_was_here_is_told_so,
    test_the_line_says_what_a_run_takes,
)
