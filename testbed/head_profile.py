"""Measure which heads of the world's model are local, anchor or memory.

usage: python -m testbed.head_profile

By the protocol that Profile Heads has as its default, on prompts drawn from the world. Writes
testbed/models/world_profile.safetensors, which Load Head Profile reads, and docs/quality_heads.png.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from headforcing_core.checkpoint.fingerprint import weights_fingerprint
from headforcing_core.families.family import FOUR_STEPS
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.geometry import WAN21
from headforcing_core.heads.attention_masses import MassRecorder
from headforcing_core.heads.measuring import Watch, measure, profiling_policy, watched_chunks
from headforcing_core.heads.profile import HeadProfile
from headforcing_core.heads.profile_file import save_profile
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.kv_memory.attention import dense_attention
from headforcing_core.kv_memory.memory import KVMemory
from headforcing_core.kv_memory.rope import rotate
from headforcing_core.report.head_map import draw_profile
from headforcing_core.rollout.noise import PerChunkNoise
from headforcing_core.rollout.plan import RolloutPlan, Segment

from .evaluation_script import CHUNK_FRAMES
from .latents import LATENT_SIZE
from .model_files import MODEL_FILE, MODELS, network_of, read_weights
from .network import CausalWan
from .player import NetworkBackbone
from .policies import EVERY_HEAD
from .prompts import every_prompt
from .text_encoder import load_texts

PROFILE_FILE = MODELS / "world_profile.safetensors"
PROMPTS, _SEED, _PROTOCOL = 20, 0, "fast"


def watch(network: CausalWan, texts: Sequence[Tensor]) -> MassRecorder:
    """Attention of every head while prompts of these texts, (words, text_dim), play."""
    shape = network.shape
    labels = label_heads(EVERY_HEAD, shape.layers, shape.heads, None)
    recorder = MassRecorder(shape.layers, CHUNK_FRAMES, seed=_SEED)
    for number, text in enumerate(texts):
        watched = watched_chunks(_PROTOCOL, CHUNK_FRAMES, number, _SEED, SELF_FORCING)
        policy = profiling_policy(_PROTOCOL, CHUNK_FRAMES, SELF_FORCING, watched[-1] + 1)
        plan = RolloutPlan(policy, watched[-1] + 1, *LATENT_SIZE, FOUR_STEPS.sigmas, (Segment(0, text[None]),))
        memory = KVMemory(plan.memory_plan(labels), dense_attention, rotate, recorder)
        noise = PerChunkNoise(_SEED + number, (1, WAN21.channels, CHUNK_FRAMES, *LATENT_SIZE))
        backbone = NetworkBackbone(network, memory)
        measure(backbone, memory, plan, noise, Watch(recorder, number, watched), lambda *_: None)
    return recorder


def measured_profile(model: Path, texts: Sequence[Tensor]) -> HeadProfile:
    """The roles of a model's heads, on prompts of these texts."""
    weights = read_weights(model)
    network = network_of(weights)
    recorder, rule = watch(network, texts), LabelRule()
    masses = recorder.masses()
    labels = label_heads(rule, network.shape.layers, network.shape.heads, masses)
    return HeadProfile(weights_fingerprint(weights), _PROTOCOL, rule, labels, masses, recorder.reliability())


def main() -> None:
    """Measure, write, draw."""
    torch.set_num_threads(1)
    texts = load_texts()
    prompts = Random(_SEED).sample(every_prompt(), PROMPTS)
    profile = measured_profile(MODEL_FILE, [texts.tokens[texts.index(prompt)] for prompt in prompts])
    save_profile(profile, PROFILE_FILE)
    draw_profile(profile, f"Head roles of {MODEL_FILE.name}").save(MODELS.parents[1] / "docs" / "quality_heads.png")
    print(profile.counts, profile.reliability_text)


if __name__ == "__main__":
    main()
