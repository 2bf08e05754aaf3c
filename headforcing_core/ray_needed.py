"""Ray, which places and starts processes: what is said where it is not to be had. It is optional, so no requirement
names it, and it is imported only when a run asks for it."""

import importlib.metadata
import importlib.util
import re
import socket

HOW_TO_INSTALL = 'Install it with the Python that runs ComfyUI: pip install "ray>=2.59,<3"'
_SECONDS_TO_ANSWER = 5.0
_OLDEST = (2, 59)  # the first that is guarded by a token


def check_ray(why: str) -> None:
    """RuntimeError, with how to get it, where Ray is not installed or too old; it is not imported. `why` it is needed,
    a sentence without its full stop."""
    try:
        version = importlib.metadata.version("ray") if importlib.util.find_spec("ray") is not None else ""
    except importlib.metadata.PackageNotFoundError:  # a folder by that name
        version = ""
    if not version:
        raise RuntimeError(f"Ray is not installed. {why}. {HOW_TO_INSTALL}")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise RuntimeError(f"Ray {version} is too old. {why}. {HOW_TO_INSTALL}")


def check_answers(address: str) -> None:
    """RuntimeError for an address, HOST:PORT, where nobody answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise RuntimeError(
            f"address is {address}, where no Ray answers ({error}). Begin Ray there by ray start --head, and write its "
            "address as HOST:PORT; for this machine alone leave address as it was."
        ) from error
