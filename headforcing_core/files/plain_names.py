"""Names that a person gives to files and folders: plain ones only."""

import re

LONGEST_NAME = 120
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .()+-]*")
_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)

NUMBER = "%n%"
"""What stands for the number of a scene in the name of a run."""


def is_plain_name(name: str) -> bool:
    """Whether it is a plain file name: no folders, no leading dot, no device."""
    is_plain = _PLAIN_NAME.fullmatch(name) and not _DEVICE_NAMES.fullmatch(name)
    return bool(is_plain) and name[-1] not in " ." and len(name) <= LONGEST_NAME


def check_plain_name(what: str, name: str) -> str:
    """The name itself. ValueError unless it is a plain file name."""
    if not is_plain_name(name):
        raise ValueError(
            f"{what} is {name[:LONGEST_NAME]!r}. It becomes a file name and must stay in its folder. Use up to "
            f"{LONGEST_NAME} letters, digits, spaces and - _ . ( ) +, beginning with a letter, digit or _, ending in "
            "no dot or space, and no device name such as con."
        )
    return name


def numbered_name(name: str, ending: str) -> str:
    """A plain name with an ending such as `_2`, shortened where both together would be too long."""
    return name[: LONGEST_NAME - len(ending)] + ending


def scene_name(name: str, number: str = "1") -> str:
    """The name of a scene by its number; that of the first one if none is told."""
    return name.replace(NUMBER, number)
