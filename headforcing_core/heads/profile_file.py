"""A head profile in and out of one file."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files.safe_files import temporary_of
from .profile import HeadProfile
from .rules import LabelRule

FORMAT = "headforcing.profile/1"


def save_profile(profile: HeadProfile, path: Path) -> None:
    """Write a profile as safetensors with JSON metadata; whole or not at all."""
    described = {
        "format": FORMAT,
        "fingerprint": profile.fingerprint,
        "protocol": profile.protocol,
        "rule": json.dumps(asdict(profile.rule)),
        "labels": json.dumps(profile.labels),
        "reliability": json.dumps(profile.reliability),
        "sink_frames": str(profile.sink_frames),
        "attention": json.dumps(profile.attention),
    }
    if profile.recall_layers is not None:
        described["recall_layers"] = json.dumps(profile.recall_layers)
    if profile.recall_share is not None:
        described["recall_share"] = json.dumps(profile.recall_share)
    tensors = {} if profile.masses is None else {"masses": profile.masses.contiguous()}
    temporary = temporary_of(path)
    try:
        save_file(tensors, temporary, metadata=described)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_profile(path: Path) -> HeadProfile:
    """Read a profile. RuntimeError for a file that is not one, is damaged, or is of a newer format."""
    try:
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            masses = file.get_tensor("masses").to(torch.float32) if "masses" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RuntimeError(
            f"{path.name} cannot be read as a head profile ({error}). The file is damaged or of another "
            "kind. Profile the model again."
        ) from error
    if described.get("format") != FORMAT:
        raise RuntimeError(
            f"{path.name} has format {described.get('format')!r}, this version reads {FORMAT!r}. It is no "
            "head profile or was saved by a newer version. Update the pack or profile the model again."
        )
    try:
        rule, recall_layers = json.loads(described["rule"]), json.loads(described.get("recall_layers", "null"))
        return HeadProfile(
            fingerprint=described["fingerprint"],
            protocol=described["protocol"],
            rule=LabelRule(**{**rule, "protect_layers": tuple(rule["protect_layers"])}),
            labels=tuple(tuple(map(str, row)) for row in json.loads(described["labels"])),
            masses=masses,
            reliability={str(name): float(value) for name, value in json.loads(described["reliability"]).items()},
            sink_frames=int(described["sink_frames"]),
            attention=tuple(map(str, json.loads(described.get("attention", "[]")))),
            recall_layers=None if recall_layers is None else tuple(recall_layers),
            recall_share=json.loads(described.get("recall_share", "null")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise RuntimeError(
            f"{path.name} is a damaged head profile ({error}). Its description cannot be read. Profile the model again."
        ) from error
