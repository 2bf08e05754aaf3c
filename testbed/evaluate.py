"""Make videos of the world by each policy, and measure what they kept of it.

usage: python -m testbed.evaluate --seeds 10000:10032 --json FILE [--policies paper uniform] [--frames 240]

Every policy makes its video of the same scripts from the same noise. One line of JSON is appended to FILE for every
finished video, so that the run can be stopped and goes on where it was; what FILE holds already, of the same model, is
not made again. Several of these commands may share one FILE when their policies differ. `python -m testbed.quality`
draws tables and figures of it. Seeds below 1000 are for trying things out, seeds from 10000 up for reports.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import process_time

import torch
from torch import Tensor

from headforcing_core.checkpoint import weights_fingerprint
from headforcing_core.profile import HeadProfile, load_profile
from headforcing_core.rollout import Chunk
from headforcing_core.rules import LabelRule, Labels, label_heads

from .evaluation_script import CHUNK_FRAMES, evaluation_script
from .head_profile import PROFILE_FILE
from .latents import load_basis
from .measures import measure
from .model_files import MODEL_FILE, network_of, read_weights
from .network import CausalWan
from .player import play
from .policies import COMPARED, MASKED, Compared
from .text_encoder import load_texts

FRAMES = 240
POLICIES = {**COMPARED, **MASKED}

log = logging.getLogger(__name__)


def make_video(network: CausalWan, compared: Compared, labels: Labels, seed: int, frames: int) -> list[Chunk]:
    """The video of a policy on the evaluation's script of a seed."""
    script, texts = evaluation_script(seed, frames), load_texts()
    chunks = frames // CHUNK_FRAMES
    return play(network, texts, script, seed, chunks, CHUNK_FRAMES, compared.policy, labels, "recache", half=True)


def pictures_of(chunks: Sequence[Chunk]) -> Tensor:
    """One picture a frame, (frames, height, width, 3)."""
    return load_basis().pictures(torch.cat([chunk.latent for chunk in chunks], dim=2)[0])


def labels_for(rule: LabelRule, profile: HeadProfile) -> Labels:
    """Head labels by a rule, from the model's measured masses."""
    return label_heads(rule, profile.layers, profile.heads, profile.masses)


def evaluate(name: str, seed: int, frames: int, network: CausalWan, profile: HeadProfile) -> dict[str, object]:
    """One video and its measures, as a line of the results."""
    compared = POLICIES[name]
    started = process_time()
    chunks = make_video(network, compared, labels_for(compared.rule, profile), seed, frames)
    seconds = process_time() - started
    found = measure(pictures_of(chunks), evaluation_script(seed, frames), CHUNK_FRAMES)
    return {
        "policy": name,
        "seed": seed,
        "frames": frames,
        "model": profile.fingerprint,
        "seconds": round(seconds, 2),
        "kv_bytes": chunks[-1].kv_bytes,
        "measures": found.values,
        "returns": [asdict(each) for each in found.returns],
    }


def read_results(path: Path) -> list[dict]:
    """The lines of a results file; none when there is no such file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def drop_cut_line(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if path.exists():
        text = path.read_bytes()
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def main(arguments: list[str] | None = None) -> None:
    """Make and measure what the command line asks for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = _parse(arguments)
    torch.set_num_threads(1)
    weights = read_weights(MODEL_FILE)
    network, fingerprint, profile = network_of(weights), weights_fingerprint(weights), load_profile(PROFILE_FILE)
    if profile.fingerprint != fingerprint:
        raise SystemExit(
            f"{PROFILE_FILE.name} is of another model than {MODEL_FILE.name}. Its roles would be wrong. "
            "Measure them with: python -m testbed.head_profile"
        )
    drop_cut_line(given.json)
    done = {(line["policy"], line["seed"], line["frames"], line["model"]) for line in read_results(given.json)}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for name in given.policies:
            if (name, seed, given.frames, fingerprint) in done:
                continue
            line = evaluate(name, seed, given.frames, network, profile)
            with given.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            log.info("%s, seed %d: %.1f s", name, seed, line["seconds"])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbed.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=_seeds, required=True, metavar="FROM:TO", help="without TO")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--policies", nargs="+", default=[*COMPARED], choices=POLICIES, metavar="NAME")
    parser.add_argument("--frames", type=int, default=FRAMES, help="a multiple of 3")
    given = parser.parse_args(arguments)
    if given.frames < 2 * CHUNK_FRAMES or given.frames % CHUNK_FRAMES:
        parser.error(f"--frames {given.frames}: chunks have {CHUNK_FRAMES} frames; give a multiple of that, 6 or more")
    return given


def _seeds(text: str) -> range:
    first, _, end = text.partition(":")
    return range(int(first), int(end))


if __name__ == "__main__":
    main()
