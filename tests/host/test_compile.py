"""A compiled model, as the host's TorchCompileModel makes it, gives the same video and settles."""

import torch
import torch._dynamo
from torch._dynamo.utils import counters

from tests.host.conftest import conditioning


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
