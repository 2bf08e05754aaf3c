"""Keep what this version ships, workflows and blueprints, for good: python tests/old_workflows/record.py"""

import shutil
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> None:
    """Copy them into a folder of this version. SystemExit when it is there: what is recorded is never changed."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="ascii"))["project"]["version"]
    target = HERE / version
    if target.exists():
        raise SystemExit(
            f"{target} is there already. What was released stays as it is. Raise the version in pyproject.toml; or, if "
            f"{version} is not released yet, remove the folder."
        )
    for kind, found in (
        ("api", ROOT.glob("workflows/api/*.json")),
        ("page", ROOT.glob("workflows/*.json")),
        ("blueprints", ROOT.glob("subgraphs/*.json")),
    ):
        (target / kind).mkdir(parents=True)
        for path in found:
            shutil.copy(path, target / kind)
    print(f"recorded {sum(path.is_file() for path in target.rglob('*'))} files in {target}")


if __name__ == "__main__":
    main()
