"""What keeps a card from its work: places where the host waits for it inside a chunk, and time without a kernel."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.card.workbench import NEEDS_CUDA, Workbench
from benchmarks.shared.host_process import REPOSITORY
from benchmarks.shared.stopwatch import take
from benchmarks.shared.tables import Row

POLICY = "paper"
MOST_KERNELS = 15
MOST_NAME = 70
WARNED = "called a synchronizing"
NOISE = "rollout/noise.py"


def count_waits(bench: Workbench) -> None:
    """Table: every line that made the processor wait for the card in one chunk, as PyTorch warns of it, and how many of
    them are of the pack and of ComfyUI."""
    title = "Where the processor waits for the card in one chunk"
    if not bench.on_card:
        bench.findings.add("waits", title, [{"place": NEEDS_CUDA, "whose": "", "waits": None}])
        return
    with bench.stage.open(), warnings.catch_warnings(record=True) as caught:
        rolling = bench.at(POLICY, bench.chunk)
        torch.cuda.synchronize()
        warnings.simplefilter("always")
        caught.clear()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            rolling.next()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = Counter(_place(warning) for warning in caught if WARNED in str(warning.message))
    whole = sum(found.values())
    for_noise = sum(count for (place, _), count in found.items() if place.startswith(NOISE))
    bench.findings.figures |= {"waits": whole, "waits for noise": for_noise, "waits for others": whole - for_noise}
    rows: list[Row] = [
        {"place": place, "whose": owner, "waits": count} for (place, owner), count in found.most_common()
    ]
    owners = Counter[str]()
    for (_, owner), count in found.items():
        owners[owner] += count
    rows += [{"place": "all", "whose": owner, "waits": count} for owner, count in owners.most_common()]
    bench.findings.add("waits", title, [*rows, {"place": "all", "whose": "all", "waits": whole}])


def profile_kernels(bench: Workbench) -> None:
    """Table: the kernels of one chunk by time, and how much of it the card was at work."""
    title = "Kernels of one chunk"
    if not bench.on_card:
        bench.findings.add("kernels", title, [{"kernel": NEEDS_CUDA, "calls": None, "seconds": None, "share": None}])
        return
    with bench.stage.open():
        rolling = bench.at(POLICY, bench.chunk)
        rolling.next()
        rows, busy = kernel_rows(rolling.next, MOST_KERNELS)
    bench.findings.figures["busy"] = busy
    bench.findings.add("kernels", title, rows)


def kernel_rows(run: Callable[[], object], most: int) -> tuple[list[Row], float]:
    """The kernels of one call by time, the last row all of them together, and the share of its seconds, when nothing is
    profiled, in which the card was at work."""
    from torch.profiler import ProfilerActivity, profile

    alone = take(run).clock
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
    times = {
        event.key: (event.count, event.self_device_time_total / 1e6)
        for event in profiled.key_averages()
        if event.self_device_time_total
    }
    busy = sum(seconds for _, seconds in times.values())
    longest = sorted(times.items(), key=lambda item: -item[1][1])[:most]
    rows: list[Row] = [
        {"kernel": name[:MOST_NAME], "calls": count, "seconds": seconds, "share": seconds / alone}
        for name, (count, seconds) in longest
    ]
    whole = f"all kernels and copies, of the {alone:.3f} s of one that is not profiled"
    calls = sum(count for count, _ in times.values())
    rows.append({"kernel": whole, "calls": calls, "seconds": busy, "share": busy / alone})
    return rows, busy / alone


def _place(warning: warnings.WarningMessage) -> tuple[str, str]:
    """The line, and whose it is."""
    file = Path(warning.filename).resolve()
    folders = {"pack": REPOSITORY, "ComfyUI": Path(os.environ["COMFYUI_PATH"]).resolve()}
    owner = next((owner for owner, folder in folders.items() if file.is_relative_to(folder)), "others")
    return f"{file.parent.name}/{file.name}:{warning.lineno}", owner
