"""A damaged source tree is seen and repaired from the kept archive."""

import tarfile
from pathlib import Path

import pytest

from devtools.setup import manifest
from devtools.setup.host_source import extract


def make_tree(folder: Path) -> dict[str, str]:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("print(1)\n")
    (folder / "comfy" / "sd.py").write_text("x = 2\n")
    return manifest.describe(folder)


def archive_of(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="pack-1/vendor/Host")
        tar.add(folder / "main.py", arcname="pack-1/setup.py")
    return archive


def test_a_whole_tree_has_no_damage(tmp_path: Path) -> None:
    listing = make_tree(tmp_path / "host")
    assert set(listing) == {"main.py", "comfy/sd.py"}
    assert manifest.damaged_files(tmp_path / "host", listing) == []


def test_a_changed_and_a_missing_file_are_named(tmp_path: Path) -> None:
    listing = make_tree(tmp_path / "host")
    (tmp_path / "host" / "comfy" / "sd.py").write_text("x = 3\n")
    (tmp_path / "host" / "main.py").unlink()
    assert sorted(manifest.damaged_files(tmp_path / "host", listing)) == ["comfy/sd.py", "main.py"]


def test_compiled_python_and_new_files_are_no_damage(tmp_path: Path) -> None:
    listing = make_tree(tmp_path / "host")
    (tmp_path / "host" / "__pycache__").mkdir()
    (tmp_path / "host" / "__pycache__" / "main.pyc").write_bytes(b"1")
    assert manifest.describe(tmp_path / "host") == listing
    assert manifest.damaged_files(tmp_path / "host", listing) == []


def test_extracting_repairs_a_damaged_tree_and_takes_only_the_asked_part(tmp_path: Path) -> None:
    listing = make_tree(tmp_path / "source")
    archive = archive_of(tmp_path / "source", tmp_path / "pack.tar.gz")
    host, saved = tmp_path / "host", tmp_path / "host.manifest.json"
    extract(archive, "pack-1/vendor/Host/", host, saved)
    (host / "main.py").write_text("damaged")
    (host / "stray.py").write_text("")
    extract(archive, "pack-1/vendor/Host/", host, saved)
    assert manifest.read(saved) == listing
    assert manifest.describe(host) == listing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host", "host.manifest.json", "pack.tar.gz", "source"]


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    with tarfile.open(tmp_path / "pack.tar", "w") as tar:
        tar.add(tmp_path / "source" / "main.py", arcname="pack-1/../../out.py", recursive=False)
    with pytest.raises(ValueError, match="leads out"):
        extract(tmp_path / "pack.tar", "pack-1/", tmp_path / "host", tmp_path / "host.manifest.json")
    assert not (tmp_path / "host").exists() and not (tmp_path.parent / "out.py").exists()


def test_an_unreadable_manifest_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"main.py": "12')
    (tmp_path / "list.json").write_text("[]")
    assert manifest.read(tmp_path / "half.json") == manifest.read(tmp_path / "list.json") == {}
    assert manifest.read(tmp_path / "none.json") == {}
