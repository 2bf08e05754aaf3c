"""What the Comfy registry gets: the description in pyproject.toml, and the files that .comfyignore leaves in."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from devtools.draw_brand import ASSETS, PICTURES

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 3_200_000  # nobody should wait for an archive; see docs/releasing.md for what it is now
RAW = "https://raw.githubusercontent.com/OWNER/comfyui-head-forcing/main/"
# modules that start programs, fetch files or run code from them
FORBIDDEN = {"subprocess", "pip", "ensurepip", "urllib", "http", "requests", "httpx", "socket", "pickle", "marshal"}
ALLOWED = {
    # the command for many films, which the nodes never read (test_house_rules.py): it starts ComfyUI and asks it
    "headforcing_core/farm/": {"subprocess", "urllib", "socket"},
    # whether somebody answers at an address that the artist has named
    "headforcing_core/ray_needed.py": {"socket"},
}


def listed(*arguments: str) -> set[str]:
    """What git ls-files says."""
    done = subprocess.run(["git", "ls-files", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")) - {""}


@pytest.fixture(scope="module")
def published() -> set[str]:
    """The files of the archive: those that git tracks without those that .comfyignore names."""
    return listed() - listed("--cached", "--ignored", "--exclude-from=.comfyignore")


@pytest.fixture(scope="module")
def described():
    """pyproject.toml as the host reads it."""
    host = os.environ.get("COMFYUI_PATH")
    assert host, "COMFYUI_PATH is not set: start this with python dev.py test"
    sys.path.insert(0, host)
    from comfy_config.config_parser import extract_node_configuration

    found = extract_node_configuration(str(ROOT))
    assert found is not None
    return found


def test_the_host_reads_a_full_description(described) -> None:
    project, comfy = described.project, described.tool_comfy
    assert project.name == "head-forcing" and 40 < len(project.description) < 200
    assert project.license.file == "LICENSE" and (ROOT / "LICENSE").is_file()
    assert project.requires_python == ">=3.11" and project.supported_comfyui_version == ">=0.30.0"
    assert project.supported_os == ["OS Independent"] and project.supported_accelerators == ["GPU :: NVIDIA CUDA"]
    assert project.urls.repository and project.urls.documentation and project.urls.issues
    assert comfy.publisher_id and comfy.display_name == "Head Forcing" and comfy.icon


def test_the_version_is_the_newest_of_the_changelog_and_stands_in_the_readme(described) -> None:
    version = described.project.version
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    newest = re.search(r"^## \[(\d.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None and newest[1] == version
    assert f"**Version {version}.**" in (ROOT / "README.md").read_text()


def test_the_owner_is_named_in_pyproject_alone() -> None:
    done = subprocess.run(["git", "grep", "-lw", "OWNER"], cwd=ROOT, capture_output=True, text=True, check=True)
    about = {"docs/releasing.md", "tests/dev/test_registry.py", ".github/workflows/publish.yml"}
    assert set(done.stdout.split()) - about == {"pyproject.toml"}


def test_icon_and_banner_have_the_shapes_that_the_registry_asks_for() -> None:
    comfy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["comfy"]
    assert (comfy["Icon"], comfy["Banner"]) == (f"{RAW}assets/icon.png", f"{RAW}assets/banner.png")
    with Image.open(ASSETS / "icon.png") as icon, Image.open(ASSETS / "banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_its_script_draws(name: str) -> None:
    with Image.open(ASSETS / name) as kept:
        assert kept.convert("RGBA").tobytes() == PICTURES[name]().tobytes()


def test_all_that_an_artist_needs_is_published(published: set[str]) -> None:
    needed = {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "CHANGELOG.md", "LICENSE"}
    needed |= {name for name in listed() if re.match(r"(nodes|headforcing_core|web|locales|subgraphs|docs)/", name)}
    needed |= {name for name in listed() if re.fullmatch(r"workflows/[^/]+\.(json|jpg)", name)}
    assert needed <= published and any(name.startswith("locales/") for name in needed)


def test_nothing_of_the_workshop_is_published(published: set[str]) -> None:
    folders = {PurePosixPath(name).parts[0] for name in published if "/" in name}
    assert folders <= {"assets", "docs", "headforcing_core", "locales", "nodes", "subgraphs", "web", "workflows"}
    assert not [name for name in published if name.startswith(".") or name == "dev.py"]


def test_the_archive_is_small(published: set[str]) -> None:
    assert sum((ROOT / name).stat().st_size for name in published) < MOST_BYTES


def test_published_code_passes_the_checks_of_the_registry(published: set[str]) -> None:
    files = sorted(name for name in published if name.endswith(".py"))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "S102,S307,E702", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_published_code_starts_no_program_and_fetches_nothing(published: set[str]) -> None:
    for name in sorted(published):
        if name.endswith(".py"):
            used = imported(ROOT / name) - {"pickle.UnpicklingError"}  # an exception that PyTorch raises
            allowed = next((modules for place, modules in ALLOWED.items() if name.startswith(place)), set())
            forbidden = FORBIDDEN - allowed
            assert not {module.split(".")[0] for module in used} & forbidden, name


def imported(path: Path) -> set[str]:
    """What a file imports, wherever in it, by full names; relative imports left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="ascii"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{each.name}" for each in node.names}
    return found
