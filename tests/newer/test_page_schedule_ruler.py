"""The ruler under the text of Prompt Schedule in the newer page."""

from tests.page.test_schedule_ruler import (
    ruler,
    test_an_edge_is_dragged_to_the_start_of_a_chunk_and_the_text_follows,
    test_an_error_is_marked_at_its_line_and_goes_when_it_is_mended,
    test_bars_begin_where_the_scenes_do,
    test_choices_and_comments_are_drawn_as_in_the_hosts_prompt_box,
    test_keys_move_an_edge_and_the_graphs_own_undo_brings_it_back,
    test_what_is_pasted_in_another_syntax_is_converted,
)
