"""A film made again, compared and chosen, in the newer page."""

from tests.page.test_takes import (
    runs,
    table,
    test_a_film_is_kept_made_again_with_another_prompt_compared_and_the_first_take_chosen,
)
