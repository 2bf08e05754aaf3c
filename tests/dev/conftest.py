"""Makes devtools importable however pytest was started."""

import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]

if str(_REPOSITORY) not in sys.path:
    sys.path.append(str(_REPOSITORY))
