"""What the model goes through is data: made here, it could be run in another process."""

import pickle

import pytest
import torch
from tiny_model import CHANNELS, CoreBackbone, TinyModel
from torch import Tensor

from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.history import History
from headforcing_core.rollout.loop import rollout
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.passes import Commit, Denoise, Model, Pass, Predict
from headforcing_core.rollout.plan import RolloutPlan, Segment
from headforcing_core.rollout.transitions import recache

MODEL = TinyModel(layers=2, heads=3)
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))
SIGMAS = (1.0, 0.8, 0.0)
SHAPE = (1, CHANNELS, 3, 4, 6)


def went_through(work: Pass, backbone: CoreBackbone, x: Tensor, text: Tensor) -> Tensor:
    """What another process would make of a pass that it is sent."""
    sent: Pass = pickle.loads(pickle.dumps(work))

    def recipe(predict: Predict, x: Tensor, sigmas: Tensor) -> Tensor:
        return sent.run(Model(predict, backbone.memory, sigmas, lambda *step: None, lambda chunk: None), x)

    return backbone.sample(recipe, x, torch.tensor(SIGMAS), text)


@pytest.mark.parametrize("is_finished", [False, True])
def test_passes_that_were_sent_elsewhere_make_the_same_chunks(is_finished: bool) -> None:
    policy, noise = fit_policy(PRESETS["low_vram"], 3, 21, 15), PerChunkNoise(1, SHAPE)
    texts = MODEL.text(0), MODEL.text(1)
    plan = RolloutPlan(policy, 5, 4, 6, SIGMAS, (Segment(0, texts[0]), Segment(3, texts[1], "recache")))
    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    made = [chunk.latent for chunk in rollout(CoreBackbone(MODEL, memory), memory, plan, noise)]

    memory = KVMemory(plan.memory_plan(LABELS), dense_attention, rotate)
    backbone, history = CoreBackbone(MODEL, memory), History(policy, LABELS, {})
    for index, latent in enumerate(made):
        text = texts[index >= 3]
        if index == 3:
            went_through(recache(memory, history, index, [made[2]]), backbone, made[2], text)
        layout = history.layout(index, 3)
        work = Denoise(index, layout, noise, SIGMAS, policy.commit_context)
        if is_finished and index < 4:
            work = Commit(latent, layout, policy.commit_context)
        assert torch.equal(went_through(work, backbone, noise.initial(index), text), latent)
        history.observe(memory, layout.own_frames, (2, 3))
        history.advance(layout.own_frames)
        memory.keep(history.frames(index + 1), layout.own_frames)
