"""One card's part of a run: it meets the others, loads the model, makes the chunks with them, and says what it does."""

from __future__ import annotations

from dataclasses import replace
from queue import Empty, Queue
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import comfy.model_management
import torch
from torch import Tensor

from ...headforcing_core.cards.sharded_memory import ShardedMemory
from ...headforcing_core.cards.torch_exchange import join
from ...headforcing_core.geometry import tokens_per_frame
from ...headforcing_core.rollout.loop import Chunk, Listeners, rollout
from ...headforcing_core.rollout.noise import SplicedNoise
from ..host.backbone import HostBackbone, rotate
from ..host.device_memory import free_bytes, pins_memory, total_bytes
from ..host.model import frame_of_head
from .deciding import deciding_about_bits
from .job import LIVE, Arrived, Asked, Job, Made, Message, Prefix, Recalls, Step, plan_with, shares_of
from .model_recipe import ModelRecipe, model_from
from .timed_exchange import TimedExchange
from .token_sharing import TokenSharing

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ...headforcing_core.rollout.plan import Segment
    from ..sockets import Conditioning


class Rank:
    """One of several ranks, each in a process of its own. `join`, `load` and `run` are called in this order, each on
    all ranks, and the last two again for each further model and run; they block. The others are called meanwhile, from
    other threads."""

    def __init__(self, number: int, ranks: int) -> None:
        self._number, self._ranks = number, ranks
        self._exchange: TimedExchange | None = None
        self._model: ModelPatcher | None = None
        self._said: Queue[Message] = Queue()
        self._answers: Queue[Any] = Queue()
        self._cancelled = Event()

    def join(self, store_file: str, seconds: float) -> None:
        """Meet the others, by a file that does not exist yet; none of them waits longer than so many seconds for
        another in what they do together from now on."""
        device = comfy.model_management.get_torch_device()
        self._exchange = TimedExchange(join(store_file, self._number, self._ranks, device, seconds))

    @torch.inference_mode()
    def load(self, recipe: ModelRecipe) -> Arrived:
        """Make the MODEL of a recipe, in place of the one before. RuntimeError if it is not that of the page."""
        self._model = None
        comfy.model_management.unload_all_models()
        self._model = model_from(recipe)
        return self.arrived()

    def arrived(self) -> Arrived:
        """What is there now, beside the model that was loaded."""
        assert self._model is not None
        name = comfy.model_management.get_torch_device_name(self._model.load_device)
        return Arrived(name, free_bytes(self._model), total_bytes(self._model), deciding_about_bits(self._model))

    @torch.inference_mode()
    def run(self, job: Job) -> None:
        """Make a video. InterruptedError, on all ranks at the same step, once `cancel` was called on one."""
        assert self._model is not None and self._exchange is not None
        self._said, self._answers = Queue(), Queue()
        self._cancelled.clear()
        plan = plan_with(job, self._ask)
        shares = shares_of(plan, job.memory, self._ranks)
        kind = HostBackbone if job.exact else TokenSharing
        backbone = kind(self._model, job.seeds[0])
        memory = ShardedMemory(job.memory, shares, self._exchange, job.exact, backbone.attention, rotate)
        noise = SplicedNoise(job.seeds.__getitem__, job.chunk_shape, pins_memory(), job.chunks_before)
        listeners = Listeners(self._step, self._prefix, self._recalls)
        frame = frame_of_head(self._model, tokens_per_frame(plan.latent_height, plan.latent_width))
        expected = shares.plan_of(job.memory, self._number).expected_bytes(frame)
        self._exchange.take_seconds()
        with backbone.reading(memory, expected):
            for chunk in rollout(backbone, memory, plan, noise, listeners, self._live):
                waited = self._exchange.take_seconds()
                self._said.put(Made(self._told(chunk), memory.chunk_bytes, tuple(backbone.attentions), waited))

    def hear(self, seconds: float = 0.5) -> list[Message]:
        """What there is to say since the last time, in order; waits so long for something."""
        said = self._said
        heard: list[Message] = []
        try:
            heard.append(said.get(timeout=seconds))
            while True:
                heard.append(said.get_nowait())
        except Empty:
            return heard

    def answer(self, value: object) -> None:
        """Answer the question that is open: of a latent the tensor, on the CPU."""
        self._answers.put(value)

    def cancel(self) -> None:
        """End the run at the next step. To be called again if it was called before the run had begun."""
        self._cancelled.set()
        self._answers.put(None)  # whoever waits for an answer hears of it

    def _vote(self) -> None:
        """All ranks go on, or none."""
        assert self._exchange is not None
        if self._exchange.any(self._cancelled.is_set()):
            raise InterruptedError("The run was cancelled.")

    def _ask(self, what: str, number: int) -> Any:
        self._said.put(Asked(what, number))
        answer = self._answers.get()
        self._vote()
        return answer

    def _live(self, chunk: int) -> Segment[Conditioning] | None:
        return cast("Segment[Conditioning] | None", self._ask(LIVE, chunk))

    def _step(self, chunk: int, step: int, x0: Tensor) -> None:
        self._said.put(Step(chunk, step, None if self._number else x0.to("cpu", torch.float32)))
        self._vote()

    def _prefix(self, done: int, chunks: int) -> None:
        self._said.put(Prefix(done, chunks))
        self._vote()

    def _recalls(self, chunk: int) -> None:
        self._said.put(Recalls(chunk))
        self._vote()

    def _told(self, chunk: Chunk) -> Chunk:
        """A chunk as it travels: tensors come from rank 0 alone."""
        return chunk if self._number == 0 else replace(chunk, latent=torch.empty(0), window=None)
