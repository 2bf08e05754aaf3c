"""Where head profiles are kept: plain names in the folder `head_profiles` of the host's models folder, and in folders
that extra_model_paths.yaml names beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import folder_paths
from safetensors import SafetensorError

from ...headforcing_core.checkpoint.ar_facts import ARFacts
from ...headforcing_core.files.disk_room import reason_of
from ...headforcing_core.files.plain_names import LONGEST_NAME, check_plain_name
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.profile_file import load_profile, save_profile
from ...headforcing_core.heads.rules import LabelRule

_FOLDER = "head_profiles"
_SUFFIX = ".safetensors"
USUAL_RULE = LabelRule()

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A saved profile and the name of its file, None if there is none that is wanted; `notes` are sentences for the
    report on files that were passed over."""

    name: str
    profile: HeadProfile | None
    notes: tuple[str, ...]


def register_folder() -> None:
    """Tell the host where profiles are. Folders that it knows by now are from extra_model_paths.yaml; they come after
    our own, into which profiles are saved."""
    own = str(Path(folder_paths.models_dir) / _FOLDER)
    known, _ = folder_paths.folder_names_and_paths.get(_FOLDER, ([], set()))
    folder_paths.folder_names_and_paths[_FOLDER] = ([own, *(each for each in known if each != own)], {_SUFFIX})


register_folder()


def profile_names() -> list[str]:
    """Names of the saved profiles."""
    return folder_paths.get_filename_list(_FOLDER)


def profile_stamp(name: str) -> str:
    """A text that changes when the file of a saved profile does."""
    try:
        stat = _path_of(name).stat()
    except OSError:
        return name
    return f"{name} {stat.st_mtime_ns} {stat.st_size}"


def read_profile(name: str) -> HeadProfile:
    """A saved profile by its name in the list. RuntimeError when it is missing or cannot be read."""
    try:
        path = _path_of(name)
    except FileNotFoundError as error:
        raise RuntimeError(
            f"There is no head profile {name[:LONGEST_NAME]!r} in models/{_FOLDER}: {error}. Run Profile Heads with "
            "save_as set, or put the file there and refresh."
        ) from error
    return load_profile(path)


def store_profile(profile: HeadProfile, name: str) -> Path:
    """Save a profile under a plain name. ValueError for any other name, RuntimeError when the disk does not let it."""
    folder = Path(folder_paths.get_folder_paths(_FOLDER)[0])
    path = folder / profile_file(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_profile(profile, path)
    except (OSError, SafetensorError) as error:
        raise RuntimeError(
            f"The profile could not be saved as {path.name} in {folder} ({reason_of(error)}). It is used now and lost "
            "afterwards. Check that folder and the room on its disk, and run again."
        ) from error
    return path


def profile_file(name: str) -> str:
    """File of a profile that is saved under a plain name. ValueError for any other name."""
    return check_plain_name("save_as", name).removesuffix(_SUFFIX) + _SUFFIX


def newest_profile(is_wanted: Callable[[HeadProfile], bool]) -> Found:
    """The newest saved profile that is wanted; files that cannot be read are passed over."""
    notes: list[str] = []

    def pass_over(name: str, error: Exception) -> None:
        notes.append(f"The saved profile {name} was passed over: {reason_of(error)}.")
        log.warning("Head forcing: %s", notes[-1])

    files: list[tuple[int, Path]] = []
    for name in profile_names():
        try:
            path = _path_of(name)
            files.append((path.stat().st_mtime_ns, path))
        except OSError as error:
            pass_over(name, error)
    for _, path in sorted(files, key=lambda file: file[0], reverse=True):
        try:
            profile = load_profile(path)
        except RuntimeError as error:
            pass_over(path.name, error)
            continue
        if is_wanted(profile):
            return Found(path.name, profile, tuple(notes))
    return Found("", None, tuple(notes))


def known_profile(facts: ARFacts, layers: int, heads: int) -> tuple[HeadProfile | None, tuple[str, ...]]:
    """The newest saved profile of this checkpoint, if there is one, and sentences for the report."""
    found = newest_profile(lambda saved: saved.fingerprint in facts.fingerprints and saved.rule.rule == USUAL_RULE.rule)
    if found.profile is None:
        return None, found.notes
    found.profile.check_fits(layers, heads, facts.fingerprints)
    return found.profile, (*found.notes, f"Heads from the saved profile {found.name}.")


def with_recall_of_saved(profile: HeadProfile) -> HeadProfile:
    """A profile that was just measured with what a saved one says of the same checkpoint about recall, which is not
    measured along with the heads."""

    def says(saved: HeadProfile) -> bool:
        told = (saved.recall_layers, saved.recall_share)
        return saved.fingerprint == profile.fingerprint and saved.layers == profile.layers and told != (None, None)

    saved = newest_profile(says).profile
    if saved is None:
        return profile
    return replace(profile, recall_layers=saved.recall_layers, recall_share=saved.recall_share)


def _path_of(name: str) -> Path:
    path = folder_paths.get_full_path(_FOLDER, name) if name in profile_names() else None
    if path is None:
        raise FileNotFoundError("the file has gone, or is a link that leads nowhere")
    return Path(path)
