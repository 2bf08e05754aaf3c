"""Where the training of the grown world's model begins: layers of the old one, its text layer fitted to new words.

The small model takes some of the old one's layers whole but for the feed-forward parts, of which it keeps the units
with the largest weights. The layer that reads the text is given what it gave for the old encoder's words: a word that
both worlds know stands for itself, what names a place for the old place's name.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..model_files import MODEL_FILE, read_weights
from ..network import Shape
from ..prompts import every_prompt
from ..text_encoder import load_texts
from .words import GROUNDS, THINGS, load_words, vocabulary

LAYERS = (0, 2, 4, 8, 9, 11)  # dropped one by one: always the one without which the loss is lowest
SHAPE = Shape(width=256, layers=len(LAYERS), feed_forward=320)
_STANDS_FOR = {"snowfield": "desert", "orchard": "meadow", "town": "harbour"}


def started_weights(layers: tuple[int, ...] = LAYERS) -> dict[str, Tensor]:
    """The weights to begin with, in float32."""
    old = {name: tensor.float() for name, tensor in read_weights(MODEL_FILE).items()}
    weights = {name: tensor for name, tensor in old.items() if not name.startswith("blocks.")}
    for number, layer in enumerate(layers):
        block = {name.split(".", 2)[2]: old[name] for name in old if name.startswith(f"blocks.{layer}.")}
        weights |= {f"blocks.{number}.{name}": tensor for name, tensor in _narrowed(block).items()}
    weights["text_embedding.0.weight"] = old["text_embedding.0.weight"] @ fitted_words()
    return weights


def fitted_words() -> Tensor:
    """The map from a new word's vector to the old encoding that it stands for, (64, 64), by least squares."""
    said = [prompt.text.split() for prompt in every_prompt()]
    tokens = load_texts().tokens
    found: dict[str, Tensor] = {}
    for word in {word for text in said for word in text}:
        rows = [tokens[row, place] for row, text in enumerate(said) for place, each in enumerate(text) if each == word]
        found[word] = torch.stack(rows).mean(dim=0)
    for place in THINGS:
        for word in (*THINGS[place], *GROUNDS[place]):
            found[word] = found[_STANDS_FOR.get(place, place)]
    known = [number for number, word in enumerate(vocabulary()) if word in found]
    wanted = torch.stack([found[vocabulary()[number]] for number in known])
    return torch.linalg.lstsq(load_words()[known].double(), wanted.double(), driver="gelsd").solution.T.float()


def _narrowed(block: Mapping[str, Tensor]) -> dict[str, Tensor]:
    into, out = block["ffn.0.weight"], block["ffn.2.weight"]
    kept = (into.norm(dim=1) * out.norm(dim=0)).topk(SHAPE.feed_forward).indices.sort().values
    cut = {"ffn.0.weight": into[kept], "ffn.0.bias": block["ffn.0.bias"][kept], "ffn.2.weight": out[:, kept]}
    return {**block, **cut}
