"""Ray, which starts and places processes: what is said where it is not installed. It is optional, so nothing else here
needs it, and it is imported only when a run asks for it."""

import importlib.util
import sys

_PACKAGE = "ray>=2.59,<3"


def check_ray(what: str) -> None:
    """RuntimeError, with how to get it, when Ray is not installed. `what` needs it, the beginning of a sentence."""
    try:
        found = importlib.util.find_spec("ray")
    except ValueError:  # somebody has put something else in its place
        found = None
    if found is None:
        raise RuntimeError(
            f"{what} needs Ray, which is not installed. It is optional and comes with no other package of ComfyUI. "
            f'Install it with ComfyUI\'s Python: "{sys.executable}" -m pip install "{_PACKAGE}"'
        )
