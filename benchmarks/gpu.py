"""The command of card/gpu.py; see there."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("card") / "gpu.py"), run_name="__main__")
