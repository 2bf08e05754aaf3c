"""Bytes as people read them."""

import pytest

from headforcing_core.files.byte_words import bytes_in_words


@pytest.mark.parametrize(
    "number, words",
    [
        (0, "0.0 MB"),
        (340_000, "0.3 MB"),
        (9_949_999, "9.9 MB"),
        (9_950_000, "10 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1.0 GB"),
        (7_061_000_000, "7.1 GB"),
        (25_769_803_776, "26 GB"),
        (2 * 10**15, "2000000 GB"),
    ],
)
def test_bytes_have_two_or_more_digits_and_their_unit(number: int, words: str) -> None:
    assert bytes_in_words(number) == words
