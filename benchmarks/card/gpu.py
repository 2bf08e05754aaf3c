"""How fast the pack is where it is used: ceilings of the machine, seconds of a chunk, where they go, memory, variants.

python benchmarks/gpu.py --json FILE [--carry FOLDER]      on the machine that is measured; no network, no ComfyUI
python dev.py run -- python benchmarks/gpu.py --pack FOLDER     fills that folder, on one that has both

Without a card it runs at a toy size on the CPU, by the same code. See docs/performance.md.
"""

import argparse
import datetime
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.card.carry import check_machine, pack, unpack  # noqa: E402
from benchmarks.card.paging import DYNAMIC, page_weights, start_paging  # noqa: E402

if __name__ == "__main__":
    start_paging()

import torch  # noqa: E402

from benchmarks.card.time_limit import TimeIsUp, at_most  # noqa: E402
from benchmarks.shared.tables import Cell, Row, Target, counted, labels_from, say

if TYPE_CHECKING:
    from benchmarks.card.workbench import Workbench

TEXT_TOKENS, REAL_TEXT_DIM = 512, 4096
TOY_TEXT_TOKENS = 32
LEAST_SECONDS = 5.0  # with less left a section is not begun
SHOWN_CALLS = 6
GIGA = 1e9


@dataclass(frozen=True)
class Section:
    """A part of the benchmark that can fail by itself. `seconds` is the most that it may take."""

    name: str
    seconds: float
    run: Callable[["Workbench"], None]


def main() -> int:
    """Pack, or measure section by section, and judge."""
    given = _options()
    try:
        if given.pack is not None:
            say(f"{given.pack} holds {pack(given.pack, given.pack_python) / 2**20:.1f} MiB")
            return 0
        if given.carry is not None and not given.dynamic_vram:
            unpack(given.carry)
        check_machine()
        device = _device(given.device)
        bench = _workbench(given, device)
        from benchmarks.card.predictions import predicted_rows
    except (RuntimeError, ImportError) as error:
        say(f"gpu.py: {error}")
        return 2
    for section in _sections():
        if section.name in given.sections:
            _run(section, bench, given)
    bench.clear()
    bench.findings.settings["seconds in all"] = round(time.perf_counter() - STARTED, 1)
    predicted = predicted_rows(bench)
    if bench.on_card:
        bench.findings.add("predictions", "What was predicted for an H100 or H200", predicted)
    bench.findings.judge(_targets(bench))
    errors = bench.findings.tables.get("errors", [])
    if errors:
        bench.findings.add("errors", "What went wrong", errors)
    return 1 if errors else 0


STARTED = time.perf_counter()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    names = [section.name for section in _sections()]
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file, as it comes")
    parser.add_argument("--carry", type=Path, metavar="FOLDER", help="what --pack made, where ComfyUI is not installed")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="fill a folder for --carry, and stop")
    parser.add_argument("--pack-python", default="3.12", metavar="X.Y", help="Python of the machine that is measured")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--sections", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--limit", type=float, default=480.0, help="seconds after which no section begins; 480")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="head labels as CSV; default: random, seeded")
    parser.add_argument("--layers", type=int, help="30; on a CPU 3")
    parser.add_argument("--heads", type=int, help="12; on a CPU 4")
    parser.add_argument("--width", type=int, help="832; on a CPU 208")
    parser.add_argument("--height", type=int, help="480; on a CPU 128")
    parser.add_argument("--chunk", type=int, default=40, help="where policies are compared: 40")
    parser.add_argument("--late-chunk", type=int, help="where length ends: 800; on a CPU 120")
    parser.add_argument("--rounds", type=int, help="that are timed: 10; on a CPU 3")
    parser.add_argument("--compiled-layers", type=int, help="of the model that is compiled: 4; on a CPU 1")
    parser.add_argument(
        "--dtype", choices=("host", "bf16", "fp16"), default="host", help="of the model; host: it picks"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="that PyTorch uses")
    parser.add_argument(DYNAMIC, action="store_true", help="the host pages weights as it does on NVIDIA by default")
    return parser.parse_args()


def _sections() -> list[Section]:
    """In the order in which they run: what matters most first, what may take long or break last."""
    from benchmarks.card import ceilings, compiled, correctness, decoding, memory, memory_pass, speed, variants, waiting

    return [
        Section("arithmetic", 20, _arithmetic),
        Section("machine", 120, ceilings.describe_machine),
        Section("ceilings", 60, ceilings.measure_ceilings),
        Section("correctness", 90, correctness.compare_with_reference),
        Section("speed", 180, speed.measure_speed),
        Section("parts", 60, speed.measure_parts),
        Section("variants", 60, variants.compare_variants),
        Section("waits", 30, waiting.count_waits),
        Section("kernels", 60, waiting.profile_kernels),
        Section("pass", 60, memory_pass.compare_memory_pass),
        Section("decoding", 60, decoding.measure_decoding),
        Section("memory", 90, memory.measure_memory),
        Section("length", 90, speed.measure_length),
        Section("own", 90, speed.measure_own_sampler),
        Section("compiled", 300, compiled.compare_compiled),
    ]


def _device(asked: str) -> torch.device:
    if asked == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"PyTorch {torch.__version__} sees no CUDA device. There is nothing to measure. Look at nvidia-smi, or run "
            "with --device cpu for ratios."
        )
    name = "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def _workbench(given: argparse.Namespace, device: torch.device) -> "Workbench":
    host = _enter_host(given, device)
    from benchmarks.card.arithmetic import Task
    from benchmarks.card.workbench import Findings, Workbench
    from benchmarks.shared.host_process import TEXT_DIM, model_shape
    from benchmarks.shared.stage import Size

    card = device.type == "cuda"
    size = Size(given.width or (832 if card else 208), given.height or (480 if card else 128))
    labels = labels_from(given.labels, given.layers or (30 if card else 3), given.heads or (12 if card else 4))
    shape = model_shape(len(labels), len(labels[0]))
    text_tokens, text_dim = (TEXT_TOKENS, REAL_TEXT_DIM) if card else (TOY_TEXT_TOKENS, TEXT_DIM)
    settings: dict[str, Cell] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": str(device),
        "what figures mean": "seconds" if card else "cpu, ratios only",
        "picture": str(size),
        "tokens a frame": size.tokens,
        "layers": shape.layers,
        "heads": shape.heads,
        "dim": shape.dim,
        "ffn": shape.ffn_dim,
        "text": f"{text_tokens} x {text_dim}",
        "labels": counted(labels),
        "dtype asked for": given.dtype,
        "dynamic VRAM": str(given.dynamic_vram),
    }
    say(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return Workbench(
        host,
        device,
        labels,
        size,
        Task(shape, labels, size.tokens, text_tokens, text_dim),
        given.chunk,
        given.late_chunk or (800 if card else 120),
        given.rounds or (10 if card else 3),
        given.compiled_layers or (4 if card else 1),
        Findings(given.json, settings),
    )


def _enter_host(given: argparse.Namespace, device: torch.device) -> ModuleType:
    from benchmarks.shared.host_process import enter_host

    logging.basicConfig(level=logging.WARNING)
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.bf16_unet, comfy.cli_args.args.fp16_unet = given.dtype == "bf16", given.dtype == "fp16"
    host = enter_host(given.threads, "pytorch", device.type)
    if given.dynamic_vram:
        page_weights(device)
    return host


def _run(section: Section, bench: "Workbench", given: argparse.Namespace) -> None:
    """Run a section within its time; what goes wrong becomes a row of the table of errors."""
    left = given.limit - (time.perf_counter() - STARTED)
    say(f"\n{section.name}: {left:.0f} of {given.limit:.0f} s left")
    started = time.perf_counter()
    error: Row | None = None
    if left < LEAST_SECONDS:
        error = {"section": section.name, "error": f"not begun: {given.limit:g} s are over"}
    else:
        try:
            with at_most(min(section.seconds, left)):
                section.run(bench)
        except TimeIsUp as problem:
            error = {"section": section.name, "error": str(problem)}
        except Exception as problem:
            traceback.print_exc(limit=-SHOWN_CALLS)
            said = f"{type(problem).__name__}: {problem}".splitlines()[0]
            error = {"section": section.name, "error": said[:300]}
    bench.findings.settings[f"seconds, {section.name}"] = round(time.perf_counter() - started, 1)
    if error is not None:
        bench.clear()  # a rollout that was stopped inside a chunk cannot go on
        bench.findings.tables.setdefault("errors", []).append(error)
        say(f"{section.name}: {error['error']}")
    bench.findings.targets = _targets(bench)
    bench.findings.write()


def _arithmetic(bench: "Workbench") -> None:
    from benchmarks.card.arithmetic import Task, arithmetic_rows
    from benchmarks.card.workbench import POLICIES
    from benchmarks.shared.host_process import model_shape

    full_labels = labels_from(None, 30, 12)
    full = Task(model_shape(30, 12), full_labels, 1560, TEXT_TOKENS, REAL_TEXT_DIM)
    title = f"Arithmetic of one pass: 1.3B, 832x480, 2 bytes a number, {counted(full_labels)}"
    bench.findings.add("arithmetic", title, arithmetic_rows(full, POLICIES, 2))


def _targets(bench: "Workbench") -> list[Target]:
    """What was aimed at, as far as it was measured. A toy on a CPU says nothing of most of it."""
    figures = bench.findings.figures
    paper, bound = figures.get("seconds, paper"), bench.bound(bench.task.work("paper"))
    exact = 1e-2 if bench.on_card else 1e-4
    mark = f"chunk {figures.get('length, chunk', 0):.0f}"
    found: list[tuple[str, float | None, float | None, float | None]] = [
        ("attention of a chunk, worst relative error", figures.get("worst error"), None, exact),
        (f"{mark} over the first with a full bank, seconds", figures.get("length"), 0.97, 1.03),
    ]
    if bench.on_card:
        peaks = {policy: figures.get(f"peak, {policy}") for policy in ("paper", "low_vram")}
        kv = figures.get("KV, paper")
        found += [
            ("paper over uniform_21, pixel frames a second", figures.get("uniform_21 over paper"), 1.30, None),
            (
                "share of the bound by this run's ceilings, paper",
                bound / paper if bound and paper else None,
                0.75,
                None,
            ),
            ("outside matrix products and attention, paper", figures.get("outside, paper"), None, 0.10),
            ("pixel frames a second, diffusion, paper", 12 / paper if paper else None, 30.0, None),
            ("history KV of paper, GB", kv / GIGA if kv else None, 2.85, 2.95),
            *(
                (f"peak of {policy} with the VAE, GB", peak / GIGA if peak else None, None, most)
                for (policy, peak), most in zip(peaks.items(), (16.0, 12.0), strict=True)
            ),
        ]
    return [Target(name, figure, least, most) for name, figure, least, most in found if figure is not None]


if __name__ == "__main__":
    sys.exit(main())
