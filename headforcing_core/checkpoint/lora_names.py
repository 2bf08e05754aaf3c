"""The LoRA in a file, under the names of the model's own modules, whatever trained it: PEFT, kohya, musubi, diffusers,
DiffSynth or the host."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from .file_keys import below_keys, keys_in_words
from .tensor_names import named_together, plain_name

_TOP_LEVEL_KEYS = ("generator_lora", "lora", "generator_ema", "generator", "model", "state_dict")
_OF_TEXTS = re.compile(r"(lora_te\d?_|te\d?\.|text_encoders?\d?\.|conditioner\.).*")
_UNDERSCORED = re.compile(r"(lora_unet_+|lora_transformer_|lora_|lycoris_)(.+)")
# how a name ends: the pattern, and what the host calls that part of a change
_PARTS = (
    (r"\.lora_([AB])(\.(?!weight|bias)[^.]+)?(\.weight)?", r"lora_\1.weight"),
    (r"[._]lora\.(up|down)\.weight", r"lora_\1.weight"),
    (r"\.lora_(linear_layer\.)?(up|down|mid)\.weight", r"lora_\2.weight"),
    (
        r"\.lora_magnitude_vector(\.(?!weight)[^.]+)?(\.weight)?",
        "dora_scale",
    ),
    (
        r"\.(alpha|dora_scale|reshape_weight|diff|diff_b|set_weight|w_norm|b_norm|hada_\w+|lokr_\w+|oft_\w+|\w+_norm)",
        r"\1",
    ),
)
_HALVES = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}  # the same under another name
_DIFFUSERS = (
    (r"self_attn\.([qkv])", r"attn1.to_\1"),
    (r"cross_attn\.([qkv])", r"attn2.to_\1"),
    (r"self_attn\.o", "attn1.to_out.0"),
    (r"cross_attn\.o", "attn2.to_out.0"),
    (r"ffn\.0", "ffn.net.0.proj"),
    (r"ffn\.2", "ffn.net.2"),
    (r"text_embedding\.0", "condition_embedder.text_embedder.linear_1"),
    (r"text_embedding\.2", "condition_embedder.text_embedder.linear_2"),
    (r"time_embedding\.0", "condition_embedder.time_embedder.linear_1"),
    (r"time_embedding\.2", "condition_embedder.time_embedder.linear_2"),
    (r"time_projection\.1", "condition_embedder.time_proj"),
    (r"head\.head", "proj_out"),
)


@dataclass(frozen=True)
class Lora:
    """A LoRA's tensors by module of the model and by what the host calls that part of a change; names in the file that
    are of no module of the model; and sentences on what else the file holds."""

    modules: Mapping[str, Mapping[str, Tensor]]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


def lora_in(raw: object, file_name: str, modules: Collection[str]) -> Lora:
    """The LoRA in what a file holds, for a model with these modules. ValueError for a file that holds none."""
    found = below_keys(raw, _TOP_LEVEL_KEYS) if isinstance(raw, Mapping) else None
    called = _aliases(modules)
    changed: dict[str, dict[str, Tensor]] = {}
    unknown: dict[str, None] = {}
    first: dict[tuple[str, str], str] = {}
    of_texts: list[str] = []
    is_lora = False
    for name, value in found.held.items() if found else ():
        if not isinstance(value, Tensor):
            continue
        if _OF_TEXTS.fullmatch(name):
            of_texts.append(name)
            continue
        named, part = _parted(name)
        is_lora = is_lora or bool(part)
        module = called.get(_without_outer(named))
        if module is None or not part:
            unknown[named] = None
        else:
            half = _HALVES.get(part, part)
            if (module, half) in first:
                raise ValueError(
                    f"{file_name} changes {module} twice, by {first[module, half]} and {name}. Which of the two is "
                    "meant cannot be told. Save one LoRA alone in the file."
                )
            first[module, half] = name
            is_flat = part == "dora_scale" and value.ndim == 1
            changed.setdefault(module, {})[part] = value[:, None] if is_flat else value  # one number a row
    if of_texts and not (is_lora or unknown):
        raise ValueError(
            f"{file_name} changes the text encoder alone ({named_together(of_texts)}), which Load AR Model does not "
            "load. Put Load LoRA after the text encoder's loader, or choose none for lora."
        )
    if found is None or not is_lora:
        holds = named_together(found.held) if found else type(raw).__name__
        raise ValueError(
            f"{file_name} is not a LoRA: it holds {holds or 'nothing'}. A LoRA has pairs of tensors with names such as "
            "lora_A and lora_B. Choose another file for lora, or none."
        )
    texts = (f"Not used: what the LoRA changes in a text encoder ({named_together(of_texts)}).",) if of_texts else ()
    return Lora(changed, tuple(unknown), (*keys_in_words(found.aside), *texts))


def _parted(name: str) -> tuple[str, str]:
    for pattern, part in _PARTS:
        match = re.fullmatch(f"(?P<module>.+?){pattern}", name)
        if match:
            return match["module"], re.sub(pattern, part, name[match.end("module") :])
    return name, ""


def _without_outer(name: str) -> str:
    underscored = _UNDERSCORED.fullmatch(name)
    return underscored[2] if underscored else plain_name(name)


def _aliases(modules: Collection[str]) -> dict[str, str]:
    """Modules by every name that files call them by."""
    dotted = {module: module for module in modules} | {_in_diffusers(module): module for module in modules}
    dotted |= {name.removesuffix(".0"): module for name, module in dotted.items() if name.endswith(".to_out.0")}
    return {name.replace(".", "_"): module for name, module in dotted.items()} | dotted


def _in_diffusers(module: str) -> str:
    block = re.fullmatch(r"(blocks\.\d+\.)(.+)", module)
    start, rest = (block[1], block[2]) if block else ("", module)
    for pattern, name in _DIFFUSERS:
        if re.fullmatch(pattern, rest):
            return start + re.sub(pattern, name, rest)
    return module
