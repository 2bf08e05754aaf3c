"""Names in checkpoint files: wrappers of training taken off, and what a name is of."""

import re
from collections.abc import Iterable, Mapping
from itertools import takewhile

ATTENTION_TAG = ".comfy_attention.config"
"""How the names of tensors end that ask the host for another attention: they say how to compute, not with what."""

CAMERA = "a camera's tensors"

_WRAPPERS = frozenset(
    ("_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_forward_module", "_wrapped_module", "module")
)
_OUTER = frozenset(
    ("generator_ema", "generator", "state_dict", "model", "diffusion_model", "transformer", "dit", "net", "base_model")
)
_LINEAR = ("weight", "bias")
_OUTER_NAMES = frozenset(
    f"{module}.{part}"
    for module in (
        "patch_embedding",
        "text_embedding.0",
        "text_embedding.2",
        "time_embedding.0",
        "time_embedding.2",
        "time_projection.1",
        "head.head",
    )
    for part in _LINEAR
) | {"head.modulation"}
_BLOCK_NAMES = frozenset(
    ["modulation"]
    + [f"{attention}.{each}.{part}" for attention in ("self_attn", "cross_attn") for each in "qkvo" for part in _LINEAR]
    + [f"{attention}.norm_{each}.weight" for attention in ("self_attn", "cross_attn") for each in "qk"]
    + [f"{module}.{part}" for module in ("norm3", "ffn.0", "ffn.2") for part in _LINEAR]
)
_BLOCK = re.compile(r"blocks\.(\d{1,3})\.(.+)")

# what is no weight of the model, but known to come along with one: the pattern of its names, what it is
_BESIDE = (
    (r".*" + re.escape(ATTENTION_TAG), "tags that ask for int8 attention"),
    (r"patch_embedding_wancamctrl\..*|c2ws_hidden_states_layer\d\..*", CAMERA),
    (r"blocks\.\d+\.(cam_injector_layer\d|cam_scale_layer|cam_shift_layer)\..*", CAMERA),
    (r"(vae|first_stage_model)\..*", "a VAE"),
    (r"(text_encoders?|cond_stage_model|conditioner|clip)\..*", "a text encoder"),
    (r"clip_vision\..*", "a picture encoder"),
    (r"(model_ema|ema|ema_model)\..*", "averaged weights of another name"),
    (r"(.*\.)?(freqs|freqs_cis|inv_freq|rope\..*)", "tables of rotation, which ComfyUI makes anew"),
    (r"(model_sampling|denoiser)\..*", "noise levels"),
    (r"(critic|critic_ema|fake_score|real_score|discriminator|cls_pred_head|.*optimizer.*)\..*", "training state"),
)
_KNOWN_KEYS = re.compile(
    r".*(optim|sched|critic|score|discrim|generator|ema|step|epoch|iter|rng|scaler|loss|metric|config|args|hyper"
    r"|callback|loops).*|(lr|best)(_.*)?",
    re.DOTALL,
)


def plain_name(name: str) -> str:
    """A tensor's name without what training has wrapped around its modules, and without what stands before them."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    outer = len(list(takewhile(_OUTER.__contains__, parts)))
    return ".".join(parts[outer:] or parts[-1:])


def is_weight(name: str) -> bool:
    """Whether a plain name is that of a weight of Wan as this pack knows it."""
    block = _BLOCK.fullmatch(name)
    return block[2] in _BLOCK_NAMES if block else name in _OUTER_NAMES


def block_of(name: str) -> int:
    """Which block a plain name is of, counted from 0; -1 for none."""
    block = _BLOCK.fullmatch(name)
    return int(block[1]) if block else -1


def needed_names(layers: int) -> list[str]:
    """The names without which there is no model of so many layers: all weights but norm3, and no biases."""
    inner = [name for name in sorted(_BLOCK_NAMES) if not name.endswith(".bias") and not name.startswith("norm3")]
    outer = [name for name in sorted(_OUTER_NAMES) if not name.endswith(".bias")]
    return [*outer, *(f"blocks.{block}.{name}" for block in range(layers) for name in inner)]


def beside_a_model(name: str) -> str | None:
    """What a tensor is that comes along with a model and is none of its weights, by its plain name; None for a name
    that nothing is known of."""
    return next((what for pattern, what in _BESIDE if re.fullmatch(pattern, name)), None)


def is_known_key(key: str) -> bool:
    """Whether something known stands under a key beside the model: other weights of a training, or its state."""
    return _KNOWN_KEYS.fullmatch(key.lower()) is not None or beside_a_model(f"{key}.") is not None


def named_together(names: Iterable[str]) -> str:
    """A few names in words, for what stands under all of them."""
    names = sorted(names)
    return ", ".join(name[:100] for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def grouped(what_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Names under what they are."""
    groups: dict[str, list[str]] = {}
    for name, what in what_of.items():
        groups.setdefault(what, []).append(name)
    return groups
