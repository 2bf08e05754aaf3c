"""Every way of denoising, against the host's plain model run anew over the whole video at every step: all frames so far
clean and told 0, attention causal by chunks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tests.core.reference_solvers import Way
from tests.host.conftest import conditioning

SIZE, SEED, PATCH = (4, 6), 5, 2
FOUR = ((1.0, 0.9375, 0.8333333134651184, 0.625, 0.0), ())
LONGLIVE2 = ((0.9997998, 0.9372655, 0.8330554, 0.6246874, 0.0), (999, 937, 833, 624))
WORLD = ((0.9999, 0.96795, 0.90893, 0.76899, 0.0), (999, 967, 908, 768))
SELF_FORCING = "self_forcing_dmd.safetensors"
LIVE, LINGBOT = "longlive2_5b_bf16.pt", "lingbot_world_v2_causal_fast.safetensors"
TOLERANCE = 1e-5
LOOP = "headforcing_core.rollout.loop"


def drawn(seed: int, channels: int, frames: int) -> Tensor:
    return torch.randn(1, channels, frames, *SIZE, generator=torch.Generator().manual_seed(seed))


def beside(frames: range) -> Tensor:
    """20 channels that differ from frame to frame."""
    return torch.cat([drawn(300 + frame, 20, 1) for frame in frames], dim=2)


@dataclass(frozen=True)
class Case:
    """A video that is made twice."""

    model: str
    chunk_frames: int
    way: Way
    channels: int = 16
    chunks: int = 3
    prefix_frames: int = 0

    @property
    def prefix(self) -> Tensor | None:
        return drawn(9, self.channels, self.prefix_frames) if self.prefix_frames else None

    def noise(self, chunk: int, draw: int) -> Tensor:
        generator = torch.Generator().manual_seed(SEED * 1000003 + chunk * 64 + draw)
        return torch.randn(1, self.channels, self.chunk_frames, *SIZE, generator=generator)


def host_way(*steps: object, **settings: object) -> Way:
    return Way(*steps, of_host=True, **settings)


CASES = {
    "one step": Case(SELF_FORCING, 1, host_way(FOUR[0][:1] + (0.0,))),
    "two steps, four in the first chunk": Case(SELF_FORCING, 1, host_way((1.0, FOUR[0][2], 0.0), first=FOUR)),
    "steps from less than 1, after a prefix": Case(SELF_FORCING, 3, host_way((0.9, 0.5, 0.0)), prefix_frames=4),
    "unipc2 with timesteps": Case(LIVE, 8, host_way(*LONGLIVE2, solver="unipc2"), 48),
    "unipc2 from an image": Case(LIVE, 8, host_way(*LONGLIVE2, solver="unipc2", image=drawn(7, 48, 1)), 48, 2),
    "one step from an image": Case(SELF_FORCING, 3, host_way((1.0, 0.0), image=drawn(7, 16, 1)), chunks=2),
    "channels beside": Case(LINGBOT, 4, host_way(*WORLD, concat=beside)),
    "channels beside a prefix": Case(LINGBOT, 3, host_way((1.0, 0.0), concat=beside), chunks=2, prefix_frames=4),
    "a source": Case(SELF_FORCING, 3, host_way((0.7, 0.5, 0.0), source=lambda chunk: drawn(60 + chunk, 16, 3))),
    "a source at another level": Case(
        SELF_FORCING, 1, host_way((0.7, 0.5, 0.0), source=lambda chunk: drawn(60 + chunk, 16, 1), source_level=0.8)
    ),
}


@pytest.fixture(scope="module")
def roll(pack, load) -> Callable:
    """The chunks of a case by the pack's seam, a policy that keeps everything, and passes of every chunk."""
    module = pack.module
    backbone, plans, loop = (module(name) for name in ("nodes.host.backbone", "headforcing_core.rollout.plan", LOOP))
    memories, noises = module("headforcing_core.kv_memory.memory"), module("headforcing_core.rollout.noise")
    fitting, presets = module("headforcing_core.policy.fitting"), module("headforcing_core.policy.presets")
    steps = module("headforcing_core.families.family").Steps

    def made(case: Case, model: object, **other: object) -> list[Tensor]:
        way, frames = case.way, case.prefix_frames + case.chunks * case.chunk_frames
        policy = replace(presets.PRESETS["full"], rope="absolute")
        plan = plans.RolloutPlan(
            fitting.fit_policy(policy, case.chunk_frames, 32, frames),
            case.chunks,
            *SIZE,
            tuple(way.sigmas),
            (plans.Segment(0, conditioning(11)),),
            prefix=case.prefix,
            first=steps(*way.first) if way.first else None,
            timesteps=tuple(way.timesteps),
            solver=way.solver,
            image=way.image,
            concat=way.concat,
            source=way.source,
            source_level=way.source_level,
        )
        seam = backbone.HostBackbone(model, SEED)
        memory = memories.KVMemory(plan.memory_plan((("memory",) * 3,) * 4), seam.attention, backbone.rotate)
        noise = noises.PerChunkNoise(SEED, (1, case.channels, case.chunk_frames, *SIZE))
        with torch.inference_mode(), seam.reading(memory, 0):
            return [chunk.latent for chunk in loop.rollout(seam, memory, plan, noise)]

    return made


def naive(case: Case, model: object) -> list[Tensor]:
    """The chunks of a case by the plain model."""
    import comfy.model_management
    from comfy.ldm.modules.attention import attention_pytorch

    comfy.model_management.load_models_gpu([model])
    wan, n, way = model.model.diffusion_model, case.chunk_frames, case.way
    tokens = SIZE[0] * SIZE[1] // PATCH**2
    there = [] if case.prefix is None else list(case.prefix.split(n, dim=2))
    before = len(there)

    def sees(x: Tensor, times: list[float], sigma: float) -> Tensor:
        video = torch.cat([*there, x], dim=2)
        frames = video.shape[2]
        if way.concat is not None:
            video = torch.cat([video, way.concat(range(frames))], dim=1)
        chunk = torch.cat([torch.full((each.shape[2],), place) for place, each in enumerate([*there, x])])
        mask = (chunk[:, None] >= chunk).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)

        def causal(attention: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: object, **options: object):
            if q.shape[1] == k.shape[1] == frames * tokens:
                return attention_pytorch(q, k, v, heads, mask=mask)
            return attention(q, k, v, heads, *args, **options)

        told = torch.tensor([0.0] * (frames - n) + times)[None]
        options = {"optimized_attention_override": causal}
        flow = wan(video, told, context=conditioning(11)[0][0], transformer_options=options)
        return x - sigma * flow[:, :, -n:]

    with torch.inference_mode():
        for number in range(case.chunks):
            sigmas, _ = way.steps(number)
            x = start = way.start(number, case.noise(number, 0))
            seen: list[Tensor] = []
            for step in range(len(sigmas) - 1):
                x = way.held(number, x)
                seen.append(sees(x, way.times(number, step, n), sigmas[step]))
                x = way.after(number, start, seen, lambda step, like, number=number: case.noise(number, step + 1))
            there.append(way.held(number, x))
    return there[before:]


@pytest.mark.parametrize("name", CASES)
def test_the_plain_model_makes_the_same_chunks(load, roll, name: str) -> None:
    case = CASES[name]
    model = load(case.model, chunk_frames=case.chunk_frames)
    made, wanted = roll(case, model), naive(case, model)
    apart = [float((a - b).abs().max()) for a, b in zip(made, wanted, strict=True)]
    assert max(apart) <= TOLERANCE, apart
    assert wanted[-1].std() > 0.3
    if case.way.image is not None:
        assert torch.equal(made[0][:, :, :1], case.way.image)


BY_THE_NODE = {  # case: (family, seconds, notes)
    "unipc2 with timesteps": (
        "longlive2",
        3.8,
        ["Steps: 0.9998, 0.937265, 0.833055, 0.624687, 0, told as timesteps 999, 937, 833, 624 (family longlive2)."],
    ),
    "two steps, four in the first chunk": (
        "causal_forcing_2step",
        0.5,
        [
            "Steps: 1, 0.833333, 0 (family causal_forcing_2step).",
            "Steps of the first chunk: 1, 0.9375, 0.833333, 0.625, 0.",
        ],
    ),
}


@pytest.mark.parametrize("name", BY_THE_NODE)
def test_the_sampler_takes_the_way_of_the_family(pack, load, name: str) -> None:
    case, (family, seconds, notes) = CASES[name], BY_THE_NODE[name]
    model = load(case.model, family=family)
    step = 16 if case.channels == 48 else 8
    latent, _, _, report = pack.run(
        "HeadForcingSampler",
        model=model,
        positive=conditioning(11),
        policy=pack.run("HeadForcingCachePolicy", preset="full", rope="absolute")[0],
        seconds=seconds,
        width=SIZE[1] * step,
        height=SIZE[0] * step,
        seed=SEED,
    )
    wanted = torch.cat(naive(case, model), dim=2)
    made = pack.module("nodes.host.model").latent_in(model, latent["samples"])
    assert made.shape == wanted.shape and (made - wanted).abs().max() <= TOLERANCE
    told, way = json.loads(report), case.way
    assert [note for note in told["notes"] if note.startswith("Steps")] == notes
    first = way.first or ((), ())
    assert {key: told["settings"][key] for key in STEPS} == dict(
        zip(STEPS, map(list, (way.sigmas, way.timesteps, *first)), strict=True)
    )
    assert told["settings"]["solver"] == way.solver
    assert not any("begin at" in note for note in told["notes"])


STEPS = ("sigmas", "timesteps", "first_sigmas", "first_timesteps")
