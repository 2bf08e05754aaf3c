"""By which layers a checkpoint recalls best: how alike scenes are, to themselves and to others, in an ordinary film.

python benchmarks/recall_probe.py --checkpoint FILE --text-encoder FILE [--prompts FILE] [--size 832x480]
                                  [--save PROFILE] [--json FILE] [--seed N]

Makes one short film that returns to its scenes, with the real host, and prints for every layer, and for the best sets
of three, how far the look at a returning scene is from chunks of the same scene and from others, how often the rule of
the policy recall chooses right, and which layers and share to go by. --save writes those into a profile that Profile
Heads saved, whose heads the film is then made with. See docs/files.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.recall.film import Film, looks_of
from benchmarks.recall.telling import Look, Telling, recommend, tell
from benchmarks.shared.host_process import PACK, REPOSITORY, pack_module, start_host
from benchmarks.shared.stage import Size
from benchmarks.shared.tables import Cell, Findings, Row, counted, say
from devtools.pack import load_nodes
from headforcing_core.geometry import latent_size
from headforcing_core.heads.profile import HeadProfile
from headforcing_core.heads.profile_file import load_profile, save_profile
from headforcing_core.policy.fitting import USUAL_SHARE
from headforcing_core.rollout.episodes import descriptor_layers

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

_FOX = (
    "A red fox walks through a snowy birch forest at dawn, white ground, pale trunks, cold blue light, the camera "
    "following at walking pace."
)
_MARKET = (
    "A crowded night market in the rain, red paper lanterns, steaming food stalls, neon signs reflected in wet "
    "asphalt, the camera moving slowly between the stalls."
)
_DESERT = (
    "A lone rider on a camel crosses orange sand dunes at noon under a deep blue sky, long ridges of sand, heat haze, "
    "the camera high above."
)
PROMPTS = (_FOX, _MARKET, _FOX, _DESERT, _MARKET, _FOX, _DESERT, _MARKET, _FOX)
_SHOWN = 10  # sets of layers
_LEAST_RIGHT = 0.5


def main() -> None:
    """Make the film, show, write."""
    given = options()
    on_card = torch.cuda.is_available()
    start_host(torch.get_num_threads(), "pytorch" if on_card else "host", "cuda" if on_card else "cpu")
    nodes = load_nodes(PACK, REPOSITORY)
    model = load_model(nodes["HeadForcingLoadARModel"], given.checkpoint)
    probe(model, load_encoder(given.text_encoder), given)


def probe(model: ModelPatcher, clip: CLIP, given: argparse.Namespace) -> Telling:
    """Everything once the model is loaded; returns what to go by."""
    of_host = pack_module("host.model")
    layers, heads = of_host.layers_and_heads(model)
    profile = None if given.save is None else _profile_for(model, given.save)
    labels = (("memory",) * heads,) * layers if profile is None else profile.labels
    film = Film(_prompts(given.prompts), given.size, labels, given.seed)
    settings: dict[str, Cell] = {
        "checkpoint": given.checkpoint.name,
        "fingerprint": of_host.facts_of(model).fingerprint,
        "size": str(given.size),
        "seed": given.seed,
        "scenes": film.script,
        "heads": counted(labels) if profile is not None else "all count as memory heads, since no profile was given",
    }
    for name, value in settings.items():
        say(f"{name}: {value}")
    looks = looks_of(model, clip, film)
    return _judge(looks, Findings(given.json, settings), given, profile)


def load_model(loader: type, path: Path) -> ModelPatcher:
    """A checkpoint as Load AR Model reads it."""
    _look_into("diffusion_models", path)
    return loader.PREPARE_CLASS_CLONE(None).execute(model_name=path.name).args[0]


def load_encoder(path: Path) -> CLIP:
    """A text encoder as the host's CLIPLoader reads it (type wan); those of the tests have their size with them."""
    import comfy.sd

    if _is_of_tests(path):
        _look_into("text_encoders", path)
        loader = load_nodes("recall_probe_nodes", REPOSITORY / "tests" / "test_nodes")["HeadForcingTestLoadUMT5"]
        return loader.execute(clip_name=path.name).args[0]
    return comfy.sd.load_clip(ckpt_paths=[str(path)], clip_type=comfy.sd.CLIPType.WAN)


def _judge(
    looks: Sequence[Look], findings: Findings, given: argparse.Namespace, profile: HeadProfile | None
) -> Telling:
    layers = len(looks[0].likeness) if looks else 0
    each = tell(looks, [(layer,) for layer in range(layers)])
    found, ranked = recommend(looks)
    (usual,) = tell(looks, [descriptor_layers(layers)])
    findings.settings["looks"] = sum(look.tells for look in looks)
    findings.add("layers", f"Likeness by layer, {findings.settings['looks']} looks at scenes returned to", _rows(each))
    findings.add("sets", "The best sets of layers, and the usual one last", _rows([*ranked[:_SHOWN], usual]))
    row: Row = {"layers": _named(found), "share": found.share, "right": found.best, "usual": _named(usual)}
    findings.add("recommended", "To go by", [row])
    if profile is None:
        return found
    if found.best < _LEAST_RIGHT:
        say(f"\nNothing was saved: no layers choose right in more than {found.best:.0%} of the looks.")
        return found
    save_profile(replace(profile, recall_layers=found.layers, recall_share=found.share), given.save)
    say(f"\nSaved into {given.save}.")
    return found


def _rows(told: Sequence[Telling]) -> list[Row]:
    return [
        {
            "layers": _named(each),
            "same, least": each.same_least,
            "same, mean": each.same_mean,
            "other, mean": each.other_mean,
            "other, greatest": each.other_greatest,
            "margin": each.margin,
            f"right at {USUAL_SHARE:g}": each.right_at(USUAL_SHARE),
            "right at best": each.best,
            "from share": each.shares[0] / 100,
            "to share": each.shares[1] / 100,
        }
        for each in told
    ]


def _named(told: Telling) -> str:
    return ", ".join(map(str, told.layers))


def _profile_for(model: ModelPatcher, path: Path) -> HeadProfile:
    of_host = pack_module("host.model")
    layers, heads = of_host.layers_and_heads(model)
    profile = load_profile(path)
    warning = profile.check_fits(layers, heads, of_host.facts_of(model).fingerprints)
    if warning:
        raise ValueError(f"{path.name} is not for this checkpoint. {warning}")
    return profile


def _prompts(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return PROMPTS
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line)


def _look_into(kind: str, path: Path) -> None:
    import folder_paths

    _, suffixes = folder_paths.folder_names_and_paths[kind]
    folder_paths.folder_names_and_paths[kind] = ([str(path.resolve().parent)], suffixes)


def _is_of_tests(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return "d_model" in json.loads((file.metadata() or {}).get("config", "{}"))
    except SafetensorError:
        return False  # another format


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What is given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="what Load AR Model reads")
    parser.add_argument("--text-encoder", type=Path, required=True, metavar="FILE", help="Wan's: umt5_xxl")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a line a stretch of 9 frames; equal: same scene")
    parser.add_argument("--size", type=_size, default=Size(832, 480), metavar="WxH", help="of the film, in pixels")
    parser.add_argument("--save", type=Path, metavar="PROFILE", help="a profile of this checkpoint to write into")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    parser.add_argument("--seed", type=int, default=0, help="noise of the film")
    return parser.parse_args(arguments)


def _size(text: str) -> Size:
    try:
        width, height = map(int, text.split("x"))
        latent_size(width, height)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no size such as 832x480 ({error})") from None
    return Size(width, height)


if __name__ == "__main__":
    main()
