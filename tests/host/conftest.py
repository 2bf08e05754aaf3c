"""The real host in this process, with the pack loaded the way the host loads it."""

import copy
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from devtools.pack import load_nodes
from tests.conftest import REPOSITORY, require

PACK = "comfyui_head_forcing"
FIXTURES = REPOSITORY / "tests" / "fixtures"
PROMPT_TOKENS, TEXT_DIM = 64, 64


class Pack:
    """The pack as a module of the host: its nodes by id, and any of its modules by name."""

    def __init__(self, nodes: dict[str, type]) -> None:
        self.nodes = nodes

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{PACK}.{name}")

    def run(self, node_id: str, unique_id: str | None = None, **inputs: object) -> tuple:
        """Execute a node as the host does, in a workflow under this id; its outputs, of the sampler the first four."""
        outputs = self.all_outputs(node_id, unique_id, **inputs)
        return outputs[:4] if node_id == "HeadForcingSampler" else outputs

    def all_outputs(
        self, node_id: str, unique_id: str | None = None, graph: Mapping[str, object] | None = None, **inputs: object
    ) -> tuple:
        """As `run`; every output. The workflow is `graph`, in API form."""
        from comfy_api.latest import io
        from comfy_execution.graph import DynamicPrompt

        hidden = {io.Hidden.unique_id: unique_id, io.Hidden.dynprompt: graph and DynamicPrompt(graph)}
        node = self.nodes[node_id].PREPARE_CLASS_CLONE({"hidden_inputs": hidden})
        with torch.inference_mode():
            return node.execute(**inputs).args


class Files:
    """Puts files where the loaders look for them."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        import folder_paths

        self.models, self.weights = Path(folder_paths.models_dir), weights

    def put(
        self, name: str, content: object, kind: str = "diffusion_models", header: Mapping[str, str] | None = None
    ) -> str:
        path = self.models / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            assert isinstance(content, dict)
            save_file({key: tensor.contiguous() for key, tensor in content.items()}, path, dict(header or {}))
        else:
            torch.save(content, path)
        return name


def enter_host(models: Path, output: Path, temp: Path) -> Pack:
    """Import the host into this process, with the fixture models and these folders, and load the pack."""
    host, fixtures = require("COMFYUI_PATH"), require("HEADFORCING_FIXTURES")
    sys.path.insert(0, str(host))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import folder_paths

    shutil.copytree(fixtures, models, dirs_exist_ok=True, copy_function=_link)
    folder_paths.models_dir = str(models)
    for kind in ("diffusion_models", "loras", "vae", "text_encoders"):
        folder_paths.folder_names_and_paths[kind] = ([str(models / kind)], folder_paths.folder_names_and_paths[kind][1])
    folder_paths.set_output_directory(str(output))
    folder_paths.set_temp_directory(str(temp))
    tests = load_nodes("headforcing_test_nodes", REPOSITORY / "tests" / "test_nodes")
    return Pack({**load_nodes(PACK, REPOSITORY), **tests})


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return enter_host(*(tmp_path_factory.mktemp(name) for name in ("models", "output", "temp")))


@pytest.fixture(scope="session")
def load(pack: Pack) -> Callable[[str], object]:
    """Load AR Model by file name -> MODEL."""
    return lambda name, **inputs: pack.run("HeadForcingLoadARModel", model_name=name, **inputs)[0]


@pytest.fixture(scope="session")
def native(pack: Pack) -> ModuleType:
    """tests/host/native.py, which needs the host to be imported."""
    return importlib.import_module("tests.host.native")


@pytest.fixture(scope="session")
def video(pack: Pack) -> Callable[..., tuple]:
    """Run the sampler at the tiny size on one text; its outputs."""

    def run(model: object, text: list, seconds: float = 5.0, preset: str | None = "uniform", **inputs: object) -> tuple:
        if preset is not None:
            inputs.setdefault("policy", pack.run("HeadForcingCachePolicy", preset=preset)[0])
        inputs = {"width": 64, "height": 48, **inputs}
        return pack.run("HeadForcingSampler", model=model, positive=text, seconds=seconds, **inputs)

    return run


@pytest.fixture(scope="session")
def clip(pack: Pack):
    """The tiny text encoder."""
    return pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0]


@pytest.fixture(scope="module")
def model(load):
    """The tiny Self-Forcing checkpoint."""
    return load("self_forcing_dmd.safetensors")


@pytest.fixture(scope="module")
def labelled(pack: Pack, model):
    """A profile for it that measures nothing."""
    return pack.run("HeadForcingProfileHeads", model=model, rule="random")[0]


@pytest.fixture
def runs(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept runs, empty."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path / "head_forcing"


@pytest.fixture(scope="session")
def vae(pack: Pack):
    return load_vae()


@pytest.fixture(scope="session")
def vae22(pack: Pack, tmp_path_factory: pytest.TempPathFactory):
    """A narrow Wan 2.2 VAE from a file. The host's loader knows it by its file and makes the host's class, which is
    told to be narrower."""
    from comfy.ldm.wan.vae2_2 import WanVAE

    folder, init, widths = tmp_path_factory.mktemp("vae22"), WanVAE.__init__, companions().VAE22_WIDTHS
    companions().write_vae22(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WanVAE, "__init__", lambda self, **given: init(self, **given | widths))
        return load_vae(folder / "wan2.2_vae.safetensors")


@pytest.fixture(scope="session")
def tiny_vae(pack: Pack, tmp_path_factory: pytest.TempPathFactory):
    """The host's own tiny autoencoder of Wan 2.1's latents, of random weights, from a file by its own loader."""
    return load_tiny_vae(tmp_path_factory.mktemp("tiny") / "taew2_1.safetensors")


@pytest.fixture(scope="session")
def tiny_vae22(pack: Pack, tmp_path_factory: pytest.TempPathFactory):
    """That of Wan 2.2's latents."""
    return load_tiny_vae(tmp_path_factory.mktemp("tiny") / "taew2_2.safetensors", channels=48)


@pytest.fixture(scope="session")
def apart(vae):
    """The VAE as Select VAE Device puts it elsewhere."""
    return elsewhere(vae)


def elsewhere(vae):
    """A VAE on another device; since there is the processor alone, there by its other name."""
    moved = copy.copy(vae)
    moved.patcher = vae.patcher.clone()
    moved.device = moved.patcher.load_device = torch.device("cpu", 0)
    return moved


@pytest.fixture(scope="module")
def film(pack: Pack, model) -> Callable[..., tuple[Tensor, dict]]:
    """Make a film of 4 chunks and 43 small pictures, kept as `film`; its latent and its report."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"model": model, "policy": policy, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.0])}

    def make(**inputs: object) -> tuple[Tensor, dict]:
        inputs = {**given, "seconds": 2.7, "width": 16, "height": 16, "run_name": "film", **inputs}
        latent, _, _, report = pack.run("HeadForcingSampler", **inputs)
        return latent["samples"], json.loads(report)

    return make


def companions() -> ModuleType:
    """tests/fixtures/companions.py, which needs the host to be imported and its folder to be known."""
    if str(FIXTURES) not in sys.path:
        sys.path.append(str(FIXTURES))
    return importlib.import_module("companions")


def load_vae(path: Path | None = None):
    """A VAE from a file, or that of the fixture models; the host is in this process."""
    import comfy.sd
    import comfy.utils
    import folder_paths

    found = path or folder_paths.get_full_path_or_raise("vae", "wan_2.1_vae.safetensors")
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(found), safe_load=True))


def load_tiny_vae(path: Path, dtype: torch.dtype = torch.float32, channels: int = 16):
    """The host's tiny autoencoder, written to a file and loaded from there."""
    from comfy.taesd.taehv import TAEHV

    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(tensor.shape, generator=generator) * 1.2 * max(1, tensor[0].numel()) ** -0.5
        if tensor.ndim > 1
        else torch.zeros(tensor.shape)
        for name, tensor in TAEHV(latent_channels=channels).state_dict().items()
    }
    save_file({name: tensor.to(dtype) for name, tensor in weights.items()}, path)
    tiny = load_vae(path)
    assert type(tiny.first_stage_model) is TAEHV
    return tiny


@pytest.fixture(autouse=True)
def _forget_models() -> Iterator[None]:
    yield
    module = sys.modules.get("comfy.model_management")
    if module is not None:
        module.cleanup_models_gc()


def conditioning(seed: int) -> list[list[Tensor | dict[str, object]]]:
    """A text of the tiny model's width."""
    text = torch.randn(1, PROMPT_TOKENS, TEXT_DIM, generator=torch.Generator().manual_seed(seed))
    return [[text, {}]]


def off(found: Tensor, wanted: Tensor) -> float:
    """RMS of the difference, in RMS of what is wanted."""
    return float((found - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
