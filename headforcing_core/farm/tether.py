"""Run a Python script that ends as soon as the process that started it has ended, however that happened.

usage: python tether.py SCRIPT [ARGUMENTS ...]   (standard input: a pipe that the starting process keeps open)

ComfyUI is started through this, so that no server stays behind when a test run is killed. Works on every system.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Run the script as the main program, with its own folder as the first place of imports."""
    del sys.argv[0]
    if not sys.flags.safe_path:
        del sys.path[0]  # this file's folder
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
