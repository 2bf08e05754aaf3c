"""What a run takes, a prompt typed while it goes on, and a warning that stays, in the newer page."""

from tests.page.test_sampler_panel import (
    opened,
    test_a_prompt_is_sent_to_the_second_scene_of_a_loop,
    test_a_prompt_that_took_over_before_the_answer_was_here_is_told_so,
    test_a_warning_stays_on_the_node_until_it_runs_again,
    test_the_line_says_what_a_run_takes,
)
