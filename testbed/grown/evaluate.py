"""Make films of the grown world by the policies that are compared there, and measure what they kept of it.

usage: python -m testbed.grown.evaluate --seeds 61000:61012 --json FILE [--films plain ends] [--workers 4]

As testbed/evaluate.py: a line of JSON is appended to FILE for every finished video, and the run goes on where it was.
`--away` says for how many chunks the film `once` is elsewhere; 4800 are an hour.
"""

import argparse
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from headforcing_core.rollout.plan import Segment

from ..evaluate import labels_for, line_of, model_and_profile, pictures_of, played, seed_range
from ..evaluation_script import TRANSITION
from ..model_files import MODELS
from ..player import Film
from ..policies import RECALLED
from ..results_file import append_results, drop_cut_line, read_results
from .evaluation_films import AWAY_CHUNKS, FILMS, EvaluationFilm, once, truth
from .films import CHUNK_FRAMES
from .measures import measure_film
from .oracle import oracle
from .words import encode

MODEL_FILE, PROFILE_FILE = MODELS / "grown_world.safetensors", MODELS / "grown_profile.safetensors"


@dataclass(frozen=True)
class Job:
    """A film to make and measure; `away` counts in `once` alone."""

    film: str
    policy: str
    seed: int
    away: int
    model: Path = MODEL_FILE
    profile: Path = PROFILE_FILE


def evaluate(job: Job) -> dict[str, object]:
    """One video and its measures, as a line of the results."""
    film, compared = film_of(job), RECALLED[job.policy]
    network, profile = model_and_profile(job.model, job.profile)
    given = truth(film, job.seed, film.given) if film.given else None
    choose = oracle(film) if compared.oracle else None
    asked = Film(job.seed, len(film.prompts), CHUNK_FRAMES, given, choose)
    labels = labels_for(compared.rule, profile, job.seed)
    video = played(network, segments_of(film), asked, compared, labels)
    found = measure_film(pictures_of(video), film, video.held)
    facts = {"film": job.film, "policy": job.policy, "seed": job.seed, "frames": len(film.prompts) * CHUNK_FRAMES}
    return {**facts, "given": film.given, **line_of(video, found, compared, profile, job.seed)}


def film_of(job: Job) -> EvaluationFilm:
    """The film of a job."""
    return once(job.seed, job.away) if job.film == "once" else FILMS[job.film](job.seed)


def segments_of(film: EvaluationFilm) -> tuple[Segment[Tensor], ...]:
    """A film as a rollout's segments."""
    prompts = film.prompts
    starts = [0, *(chunk for chunk in range(1, len(prompts)) if prompts[chunk].text != prompts[chunk - 1].text)]
    return tuple(Segment(chunk, encode(prompts[chunk])[None], TRANSITION) for chunk in starts)


def main(arguments: list[str] | None = None) -> None:
    """Make and measure what the command line asks for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = _parse(arguments)
    _, profile = model_and_profile(given.model, given.profile)
    drop_cut_line(given.json)
    done = {(line["film"], line["policy"], line["seed"], line["model"]) for line in read_results(given.json)}
    job = partial(Job, away=given.away, model=given.model, profile=given.profile)
    jobs = [
        job(film, policy, seed)
        for seed in given.seeds
        for film in given.films
        for policy in given.policies
        if (film, policy, seed, profile.fingerprint) not in done
    ]
    append_results(given.json, jobs, evaluate, given.workers)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbed.grown.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=seed_range, required=True, metavar="FROM:TO", help="without TO")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--films", nargs="+", default=[*FILMS], choices=FILMS, metavar="NAME")
    parser.add_argument("--policies", nargs="+", default=[*RECALLED], choices=RECALLED, metavar="NAME")
    parser.add_argument("--away", type=int, default=AWAY_CHUNKS, metavar="CHUNKS")
    parser.add_argument("--workers", type=int, default=1, help="processes, one a core")
    parser.add_argument("--model", type=Path, default=MODEL_FILE)
    parser.add_argument("--profile", type=Path, default=PROFILE_FILE)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
