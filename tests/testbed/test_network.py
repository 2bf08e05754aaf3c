"""The network that is trained is the network that the host runs."""

import pytest
import torch
from torch import Tensor

from testbed.network import CausalWan, Shape
from tests.conftest import require

CHUNKS, CHUNK_FRAMES, ROWS, COLUMNS, WORDS = 3, 3, 4, 6, 5


@pytest.fixture(scope="module")
def network() -> CausalWan:
    torch.manual_seed(0)
    network = CausalWan(Shape(width=256, layers=3, feed_forward=128))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@torch.no_grad()
def by_host(weights: dict[str, Tensor], clean: Tensor, noisy: Tensor, sigmas: Tensor, texts: Tensor) -> Tensor:
    """The flow of every chunk as the host's model gives it, chunk after chunk over its own cache."""
    import sys

    sys.path.insert(0, str(require("COMFYUI_PATH")))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.ops
    from comfy.ldm.wan.ar_model import CausalWanModel

    model = CausalWanModel(
        dim=256,
        ffn_dim=128,
        num_heads=2,
        num_layers=3,
        text_dim=64,
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    model.load_state_dict(weights)
    caches = model.init_kv_caches(1, CHUNKS * CHUNK_FRAMES * ROWS * COLUMNS // 4, "cpu", torch.float32)
    flows = []
    for chunk in range(CHUNKS):
        frames = slice(chunk * CHUNK_FRAMES, (chunk + 1) * CHUNK_FRAMES)

        def run(x: Tensor, sigma: Tensor, text: Tensor, first: int) -> Tensor:
            ends = [cache["end"] for cache in caches]
            padded = torch.zeros(1, 512, 64)
            padded[:, :WORDS] = text
            state = {
                "start_frame": first,
                "kv_caches": caches,
                "crossattn_caches": model.init_crossattn_caches(1, "cpu", torch.float32),
            }
            flow = model(x, sigma * 1000, padded, transformer_options={"ar_state": state})
            if float(sigma):
                for cache, end in zip(caches, ends, strict=True):
                    cache["end"] = end
            return flow

        flows.append(run(noisy[:, :, frames], sigmas[:, chunk], texts[:, 1, chunk], frames.start))
        run(clean[:, :, frames], torch.zeros(1), texts[:, 0, chunk], frames.start)
    return torch.cat(flows, dim=2)


def test_the_network_gives_what_the_host_gives(network: CausalWan) -> None:
    generator = torch.Generator().manual_seed(1)
    clean, noisy = torch.randn(2, 1, 16, CHUNKS * CHUNK_FRAMES, ROWS, COLUMNS, generator=generator)
    texts = torch.randn(1, 2, CHUNKS, WORDS, 64, generator=generator)
    sigmas = torch.tensor([[1.0, 0.625, 0.8333]])
    with torch.no_grad():
        own = network(clean, noisy, sigmas, texts)
    theirs = by_host(network.state_dict(), clean, noisy, sigmas, texts)
    assert own.std() > 0.1
    assert (own - theirs).abs().max() < 1e-4
