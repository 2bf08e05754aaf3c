"""The managed environment: its name, its quick check, and the repair of CUDA-built packages next to a CPU torch."""

import shutil
import sys
import venv
from pathlib import Path

import pytest

from devtools.paths import REQUIREMENTS, python_in
from devtools.problem import Problem
from devtools.setup.cpu_only import declare_torchvision_operators, remove_torchaudio_extensions
from devtools.setup.environment import damage_of, environment_key, mark_complete, require_disk_space, site_packages_of


def make_package(folder: Path, name: str, files: dict[str, str]) -> None:
    record = folder / f"{name}-1.0.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    rows = [f"{record.parent.name}/RECORD,,", f"{name}/__pycache__/a.cpython-311.pyc,,"]
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
        rows.append(f"{path},sha256=x,{len(content)}")
    record.write_text("\n".join(rows) + "\n")


def make_environment(folder: Path) -> Path:
    site_packages = site_packages_of(folder)
    make_package(site_packages, "tiny", {"tiny/a.py": "a = 1\n", "tiny/b.py": "b = 2\n"})
    python_in(folder).parent.mkdir(parents=True)
    python_in(folder).write_text("")
    mark_complete(folder)
    return site_packages


def test_a_finished_environment_is_whole(tmp_path: Path) -> None:
    make_environment(tmp_path)
    assert damage_of(tmp_path) == ""


def test_python_and_packages_of_a_real_environment_lie_where_we_look(tmp_path: Path) -> None:
    venv.EnvBuilder(symlinks=sys.platform != "win32").create(tmp_path)
    assert python_in(tmp_path).exists()
    assert site_packages_of(tmp_path).is_dir()


def test_a_missing_and_a_shortened_file_are_damage(tmp_path: Path) -> None:
    site_packages = make_environment(tmp_path)
    (site_packages / "tiny" / "b.py").write_text("b")
    assert "b.py" in damage_of(tmp_path)
    (site_packages / "tiny" / "a.py").unlink()
    assert "a.py" in damage_of(tmp_path)


def test_a_shortened_list_of_files_is_damage(tmp_path: Path) -> None:
    site_packages = make_environment(tmp_path)
    (site_packages / "tiny-1.0.dist-info" / "RECORD").write_text("")
    assert "RECORD" in damage_of(tmp_path)


def test_an_environment_without_its_last_mark_is_unfinished(tmp_path: Path) -> None:
    make_environment(tmp_path)
    (tmp_path / "complete.json").unlink()
    assert "never finished" in damage_of(tmp_path)


def test_an_environment_without_its_python_is_damaged(tmp_path: Path) -> None:
    make_environment(tmp_path)
    python_in(tmp_path).unlink()
    assert "python" in damage_of(tmp_path)


def test_the_name_follows_the_requirements_and_the_python(tmp_path: Path) -> None:
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    before = environment_key(tmp_path / "requirements", (3, 11))
    assert before == environment_key(REQUIREMENTS, (3, 11))
    assert before != environment_key(REQUIREMENTS, (3, 12))
    with (tmp_path / "requirements" / "testing.txt").open("a") as file:
        file.write("more\n")
    assert before != environment_key(tmp_path / "requirements", (3, 11))


def test_every_requirement_is_pinned_and_torch_comes_first() -> None:
    lines = (REQUIREMENTS / "constraints.txt").read_text().splitlines()
    pins = [line.split("==")[0].lower().replace("_", "-") for line in lines if not line.startswith("#")]
    assert pins[0] == "torch"
    for name in ("host.txt", "testing.txt"):
        asked = [line for line in (REQUIREMENTS / name).read_text().splitlines() if not line.startswith("#")]
        assert set(asked) <= set(pins)


def test_too_small_a_disk_is_refused_with_both_sizes(tmp_path: Path) -> None:
    require_disk_space(tmp_path, 6_000_000_000)
    with pytest.raises(Problem, match=r"Only 1.5 GB are free.*") as refused:
        require_disk_space(tmp_path, 1_500_000_000)
    assert "about 5 GB" in str(refused.value)


def test_torchvision_gets_its_operators_once_and_stays_verifiable(tmp_path: Path) -> None:
    site_packages = make_environment(tmp_path)
    source = "import torch\n"
    make_package(site_packages, "torchvision", {"torchvision/_meta_registrations.py": source})
    declare_torchvision_operators(site_packages)
    once = (site_packages / "torchvision" / "_meta_registrations.py").read_text()
    declare_torchvision_operators(site_packages)
    assert (site_packages / "torchvision" / "_meta_registrations.py").read_text() == once
    assert once.endswith(source) and "nms(Tensor dets" in once
    mark_complete(tmp_path)
    assert damage_of(tmp_path) == ""


def test_torchaudio_loses_its_extensions_and_their_lines(tmp_path: Path) -> None:
    site_packages = make_environment(tmp_path)
    files = {"torchaudio/lib/_torchaudio.abi3.so": "elf", "torchaudio/a.py": "a = 1\n"}
    make_package(site_packages, "torchaudio", files)
    remove_torchaudio_extensions(site_packages)
    remove_torchaudio_extensions(site_packages)
    assert not (site_packages / "torchaudio" / "lib" / "_torchaudio.abi3.so").exists()
    mark_complete(tmp_path)
    assert damage_of(tmp_path) == ""
