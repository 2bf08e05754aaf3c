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


def test_what_a_compiled_model_is_told_beside_is_not_compiled_for_every_step(pack, load) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    weights = causal_wan(WanShape(dim=128, layers=1, ffn_dim=128, channels=48), 3)
    model = load(Files(weights).put("longlive2_small.pt", weights))
    policy = pack.run("HeadForcingCachePolicy", preset="full")[0]

    def made(model: object) -> torch.Tensor:
        given = {"positive": conditioning(4), "policy": policy, "seconds": 0.3, "width": 32, "height": 32}  # one chunk
        return pack.run("HeadForcingSampler", model=model, **given)[0]["samples"]

    compiled = model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    torch._dynamo.reset()
    counters.clear()
    made(compiled)
    graphs = counters["stats"]["unique_graphs"]
    found = made(compiled)
    assert graphs and counters["stats"]["unique_graphs"] == graphs
    assert torch.equal(found, made(model))
