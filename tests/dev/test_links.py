"""Links in the texts lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
LINK = re.compile(r"\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"|^\[[^\]]+\]: (\S+)$", re.M)
CODE = re.compile(r"```.*?```|^(?: {4}|\t).*?$|`[^`\n]*`", re.M | re.S)


def links(path: Path) -> list[str]:
    """The targets of a text's links and pictures, in order."""
    text = CODE.sub("", path.read_text(encoding="ascii"))
    return [next(target for target in found if target) for found in LINK.findall(text)]


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to the headings of a text."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="ascii"), re.M)
    return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    path = ROOT / name
    for link in links(path):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert not anchor or anchor in anchors(found), link


def test_the_readme_links_what_it_names() -> None:
    inside = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    for page in (ROOT / "docs").glob("*.md"):
        named = any(f"docs/{page.name}" in text for text in inside)
        assert named or page.name in {"method_decisions.md", "releasing.md"}, page.name


def test_every_test_that_the_support_table_names_is_there() -> None:
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "docs" / "support.md").read_text(encoding="ascii"))
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).is_file()] == []
