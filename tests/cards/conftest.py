"""The host and the pack in this process, and ranks in processes of their own, started once a module."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.host.conftest import PACK, Pack, conditioning, load, pack

__all__ = ["load", "pack"]
SEED, SIZE = 3, (2, 6)  # three tokens a frame, which two ranks cannot share evenly
MOST_SECONDS = 60.0


def module(name: str) -> Any:
    """A module of the pack, which is loaded by now."""
    return importlib.import_module(f"{PACK}.{name}")


@dataclass(frozen=True)
class Film:
    """A video that is made by one process and by several: its plan, and what each head does."""

    plan: Any
    labels: Sequence[Sequence[str]]
    channels: int = 16

    @property
    def memory(self) -> Any:
        return self.plan.memory_plan(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        plan = self.plan
        return (1, self.channels, plan.policy.chunk_frames, plan.latent_height, plan.latent_width)

    def job(self, exact: bool) -> Any:
        return module("nodes.cards.job").job_for(self.plan, self.memory, lambda chunk: SEED, self.shape, exact)

    def alone(self, model: Any, **asked: Callable) -> list[Any]:
        """Its chunks by this process."""
        backbone, memories = module("nodes.host.backbone"), module("headforcing_core.kv_memory.memory")
        noise = module("headforcing_core.rollout.noise").PerChunkNoise(SEED, self.shape)
        seam = backbone.HostBackbone(model, SEED)
        memory = memories.KVMemory(self.memory, seam.attention, backbone.rotate)
        rollout = module("headforcing_core.rollout.loop").rollout
        with torch.inference_mode(), seam.reading(memory, 0):
            return list(rollout(seam, memory, self.plan, noise, **asked))


class Ranks:
    """Two ranks as Ray's actors, and what the page does for them: it hears them and answers."""

    def __init__(self, folder: Path) -> None:
        import ray

        self.ray, self.folder = ray, folder
        process = module("nodes.cards.rank_process")
        ray.cloudpickle.register_pickle_by_value(process)
        kind = ray.remote(num_cpus=1, concurrency_groups={"run": 1, "talk": 2})(process.RankProcess)
        page = process.this_page()
        self.actors = [kind.remote(number, 2, page) for number in range(2)]
        self.heard: list[list[Any]] = [[], []]
        self.recipe: Any = None
        self.call("join", str(folder / "store"), MOST_SECONDS)

    def call(self, method: str, *arguments: object, group: str = "run") -> list[Any]:
        """What a method of all ranks returns."""
        return self.ray.get(self.begin(method, *arguments, group=group))

    def begin(self, method: str, *arguments: object, group: str = "run") -> list[Any]:
        return [getattr(each, method).options(concurrency_group=group).remote(*arguments) for each in self.actors]

    def load(self, model: Any) -> list[Any]:
        """Load a MODEL, if it is not the one that is there; what the ranks say then."""
        recipe = module("nodes.cards.model_recipe").recipe_of(model)
        if self.recipe is None or not recipe.is_same(self.recipe):
            self.arrived = self.call("load", self.ray.put(recipe))
            self.recipe = recipe
        return self.arrived

    def make(self, film: Film, exact: bool, live: Callable[[int], Any] = lambda chunk: None) -> list[list[Any]]:
        """The chunks of a film as each rank has them."""
        answer_of = module("nodes.cards.job").answer_of
        job = self.ray.put(film.job(exact))
        self.heard = [[], []]
        answers: dict[Any, Any] = {}
        pending = self.begin("run", job)
        while True:
            done, pending = self.ray.wait(pending, num_returns=len(pending), timeout=0) if pending else ([], [])
            self.ray.get(done)
            heard = self.call("hear", 0.02, group="talk")
            for rank, messages in enumerate(heard):
                self.heard[rank] += messages
                for asked in (each for each in messages if type(each).__name__ == "Asked"):
                    if asked not in answers:
                        of_live = asked.what == "live"
                        answers[asked] = live(asked.number) if of_live else answer_of(film.plan, asked)
                    actor = self.actors[rank].answer
                    actor.options(concurrency_group="talk").remote(answers[asked])
            if not pending and not any(heard):
                return [[each for each in of_rank if type(each).__name__ == "Made"] for of_rank in self.heard]


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray on this machine alone, for as long as tests need it."""
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    import ray

    folder = tmp_path_factory.mktemp("ray")
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=str(folder), log_to_driver=False
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def ranks(pack: Pack, ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    made = Ranks(tmp_path_factory.mktemp("ranks"))
    yield made
    for actor in made.actors:
        ray.kill(actor)
