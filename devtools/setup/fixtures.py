"""The tiny models of random weights that tests run on, built once per version of the scripts that make them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from headforcing_core.farm.process import tail_of

from ..paths import REPOSITORY, say
from ..problem import Problem
from . import manifest

_SCRIPTS = REPOSITORY / "tests" / "fixtures"


def fixtures_key(scripts: Path) -> str:
    """A short name for one version of the scripts: every .py file under the folder counts, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(scripts.rglob("*.py")):
        digest.update(path.relative_to(scripts).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def ensure_fixtures(cache: Path, python: Path, variables: dict[str, str]) -> Path:
    """The models folder with the fixtures, built by `python` when it is missing or changed; raises Problem."""
    models = cache / f"fixtures-{fixtures_key(_SCRIPTS)}"
    listing = cache / f"{models.name}.manifest.json"
    known = manifest.read(listing)
    damaged = manifest.damaged_files(models, known)
    if known and not damaged:
        return models
    if damaged and models.exists():
        say(f"The fixture models were changed ({damaged[0]}); building them again.")
    say("Building the fixture models ...")
    temporary = cache / f"{models.name}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    _build(temporary, cache / "fixtures.log", python, variables)
    content = manifest.describe(temporary)
    manifest.replace_folder(temporary, models)
    manifest.write(listing, content)
    return models


def _build(folder: Path, log: Path, python: Path, variables: dict[str, str]) -> None:
    command = [str(python), str(_SCRIPTS / "build.py"), str(folder)]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, env=variables, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise Problem(
            f"tests/fixtures/build.py failed (exit code {done.returncode}). The end of {log}:\n{tail_of(log)}",
            "The tests run on tiny models that this script makes.",
            "Read the log, mend the script or the environment, and run it again.",
        )
