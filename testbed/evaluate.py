"""Make videos of the world by each policy, and measure what they kept of it.

usage: python -m testbed.evaluate --seeds 10000:10032 --json FILE [--policies paper uniform] [--frames 240]

Every policy makes its video of the same scripts from the same noise. One line of JSON is appended to FILE for every
finished video, so that the run can be stopped and goes on where it was. Videos are kept in build/testbed/videos, so
that they are not made again when FILE is begun anew to measure something else; delete that folder after a change of a
policy or of the core. Several of these commands may run at once, each with a FILE of its own; `python -m
testbed.quality` draws tables and figures of all of them. Seeds below 1000 are for trying things out, seeds from 10000
up for reports.
"""

import argparse
import gzip
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import process_time

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from headforcing_core.checkpoint.fingerprint import weights_fingerprint
from headforcing_core.heads.profile import HeadProfile
from headforcing_core.heads.profile_file import load_profile
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.policy.head_types import Labels

from .evaluation_script import CHUNK_FRAMES, TRANSITION, evaluation_script
from .head_profile import PROFILE_FILE
from .latents import load_basis
from .measures import measure
from .model_files import MODEL_FILE, TRAINED, network_of, read_weights
from .network import CausalWan
from .player import play
from .policies import COMPARED, MASKED, Compared
from .text_encoder import load_texts

FRAMES = 240
POLICIES = {**COMPARED, **MASKED}
VIDEOS = TRAINED / "videos"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """What was made: (16, frames, height, width) in model space, the frames that memory heads could read in each chunk,
    seconds of processor time, and bytes of the past's keys and values."""

    latent: Tensor
    held: Sequence[Sequence[int]]
    seconds: float
    kv_bytes: int


def make_video(network: CausalWan, compared: Compared, labels: Labels, seed: int, frames: int) -> Video:
    """The video of a policy on the evaluation's script of a seed."""
    script, texts = evaluation_script(seed, frames), load_texts()
    started = process_time()
    chunks = play(
        network,
        texts,
        script,
        seed,
        frames // CHUNK_FRAMES,
        CHUNK_FRAMES,
        compared.policy,
        labels,
        TRANSITION,
        half=True,
    )
    held = [[frame for frame, *_ in chunk.seen["memory"]] for chunk in chunks]
    latent = torch.cat([chunk.latent for chunk in chunks], dim=2)[0]
    return Video(latent.half(), held, process_time() - started, chunks[-1].kv_bytes)


def labels_for(rule: LabelRule, profile: HeadProfile, seed: int) -> Labels:
    """Head labels for a video, from the model's measured masses."""
    return label_heads(replace(rule, seed=seed), profile.layers, profile.heads, profile.masses)


def kept_video(name: str, seed: int, frames: int, network: CausalWan, profile: HeadProfile) -> Video:
    """The video of a policy, made or read from where it was kept."""
    compared, model = POLICIES[name], profile.fingerprint.removeprefix("weights:")[:12]
    path = VIDEOS / model / f"{name}_{seed}_{frames}.safetensors"
    if not path.exists():
        video = make_video(network, compared, labels_for(compared.rule, profile, seed), seed, frames)
        facts = {"held": json.dumps(video.held), "seconds": str(video.seconds), "kv_bytes": str(video.kv_bytes)}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latent": video.latent.contiguous()}, path.with_suffix(".part"), facts)
        os.replace(path.with_suffix(".part"), path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        return Video(
            file.get_tensor("latent"), json.loads(facts["held"]), float(facts["seconds"]), int(facts["kv_bytes"])
        )


def pictures_of(video: Video) -> Tensor:
    """One picture a frame, (frames, height, width, 3)."""
    return load_basis().pictures(video.latent.float())


def frames_read(compared: Compared, labels: Labels) -> float | None:
    """Frames that a head reads with the chunk once the past is compressed, on average; None for all."""
    policy, heads = compared.policy, [head_type for row in labels for head_type in row]
    if policy.keep_everything:
        return None
    return CHUNK_FRAMES + sum(policy.tiers(head_type).frames for head_type in heads) / len(heads)


def evaluate(name: str, seed: int, frames: int, network: CausalWan, profile: HeadProfile) -> dict[str, object]:
    """One video and its measures, as a line of the results."""
    video = kept_video(name, seed, frames, network, profile)
    found = measure(pictures_of(video), evaluation_script(seed, frames), CHUNK_FRAMES, video.held)
    return {
        "policy": name,
        "seed": seed,
        "frames": frames,
        "model": profile.fingerprint,
        "seconds": round(video.seconds, 2),
        "kv_bytes": video.kv_bytes,
        "frames_read": frames_read(POLICIES[name], labels_for(POLICIES[name].rule, profile, seed)),
        "measures": found.values,
        "returns": [asdict(each) for each in found.returns],
    }


def read_results(path: Path) -> list[dict]:
    """The lines of a results file, also of one packed by gzip, without a last one that is not yet whole; none when
    there is no such file."""
    data = path.read_bytes() if path.exists() else b""
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def drop_cut_line(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


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
    parser.add_argument("--seeds", type=seed_range, required=True, metavar="FROM:TO", help="without TO")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--policies", nargs="+", default=[*COMPARED], choices=POLICIES, metavar="NAME")
    parser.add_argument("--frames", type=int, default=FRAMES, help="a multiple of 3")
    given = parser.parse_args(arguments)
    if given.frames < 2 * CHUNK_FRAMES or given.frames % CHUNK_FRAMES:
        parser.error(f"--frames {given.frames}: chunks have {CHUNK_FRAMES} frames; give a multiple of that, 6 or more")
    return given


def seed_range(text: str) -> range:
    """Seeds of the command line, FROM:TO without TO."""
    first, _, end = text.partition(":")
    return range(int(first), int(end))


if __name__ == "__main__":
    main()
