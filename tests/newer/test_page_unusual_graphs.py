"""Muted and bypassed nodes, primitives, reroutes, batches, dropped files and missing ones in the newer page."""

from tests.page.test_unusual_graphs import (
    opened,
    test_a_batch_makes_a_kept_run_of_each_seed,
    test_a_missing_file_is_offered_where_it_can_be_had,
    test_a_muted_sampler_does_not_decide_where_scenes_fall,
    test_a_workflow_file_and_a_video_of_ours_that_are_dropped_open_their_workflow,
    test_the_cost_line_can_be_read,
    test_the_line_and_the_ruler_read_primitives_and_go_through_reroutes,
    test_the_line_reckons_through_a_bypassed_node_and_not_through_a_muted_one,
    test_the_line_reckons_without_a_node_that_does_not_run,
)
