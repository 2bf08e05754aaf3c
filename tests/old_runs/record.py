"""Keep what this version keeps of a run, for good: python dev.py run -- python tests/old_runs/record.py"""

import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = "self_forcing_dmd.safetensors"
SIZE = 64  # pixels each way
FPS = 16.0
VAE_WIDTH = 8
CHUNKS, MORE = 10, 13
RUNS: Mapping[str, Mapping[str, str]] = {"film": {"preset": "paper"}, "frames": {"preset": "paper", "episode": "frame"}}
"""The runs that are recorded, and their Head Cache Policy."""


def keep_run(run: Callable[..., tuple], model: object, vae: object, name: str, chunks: int) -> None:
    """Make a recorded run with so many chunks; `run` executes a node by its id."""
    has_beginning = name == "film"
    inputs = {"start_image": _pictures()} if has_beginning else {}
    pixel_frames = 1 + 12 * chunks - (0 if has_beginning else 4)
    run(
        "HeadForcingSampler",
        model=_with_lora(model) if has_beginning else model,
        positive=[[torch.arange(512 * 64).view(1, 512, 64) / 2**14 - 1, {}]],
        seconds=pixel_frames / FPS,
        width=SIZE,
        height=SIZE,
        seed=7,
        profile=run("HeadForcingProfileHeads", model=model, rule="random")[0],
        policy=run("HeadForcingCachePolicy", **RUNS[name])[0],
        vae=vae,
        fps=FPS,
        run_name=name,
        **inputs,
    )


def recorded_vae(folder: Path):
    """The VAE that runs are recorded with, written into a folder: what a start image becomes depends on it."""
    sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
    from companions import write_vae

    from tests.host.conftest import load_vae

    write_vae(folder, VAE_WIDTH)
    return load_vae(folder / "wan_2.1_vae.safetensors")


def _pictures() -> torch.Tensor:
    return torch.arange(2 * SIZE * SIZE * 3).view(2, SIZE, SIZE, 3) / (2 * SIZE * SIZE * 3)


def _with_lora(model: object) -> object:
    import comfy.sd

    name = "diffusion_model.blocks.1.self_attn.q"
    down, up = ((torch.arange(2 * 384) % 7 - 3) / 2**6 for _ in range(2))
    lora = {f"{name}.lora_A.weight": down.view(2, 384), f"{name}.lora_B.weight": up.view(384, 2)}
    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0)[0]


def main() -> None:
    """Record every run into a folder of this version. SystemExit when it is there."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="ascii"))["project"]["version"]
    target = HERE / version
    if target.exists():
        raise SystemExit(f"{target} is there already. What was released stays as it is. Raise the version first.")
    sys.path.insert(0, str(ROOT))
    from tests.host.conftest import enter_host

    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("models", "output", "temp")]
        for place in places:
            place.mkdir()
        pack = enter_host(*places)
        model, vae = pack.run("HeadForcingLoadARModel", model_name=MODEL)[0], recorded_vae(Path(folder) / "vae")
        for name in RUNS:
            kept = places[1] / "head_forcing" / name
            keep_run(pack.run, model, vae, name, CHUNKS)
            shutil.copytree(kept, target / name, ignore=shutil.ignore_patterns("lock"))
            keep_run(pack.run, model, vae, name, MORE)
            (target / f"{name}_next").mkdir()
            for chunk in range(CHUNKS, MORE):
                shutil.copy(kept / f"chunk_{chunk:05d}.safetensors", target / f"{name}_next")
    print(f"recorded {', '.join(RUNS)} in {target}")


if __name__ == "__main__":
    main()
