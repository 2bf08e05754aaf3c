"""Videos to be made by one process and by two ranks, in processes of their own; and what the page does for those."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tests.host.conftest import PACK, TEXT_DIM

SEED, SIZE = 3, (2, 6)  # three tokens a frame, which two ranks cannot share evenly
LAYERS, HEADS = 2, 3
RANKS = 2
PATIENCE = 60.0  # seconds: the machine may be busy
KINDS = ("memory", "local", "anchor")


def module(name: str) -> Any:
    """A module of the pack, which is loaded by now."""
    return importlib.import_module(f"{PACK}.{name}")


def drawn(seed: int, channels: int, frames: int) -> Tensor:
    return torch.randn(1, channels, frames, *SIZE, generator=torch.Generator().manual_seed(seed))


def text(seed: int) -> list[list[Any]]:
    """A text of few words, which takes less time than one of 512."""
    return [[torch.randn(1, 16, TEXT_DIM, generator=torch.Generator().manual_seed(seed)), {}]]


@dataclass(frozen=True)
class Film:
    """A video that is made by one process and by several: its plan, and how many layers and channels its model has.
    Every layer has a head of each type."""

    plan: Any
    layers: int
    channels: int
    before: int = 0  # chunks of the noise that lie before the first

    @property
    def labels(self) -> list[list[str]]:
        return [[KINDS[(layer + head) % len(KINDS)] for head in range(HEADS)] for layer in range(self.layers)]

    @property
    def memory(self) -> Any:
        return self.plan.memory_plan(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.channels, self.plan.policy.chunk_frames, self.plan.latent_height, self.plan.latent_width)

    def going_on(self, made: Sequence[Any]) -> Film:
        """The same video, of which these chunks are made already."""
        finished = module("headforcing_core.rollout.plan").FinishedChunks(
            len(made),
            lambda chunk: made[chunk].latent,
            {each.frame: each for chunk in made for each in (*chunk.prefix_decisions, *chunk.decisions)},
            {chunk.index: chunk.choice for chunk in made if chunk.choice is not None},
            lambda chunk: made[chunk].window,
        )
        return replace(self, plan=replace(self.plan, finished=finished))

    def job(self, exact: bool) -> Any:
        return module("nodes.cards.job").job_for(
            self.plan, self.memory, lambda chunk: SEED, self.shape, exact, self.before
        )

    def alone(self, model: Any, live: Callable[[int], Any] = lambda chunk: None) -> list[Any]:
        """Its chunks by this process."""
        backbone, loop = module("nodes.host.backbone"), module("headforcing_core.rollout.loop")
        noise = module("headforcing_core.rollout.noise").PerChunkNoise(SEED, self.shape, before=self.before)
        seam = backbone.HostBackbone(model, SEED)
        memory = module("headforcing_core.kv_memory.memory").KVMemory(self.memory, seam.attention, backbone.rotate)
        with torch.inference_mode(), seam.reading(memory, 0):
            return list(loop.rollout(seam, memory, self.plan, noise, live=live))


def film(
    family: str = "self_forcing", preset: str = "paper", chunks: int = 2, layers: int = LAYERS, **plan: Any
) -> Film:
    """A short video of a family, compressed from its second chunk on, with whatever else of the plan is told."""
    record, plans = module("headforcing_core.families.table").FAMILIES[family], module("headforcing_core.rollout.plan")
    n, fitting = record.chunk_frames, module("headforcing_core.policy.fitting")
    asked = replace(
        module("headforcing_core.policy.presets").PRESETS[preset],
        compress_from_chunk=1,
        by_hand=("compress_from_chunk",),
    )
    policy = module("headforcing_core.policy.family_presets").for_family(asked, n, record)
    given = {
        "latent_height": SIZE[0],
        "latent_width": SIZE[1],
        "segments": (plans.Segment(0, text(11)),),
        "sigmas": record.steps.sigmas,
        "first": record.steps_of_first(0, continues=False),
        "timesteps": record.steps.timesteps,
        "solver": record.solver,
        "concat": beside() if record.image == "concat" else None,
        "blend": module("nodes.host.conditioning").mix_conditioning,
        **plan,
    }
    fitted = fitting.fit_policy(policy, n, record.trained_frames, chunks * n, record.shots, record.ahead(n))
    return Film(plans.RolloutPlan(fitted, chunks, **given), layers, record.space.channels)


def beside() -> Any:
    """What a model of 36 channels is given beside its chunks."""
    return module("nodes.request.beginning").BesideChunks(drawn(70, 16, 5))


def scene(first_chunk: int, transition: str, soft_chunks: int = 1, **other: Any) -> Any:
    """A scene under a text of its own."""
    segment = module("headforcing_core.rollout.plan").Segment
    return segment(first_chunk, text(20 + first_chunk), transition, soft_chunks, **other)


class Ranks:
    """Two ranks as Ray's actors, and what the page does for them: it hears them and answers."""

    def __init__(self, ray: Any, folder: Path) -> None:
        process = module("nodes.cards.rank_process")
        ray.cloudpickle.register_pickle_by_value(process)
        kind = ray.remote(num_cpus=1, concurrency_groups={"run": 1, "talk": 2})(process.RankProcess)
        page = process.this_page()
        self.ray = ray
        self.actors = [kind.remote(number, RANKS, page) for number in range(RANKS)]
        self.heard: list[list[Any]] = []
        self.runs: list[Any] = []
        self._arrived: list[Any] = []
        self._recipe: Any = None
        self.call("join", str(folder / "store"), PATIENCE)

    def begin(self, method: str, *arguments: object, group: str = "run") -> list[Any]:
        return [getattr(each, method).options(concurrency_group=group).remote(*arguments) for each in self.actors]

    def call(self, method: str, *arguments: object, group: str = "run") -> list[Any]:
        """What a method of all ranks returns."""
        return self.ray.get(self.begin(method, *arguments, group=group))

    def load(self, model: Any) -> list[Any]:
        """Load a MODEL, if it is not the one that is there; what the ranks said when they had."""
        recipe = module("nodes.cards.model_recipe").recipe_of(model)
        if self._recipe is None or not recipe.is_same(self._recipe):
            self._arrived, self._recipe = self.call("load", self.ray.put(recipe)), recipe
        return self._arrived

    def forget(self) -> None:
        """Load whatever comes next."""
        self._recipe = None

    def make(
        self,
        made: Film,
        exact: bool,
        live: Callable[[int], Any] = lambda chunk: None,
        hear: Callable[[Any], None] = lambda message: None,
    ) -> list[list[Any]]:
        """The chunks of a film as each rank has them. `hear` hears what rank 0 says."""
        answer_of = module("nodes.cards.job").answer_of
        self.runs = pending = self.begin("run", self.ray.put(made.job(exact)))
        self.heard, answers = [[] for _ in self.actors], {}
        while True:
            done, pending = self.ray.wait(pending, num_returns=len(pending), timeout=0) if pending else ([], [])
            self.ray.get(done)
            heard = self.call("hear", 0.02, group="talk")
            for rank, messages in enumerate(heard):
                self.heard[rank] += messages
                for message in messages:
                    if rank == 0:
                        hear(message)
                    if type(message).__name__ == "Asked":
                        of_live = message.what == "live"
                        if message not in answers:
                            answer = live(message.number) if of_live else answer_of(made.plan, message)
                            answers[message] = self.ray.put(answer)
                        self.actors[rank].answer.options(concurrency_group="talk").remote(answers[message])
            if not pending and not any(heard):
                return [[each.chunk for each in of_rank if type(each).__name__ == "Made"] for of_rank in self.heard]


@contextmanager
def two_ranks(folder: Path) -> Iterator[Ranks]:
    """Two ranks that have met, on this machine alone."""
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN", secrets.token_hex(32)),
    }
    ray = importlib.import_module("ray")
    # the path of a socket has a limit
    with TemporaryDirectory(prefix="hf-", dir="/tmp", ignore_cleanup_errors=True) as short:
        ray.init(
            num_cpus=RANKS,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=f"{short}/ray",
        )
        try:
            yield Ranks(ray, folder)
        finally:
            ray.shutdown()
