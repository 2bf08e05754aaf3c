"""The developer's commands; `python dev.py --help` lists them."""

import sys

OLDEST_PYTHON = (3, 11)
USAGE = """Set up a real ComfyUI with this pack, then show it, test it, serve it, or run a command next to it.

    python dev.py demo [--minute] [--comfyui PATH]
    python dev.py test [--comfyui PATH] [pytest arguments ...]
    python dev.py newest [--comfyui PATH] [pytest arguments ...]
    python dev.py serve [--comfyui PATH]
    python dev.py run [--comfyui PATH] -- COMMAND ...
"""

if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST_PYTHON:
        sys.stderr.write(
            "error: Python " + sys.version.split()[0] + " is too old.\n"
            "  why:  dev.py and ComfyUI's packages need Python 3.11 or newer.\n"
            "  do:   Run it with a newer one, for example: python3.11 dev.py " + " ".join(sys.argv[1:]) + "\n"
        )
        sys.exit(2)
    from devtools.commands import main

    sys.exit(main(sys.argv[1:], USAGE))
