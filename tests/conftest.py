"""Lets core tests import headforcing_core, and host tests the host, however pytest was started."""

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(REPOSITORY))


def require(variable: str) -> Path:
    """A folder that dev.py names in the environment; the test fails without it."""
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        pytest.fail(
            f"{variable} is {value!r}: this test needs the real host. Start it with: python dev.py test", pytrace=False
        )
    return Path(value)
