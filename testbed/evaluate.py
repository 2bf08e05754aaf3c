"""Make videos of the world by each policy, and measure what they kept of it.

usage: python -m testbed.evaluate --seeds 10000:10032 --json FILE [--policies paper uniform] [--workers 4] [--keep]

Every policy makes its video of the same scripts from the same noise. One line of JSON is appended to FILE for every
finished video, so that the run can be stopped and goes on where it was. With --keep videos are kept in
build/testbed/videos, and those that are there are not made again when FILE is begun anew to measure something else;
delete that folder after a change of a policy or of the core. `factorial` stands for all policies of the factorial,
`recalled` for recall and what it is compared with, `lean` for recall and the same with less memory. `python -m
testbed.quality` draws tables and figures of one FILE or several. Seeds below 1000 are for trying things out, seeds from
10000 up for reports.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
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
from headforcing_core.rollout.plan import Segment

from .evaluation_script import CHUNK_FRAMES, TRANSITION, evaluation_script
from .head_profile import PROFILE_FILE
from .latents import load_basis
from .measures import Measured, measure
from .model_files import MODEL_FILE, TRAINED, network_of, read_weights
from .network import CausalWan
from .oracle import oracle
from .player import Film, play_segments, segments_of
from .policies import COMPARED, FACTORIAL, LEAN, MASKED, RECALLED, Compared
from .results_file import append_results, drop_cut_line, read_results
from .text_encoder import load_texts

FRAMES = 240
POLICIES = {**COMPARED, **MASKED, **RECALLED, **LEAN, **FACTORIAL}
SETS = {"factorial": FACTORIAL, "recalled": RECALLED, "lean": LEAN}
VIDEOS = TRAINED / "videos"


@dataclass(frozen=True)
class Video:
    """What was made: (16, frames, height, width) in model space, the frames that memory heads could read in each chunk,
    seconds of processor time, bytes of the past's keys and values, and passes of the model for what was recalled."""

    latent: Tensor
    held: Sequence[Sequence[int]]
    seconds: float
    kv_bytes: int
    extra_passes: int = 0


def make_video(network: CausalWan, compared: Compared, labels: Labels, seed: int, frames: int) -> Video:
    """The video of a policy on the evaluation's script of a seed."""
    script = evaluation_script(seed, frames)
    choose = (lambda made: oracle(script, CHUNK_FRAMES)) if compared.oracle else None
    film = Film(seed, frames // CHUNK_FRAMES, CHUNK_FRAMES, choose=choose)
    return played(network, segments_of(script, load_texts(), CHUNK_FRAMES, TRANSITION), film, compared, labels)


def played(
    network: CausalWan, segments: tuple[Segment[Tensor], ...], film: Film, compared: Compared, labels: Labels
) -> Video:
    """A film by a policy."""
    started = process_time()
    chunks = play_segments(network, segments, film, compared.policy, labels, half=True)
    held = [[frame for frame, *_ in chunk.seen["memory"]] for chunk in chunks]
    latent = torch.cat([chunk.latent for chunk in chunks], dim=2)[0]
    extra = sum(chunk.choice.passes for chunk in chunks if chunk.choice is not None)
    return Video(latent.half(), held, process_time() - started, chunks[-1].kv_bytes, extra)


def labels_for(rule: LabelRule, profile: HeadProfile, seed: int) -> Labels:
    """Head labels for a video, from the model's measured masses."""
    return label_heads(replace(rule, seed=seed), profile.layers, profile.heads, profile.masses)


def kept_video(job: "Job", network: CausalWan, profile: HeadProfile) -> Video:
    """The video of a policy, read from where it was kept, or made."""
    compared, model = POLICIES[job.policy], profile.fingerprint.removeprefix("weights:")[:12]
    path = VIDEOS / model / f"{job.policy}_{job.seed}_{job.frames}.safetensors"
    if not path.exists():
        video = make_video(network, compared, labels_for(compared.rule, profile, job.seed), job.seed, job.frames)
        if job.keep:
            facts = {"held": json.dumps(video.held), "seconds": str(video.seconds), "kv_bytes": str(video.kv_bytes)}
            facts["extra_passes"] = str(video.extra_passes)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"latent": video.latent.contiguous()}, path.with_suffix(".part"), facts)
            os.replace(path.with_suffix(".part"), path)
        return video
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        return Video(
            file.get_tensor("latent"),
            json.loads(facts["held"]),
            float(facts["seconds"]),
            int(facts["kv_bytes"]),
            int(facts.get("extra_passes", 0)),
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


@dataclass(frozen=True)
class Job:
    """A video to make and measure, and whether to keep it."""

    policy: str
    seed: int
    frames: int
    keep: bool = False


def evaluate(job: Job) -> dict[str, object]:
    """One video and its measures, as a line of the results."""
    network, profile = model_and_profile(MODEL_FILE, PROFILE_FILE)
    video = kept_video(job, network, profile)
    found = measure(pictures_of(video), evaluation_script(job.seed, job.frames), CHUNK_FRAMES, video.held)
    facts = {"policy": job.policy, "seed": job.seed, "frames": job.frames}
    return {**facts, **line_of(video, found, POLICIES[job.policy], profile, job.seed)}


def line_of(video: Video, found: Measured, compared: Compared, profile: HeadProfile, seed: int) -> dict[str, object]:
    """What a line of the results tells of a video."""
    return {
        "model": profile.fingerprint,
        "seconds": round(video.seconds, 2),
        "kv_bytes": video.kv_bytes,
        "extra_passes": video.extra_passes,
        "frames_read": frames_read(compared, labels_for(compared.rule, profile, seed)),
        "measures": found.values,
        "returns": [asdict(each) for each in found.returns],
    }


@cache
def model_and_profile(model: Path, profile_file: Path) -> tuple[CausalWan, HeadProfile]:
    """A model and the roles of its heads. SystemExit when they do not belong together."""
    weights = read_weights(model)
    profile = load_profile(profile_file)
    if profile.fingerprint != weights_fingerprint(weights):
        raise SystemExit(
            f"{profile_file.name} is of another model than {model.name}. Its roles would be wrong. "
            "Measure them with: python -m testbed.head_profile"
        )
    return network_of(weights), profile


def main(arguments: list[str] | None = None) -> None:
    """Make and measure what the command line asks for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = _parse(arguments)
    _, profile = model_and_profile(MODEL_FILE, PROFILE_FILE)
    drop_cut_line(given.json)
    done = {(line["policy"], line["seed"], line["frames"], line["model"]) for line in read_results(given.json)}
    names = [name for each in given.policies for name in SETS.get(each, (each,))]
    jobs = [
        Job(name, seed, given.frames, given.keep)
        for seed in given.seeds
        for name in names
        if (name, seed, given.frames, profile.fingerprint) not in done
    ]
    append_results(given.json, jobs, evaluate, given.workers)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbed.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=seed_range, required=True, metavar="FROM:TO", help="without TO")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--policies", nargs="+", default=[*COMPARED], choices=[*SETS, *POLICIES], metavar="NAME")
    parser.add_argument("--workers", type=int, default=1, help="processes, one a core")
    parser.add_argument("--keep", action="store_true", help="keep the videos")
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
