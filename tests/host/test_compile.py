"""A compiled model, as the host's TorchCompileModel makes it, gives the same video and settles."""

import torch
import torch._dynamo
from torch._dynamo.utils import counters

from tests.fixtures.tiny_wan import WanShape, causal_wan
from tests.host.conftest import Files, conditioning


def test_a_compiled_model_makes_the_same_video_and_is_not_compiled_again_for_every_chunk(pack, load, video) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model, text = load("self_forcing_dmd.safetensors"), conditioning(4)
    policy = pack.run("HeadForcingCachePolicy", preset="uniform", compress_from_chunk=1)[0]
    plain = video(model, text, seconds=2.5, preset=None, policy=policy)[0]["samples"]
    compiled = model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    torch._dynamo.reset()
    counters.clear()
    short = video(compiled, text, seconds=1.0, preset=None, policy=policy)[0]["samples"]
    graphs = counters["stats"]["unique_graphs"]
    found = video(compiled, text, seconds=2.5, preset=None, policy=policy)[0]["samples"]
    assert graphs and counters["stats"]["unique_graphs"] == graphs
    assert torch.equal(found, plain) and torch.equal(short, plain[:, :, : short.shape[2]])


def test_a_compiled_model_is_not_compiled_again_for_what_it_is_told(pack, load) -> None:
    import comfy.model_management

    telling = pack.module("nodes.host.telling").telling
    told = pack.module("headforcing_core.rollout.told").Told
    weights = causal_wan(WanShape(dim=128, layers=1, ffn_dim=128, image_channels=20), 3)
    model = load(Files(weights).put("lingbot_small.pt", weights))
    comfy.model_management.load_models_gpu([model])
    wan, text = model.model.diffusion_model, conditioning(4)[0][0]
    compiled = torch.compile(wan, backend="eager")
    torch._dynamo.reset()
    counters.clear()
    graphs: list[int] = []
    for step in range(3):
        x, t, concat = torch.randn(1, 36, 2, 4, 4), torch.tensor([900.0 - step]), torch.randn(1, 20, 2, 4, 4)
        options: dict[str, object] = {}
        with torch.inference_mode(), telling(options, told(torch.tensor([0.0, 800.0 - step]), concat)):
            found = compiled(x, t, context=text, transformer_options=dict(options))
            assert torch.equal(found, wan(x, t, context=text, transformer_options=dict(options)))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] and set(graphs) == {graphs[0]}
