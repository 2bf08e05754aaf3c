"""Where kept runs lie."""

from __future__ import annotations

from pathlib import Path

import folder_paths

_FOLDER = "head_forcing"


def runs_folder() -> Path:
    """Where kept runs lie."""
    return Path(folder_paths.get_output_directory()) / _FOLDER
