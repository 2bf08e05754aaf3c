"""The text encoder of the world: a real UMT5 of toy size whose tokens are the world's words, weights from a seed.

usage: COMFYUI_PATH=<ComfyUI folder> python -m testbed.text_encoder
writes testbed/models/world_umt5.safetensors and, for training, every prompt's encoding to
build/testbed/texts.safetensors.
"""

import io
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .prompts import Prompt, every_prompt

if TYPE_CHECKING:
    from comfy.sd import CLIP

ENCODER_FILE = Path(__file__).parent / "models" / "world_umt5.safetensors"
TEXTS_FILE = Path(__file__).parent / "models" / "world_texts.safetensors"
TEXT_DIM, TEXT_TOKENS = 64, 512  # what the host pads every text to
_CONFIG = {
    "d_ff": 128,
    "d_kv": 16,
    "d_model": TEXT_DIM,
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
    "model_type": "umt5",
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 64,
}
_GAINS = {"shared.weight": 8.0}  # of an embedding; a row has 64 numbers, so this gives each word numbers of size 1


@dataclass(frozen=True)
class Texts:
    """Encodings of all prompts, without the padding: (prompts, tokens, 64)."""

    tokens: Tensor

    def index(self, prompt: Prompt) -> int:
        """Row of a prompt."""
        return _INDEX[prompt]


_INDEX = {prompt: index for index, prompt in enumerate(every_prompt())}


def load_texts() -> Texts:
    """The encodings that training and evaluation read."""
    return Texts(load_file(TEXTS_FILE)["tokens"].float())


def write_encoder() -> None:
    """Write the encoder's file: weights, configuration as metadata, tokenizer as a tensor, as real files have them."""
    import comfy.ops
    from comfy.text_encoders.t5 import T5

    empty = T5(_CONFIG, torch.float32, "cpu", comfy.ops.disable_weight_init).state_dict()
    weights = _fill(empty)
    weights["spiece_model"] = torch.frombuffer(bytearray(_tokenizer()), dtype=torch.uint8)
    ENCODER_FILE.parent.mkdir(exist_ok=True)
    save_file(weights, ENCODER_FILE, {"config": json.dumps(_CONFIG)})


def load_encoder() -> "CLIP":
    """The encoder as the host's CLIP."""
    import comfy.sd
    import comfy.utils
    from comfy.text_encoders.wan import WanT5Model, WanT5Tokenizer

    class Classes:
        clip, tokenizer, params = WanT5Model, WanT5Tokenizer, {}

    weights = load_file(ENCODER_FILE)
    with safe_open(ENCODER_FILE, "pt") as file:
        config = json.loads(file.metadata()["config"])
    tokenizer = {"spiece_model": weights.pop("spiece_model"), "umt5xxl_embedding_size": config["d_model"]}
    return comfy.sd.CLIP(
        Classes,
        tokenizer_data=tokenizer,
        parameters=comfy.utils.calculate_parameters(weights),
        state_dict=[weights],
        model_options={"umt5xxl_model_config": config},
    )


def encode(clip: "CLIP", text: str) -> Tensor:
    """What the host gives a model for a text, (512, 64)."""
    encoded = clip.encode_from_tokens(clip.tokenize(text))
    assert isinstance(encoded, Tensor)
    return encoded[0].float()


def write_texts() -> None:
    """Write every prompt's encoding, cut to its words, in half precision."""
    clip = load_encoder()
    texts = torch.stack([encode(clip, prompt.text) for prompt in every_prompt()])
    words = int((texts != 0).any(dim=-1).sum(dim=-1).max())
    TEXTS_FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file({"tokens": texts[:, :words].half().contiguous()}, TEXTS_FILE)


def _fill(empty: Mapping[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name in sorted(empty):
        shape = empty[name].shape
        if len(shape) == 1:
            weights[name] = torch.ones(shape)
        else:
            gain = _GAINS.get(name, 1.0) * shape[-1] ** -0.5
            weights[name] = torch.randn(shape, generator=generator) * gain
    return weights


def _tokenizer() -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(prompt.text for prompt in every_prompt()),
        model_writer=model,
        model_type="word",
        vocab_size=_CONFIG["vocab_size"],
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def enter_host() -> None:
    """Make the host importable and keep it on the CPU. SystemExit when COMFYUI_PATH does not lead to it."""
    host = os.environ.get("COMFYUI_PATH", "")
    if not (Path(host) / "comfy").is_dir():
        raise SystemExit(f"COMFYUI_PATH is {host!r}: set it to a ComfyUI folder, the one that holds main.py")
    sys.path.insert(0, host)
    sys.argv[1:] = ["--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()


def main() -> None:
    """Write both files."""
    enter_host()
    write_encoder()
    write_texts()


if __name__ == "__main__":
    main()
