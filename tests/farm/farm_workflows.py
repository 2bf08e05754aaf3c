"""A small film as a workflow, its nodes with titles, and tables of jobs as files."""

import json
from pathlib import Path

from headforcing_core.farm.job_table import Job, read_jobs
from headforcing_core.farm.workflow_file import Workflow, read_workflow

SIZE = {"width": 64, "height": 64}
NAMES = {
    "1": ("HeadForcingLoadARModel", "Load AR Model", {"model_name": "self_forcing_dmd.safetensors"}),
    "2": ("HeadForcingTestLoadUMT5", "Load UMT5", {"clip_name": "tiny_umt5.safetensors"}),
    "3": ("HeadForcingPromptSchedule", "Prompts", {"clip": ["2", 0], "text": "a red fox in deep snow"}),
    "4": ("HeadForcingCachePolicy", "Policy", {"preset": "uniform"}),
    "5": ("VAELoader", "Load VAE", {"vae_name": "wan_2.1_vae.safetensors"}),
    "6": (
        "HeadForcingSampler",
        "Sampler v1.0",
        {
            **{"model": ["1", 0], "schedule": ["3", 0], "policy": ["4", 0], "vae": ["5", 0]},
            **{"seconds": 3.5, "seed": 1, "run_name": "", "on_existing_run": "new", **SIZE},
        },
    ),
    "7": ("SaveVideo", "Save", {"video": ["6", 1], "filename_prefix": "films/fox", "format": "auto", "codec": "auto"}),
    "8": ("HeadForcingTestSwitch", "Save", {"on": True, "nothing": None, "list": [1, 2, 3]}),
}


def film(*nodes: str, **inputs: object) -> dict[str, dict[str, object]]:
    """The film of these nodes, 1 to 7 if none are named; `inputs` are the sampler's."""
    made: dict[str, dict[str, object]] = {
        key: {"class_type": kind, "inputs": dict(given), "_meta": {"title": title}}
        for key, (kind, title, given) in NAMES.items()
        if key in (nodes or "1234567")
    }
    if "6" in made:
        made["6"]["inputs"] = {**NAMES["6"][2], **inputs}
    return made


def written(folder: Path, workflow: object) -> Workflow:
    """A workflow that went through its file."""
    path = folder / "workflow.json"
    path.write_text(json.dumps(workflow), encoding="utf-8")
    return read_workflow(path)


def jobs_of(folder: Path, table: str | list[object] | dict[str, object], workflow: object = None) -> list[Job]:
    """The jobs of a table, a text in CSV or values in JSON, through its file."""
    path = folder / ("jobs.csv" if isinstance(table, str) else "jobs.json")
    path.write_text(table if isinstance(table, str) else json.dumps(table), encoding="utf-8")
    return read_jobs(written(folder, film(*"12345678") if workflow is None else workflow), path)
