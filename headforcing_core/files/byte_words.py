"""Bytes as people read them."""


def bytes_in_words(number: float) -> str:
    """A number of bytes with its unit: 7.1 GB, 24 GB, 0.3 MB."""
    size, unit = (1e9, "GB") if number >= 9.995e8 else (1e6, "MB")
    return f"{number / size:.{1 if number < 9.95 * size else 0}f} {unit}"
