"""Which attention computes is the artist's choice and the checkpoint's wish; report and profile say which one did."""

import json
from collections.abc import Callable

import pytest
import torch

from tests.host.conftest import Pack, conditioning

LAYERS, PASSES = 4, 4  # of one chunk, which has no commit pass


@pytest.fixture
def model(load):
    return load("self_forcing_dmd.safetensors").clone()


def override_with(model, function: Callable[..., torch.Tensor]) -> None:
    """As the nodes of other packs do it."""
    model.model_options["transformer_options"]["optimized_attention_override"] = function


def attention_sloppy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **options: object) -> torch.Tensor:
    """A kernel that rounds."""
    from comfy.ldm.modules.attention import attention_basic

    return attention_basic(q.half().float(), k.half().float(), v, heads, transformer_options=None)


def test_the_hosts_own_attention_is_told(video, model) -> None:
    from comfy.ldm.modules.attention import optimized_attention

    report = json.loads(video(model, conditioning(1), seconds=0.5)[3])
    assert report["attention"] == [optimized_attention.__name__] == ["attention_sub_quad"]


def test_the_override_of_another_node_is_told_in_report_and_profile(
    pack: Pack, video, model, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, given = attention_sloppy, set()

    def attention_override_sloppy(function, *args, **kwargs):
        given.update(kwargs)
        return kernel(*args, **kwargs)

    override_with(model, attention_override_sloppy)
    said = "override attention_override_sloppy (attention_sloppy)"
    clip = pack.run("HeadForcingTestLoadUMT5", clip_name="tiny_umt5.safetensors")[0]
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="a red fox in snow")[0]
    profile, _, text = pack.run(
        "HeadForcingProfileHeads", model=model, schedule=schedule, width=64, height=48, reuse_saved=False
    )
    assert profile.attention == (said,)
    assert f"Measured under the attention {said}, which may change what is measured" in text
    report = json.loads(video(model, conditioning(1), seconds=0.5, preset="paper", profile=profile)[3])
    assert report["attention"] == report["profile"]["attention"] == [said]
    assert "preferred_attention" not in given  # this host does not know it, and hands on what it does not know

    files = pack.module("headforcing_core.heads.profile_file")
    files.save_profile(profile, tmp_path / "profile.safetensors")
    assert files.load_profile(tmp_path / "profile.safetensors").attention == (said,)


def test_a_profile_of_before_is_read_and_one_of_today_by_those_before(pack: Pack, tmp_path) -> None:
    """The file has one entry more: who does not know it reads the others, and who finds none knows no attention."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    profiles, files = pack.module("headforcing_core.heads.profile"), pack.module("headforcing_core.heads.profile_file")
    rule = pack.module("headforcing_core.heads.rules").LabelRule()
    profile = profiles.HeadProfile("weights:1", "", rule, (("local",),), None, {}, 3, ("attention_pytorch",))
    path = tmp_path / "profile.safetensors"
    files.save_profile(profile, path)
    with safe_open(path, framework="pt") as file:
        described = file.metadata()
    before = {"format", "fingerprint", "protocol", "rule", "labels", "reliability", "sink_frames"}
    assert described.keys() - before == {"attention"} and described["format"] == "headforcing.profile/1"
    save_file({}, path, metadata={name: described[name] for name in before})
    assert files.load_profile(path).attention == ()
    for damaged in ("no list", "7"):
        save_file({}, path, metadata={**described, "attention": damaged})
        with pytest.raises(RuntimeError, match="damaged head profile"):
            files.load_profile(path)


@pytest.mark.parametrize("is_overridden", [False, True])
def test_the_wish_of_a_checkpoint_is_handed_on_where_the_host_knows_it(
    pack: Pack, video, model, monkeypatch: pytest.MonkeyPatch, is_overridden: bool
) -> None:
    """A newer host takes the wish of a layer beside q, k and v, does as it says unless an override does all, and gives
    no override to see of it."""
    import comfy.ldm.modules.attention as kernels

    class ComfyAttention(torch.nn.Module):
        function: Callable[..., torch.Tensor] | None = None

    computed = {"wished": 0, "override": 0}

    def attention_wished(*args: object, **kwargs: object) -> torch.Tensor:
        computed["wished"] += 1
        return kernels.attention_sub_quad(*args, **kwargs)

    def override(function, *args, **kwargs):
        assert "preferred_attention" not in kwargs
        computed["override"] += 1
        return function(*args, **kwargs)

    def newer(*args: object, preferred_attention: ComfyAttention | None = None, **kwargs: object) -> torch.Tensor:
        is_overridden = "optimized_attention_override" in kwargs["transformer_options"]
        wished = None if is_overridden or preferred_attention is None else preferred_attention.function
        return (wished or kernels.attention_sub_quad)(*args, **kwargs)

    monkeypatch.setattr(kernels, "ComfyAttention", ComfyAttention, raising=False)
    monkeypatch.setattr(pack.module("nodes.host.backbone"), "optimized_attention", newer)
    blocks = model.model.diffusion_model.blocks
    for block in list(blocks)[:2]:  # the others have no wish
        block.self_attn.comfy_attention = ComfyAttention()
        block.self_attn.comfy_attention.function = attention_wished
    blocks[2].self_attn.comfy_attention = ComfyAttention()  # a wish that this card cannot fulfil
    if is_overridden:
        override_with(model, override)
    report = json.loads(video(model, conditioning(1), seconds=0.5)[3])
    if is_overridden:
        assert computed == {"wished": 0, "override": PASSES * LAYERS * 2}  # self- and cross-attention
        assert report["attention"] == ["override override"]
    else:
        assert computed == {"wished": PASSES * 2, "override": 0}
        assert report["attention"] == ["attention_wished", "attention_sub_quad"]


HOPPER = {"generation": 9, "cudnn": 91501, "other_flash": None, "takes_order": True}
BF16, FP16 = torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("changed", "dtype", "is_first"),
    [
        ({}, BF16, True),
        ({}, FP16, True),
        ({"generation": 10}, BF16, True),
        ({"cudnn": 92000}, FP16, True),
        ({"generation": 8}, BF16, False),  # Ampere, Ada: FlashAttention 2 is as fast or faster
        ({"generation": 12}, BF16, False),  # Blackwell at home
        ({"generation": 0}, BF16, False),  # no NVIDIA card
        ({"cudnn": 91500}, BF16, False),  # wrong where lengths are no multiple of 128
        ({"cudnn": 0}, BF16, False),
        ({"other_flash": "FA3"}, BF16, False),  # somebody has chosen
        ({"other_flash": "FA4"}, FP16, False),
        ({"takes_order": False}, BF16, False),  # PyTorch 2.5 with a cuDNN of today beside it
        ({"takes_order": False, "generation": 10}, FP16, False),
        ({}, torch.float32, False),
        ({}, torch.float64, False),
    ],
)
def test_cudnn_is_first_where_pytorch_itself_would_have_it(
    pack: Pack, changed: dict[str, object], dtype: torch.dtype, is_first: bool
) -> None:
    choice = pack.module("nodes.host.attention_choice")
    assert choice.cudnn_is_first(choice.Card(**{**HOPPER, **changed}), dtype) is is_first
    assert choice.CUDNN_FIRST in choice.EXACT


def test_what_computes_with_cudnn_first_is_the_hosts_plain_attention(pack: Pack) -> None:
    from comfy.ldm.modules.attention import attention_pytorch

    choice = pack.module("nodes.host.attention_choice")
    q, k, v = torch.randn(3, 1, 10, 4 * 24, generator=torch.Generator().manual_seed(0)).unbind()
    q = q[:, :7]
    assert choice.TAKES_ORDER  # this PyTorch does
    assert torch.equal(choice.attention_cudnn_first(q, k, v, 4), attention_pytorch(q, k, v, heads=4))
    assert choice.attention_for(q, {}, {}) == ("attention_sub_quad", None)  # there is no card here
