"""The film strip in the newer page: it fills while a film is made, lights up what was read, and plays."""

from tests.page.test_film_strip import (
    film,
    made,
    test_it_has_a_picture_for_each_chunk_under_the_bars_of_the_scenes,
    test_it_is_there_after_a_reload_of_the_page,
    test_it_plays_from_the_chunk_that_is_clicked_and_by_keys,
    test_the_wheel_scrolls_it_and_moves_nothing_else,
    test_what_a_chunk_reads_lights_up,
)
