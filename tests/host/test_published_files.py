"""Files as others publish them: read as they are meant, or refused for what they are."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.host.conftest import conditioning

TEXT = conditioning(2)


class Files:
    """Puts files where the loaders look for them."""

    def __init__(self, models: Path, weights: dict[str, Tensor]) -> None:
        self.models, self.weights = models, weights

    def put(
        self, name: str, content: object, kind: str = "diffusion_models", header: Mapping[str, str] | None = None
    ) -> str:
        path = self.models / kind / name
        if name.endswith(".safetensors"):
            assert isinstance(content, dict)
            save_file({key: tensor.contiguous() for key, tensor in content.items()}, path, dict(header or {}))
        else:
            torch.save(content, path)
        return name


@pytest.fixture(scope="module")
def fixtures(pack):
    import checkpoints
    import published
    import tiny_wan

    return {"published": published, "tiny_wan": tiny_wan, "checkpoints": checkpoints}


@pytest.fixture(scope="module")
def files(pack, fixtures) -> Files:
    import folder_paths

    return Files(Path(folder_paths.models_dir), fixtures["tiny_wan"].causal_wan(fixtures["tiny_wan"].FULL, 0))


@pytest.fixture(scope="module")
def latent(load, video) -> Callable[..., Tensor]:
    return lambda model: video(load(model) if isinstance(model, str) else model, TEXT, seconds=0.5)[0]["samples"]


def off(found: Tensor, wanted: Tensor) -> float:
    """RMS of the difference, in RMS of what is wanted."""
    return float((found - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())


@pytest.mark.parametrize(
    "by, dtype", [("row", "float8_e4m3fn"), ("row", "int8"), ("block", "float8_e4m3fn"), ("row", "float8_e5m2")]
)
def test_scales_beside_the_weights_are_multiplied_in(files, fixtures, latent, pack, by: str, dtype: str) -> None:
    published = fixtures["published"]
    stored = published.with_scales(files.weights, by, getattr(torch, dtype))
    small = files.put(f"self_forcing_{dtype}_{by}.safetensors", stored)
    full = files.put(f"self_forcing_{dtype}_{by}_full.safetensors", published.in_full(stored))
    assert off(latent(small), latent(full)) < 1e-3
    report = pack.run("HeadForcingLoadARModel", model_name=small)[1]
    assert "40 layers are small with more than one scale each" in report


def test_fp8_with_scales_is_close_to_what_it_was_made_of(files, fixtures, latent) -> None:
    small = files.put("self_forcing_fp8.safetensors", fixtures["published"].with_scales(files.weights))
    assert off(latent(small), latent("self_forcing_bf16.safetensors")) <= 0.2
