"""The host and the pack in this process, as the tests of the host have them."""

from tests.host.conftest import load, pack

__all__ = ["load", "pack"]
