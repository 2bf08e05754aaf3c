"""The real host in this process, with the pack in it, for the tests that need it; one thread for all."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from devtools.pack import load_nodes
from tests.conftest import REPOSITORY, require


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors here are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def host() -> None:
    """Makes the host importable, on the CPU."""
    sys.path.insert(0, str(require("COMFYUI_PATH")))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


@pytest.fixture(scope="session")
def nodes(host: None) -> dict[str, type]:
    """The nodes of the pack and of the tests, by id."""
    tests = load_nodes("world_test_nodes", REPOSITORY / "tests" / "test_nodes")
    return {**load_nodes("world_pack", REPOSITORY), **tests}


@pytest.fixture
def models(host: None, tmp_path: Path) -> Iterator[Path]:
    """A models folder that the host's loaders look into."""
    import folder_paths

    before = dict(folder_paths.folder_names_and_paths)
    for kind in ("diffusion_models", "text_encoders", "vae"):
        (tmp_path / kind).mkdir()
        folder_paths.folder_names_and_paths[kind] = ([str(tmp_path / kind)], before[kind][1])
    yield tmp_path
    folder_paths.folder_names_and_paths.update(before)
