"""Where head profiles are kept: plain names in the folder `head_profiles` of the host's models folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...headforcing_core.checkpoint.families import ARFacts
from ...headforcing_core.files.plain_names import LONGEST_NAME, check_plain_name
from ...headforcing_core.heads.profile import HeadProfile
from ...headforcing_core.heads.profile_file import load_profile, save_profile
from ...headforcing_core.heads.rules import LabelRule

_FOLDER = "head_profiles"
_SUFFIX = ".safetensors"
USUAL_RULE = LabelRule()

folder_paths.folder_names_and_paths.setdefault(_FOLDER, ([str(Path(folder_paths.models_dir) / _FOLDER)], {_SUFFIX}))


def profile_names() -> list[str]:
    """Names of the saved profiles."""
    return folder_paths.get_filename_list(_FOLDER)


def profile_stamp(name: str) -> str:
    """A text that changes when the file of a saved profile does."""
    path = folder_paths.get_full_path(_FOLDER, name) if name in profile_names() else None
    stat = Path(path).stat() if path else None
    return f"{name} {stat.st_mtime_ns} {stat.st_size}" if stat else name


def read_profile(name: str) -> HeadProfile:
    """A saved profile by its name in the list. RuntimeError when it is missing or cannot be read."""
    if name not in profile_names():
        raise RuntimeError(
            f"There is no head profile {name[:LONGEST_NAME]!r} in models/{_FOLDER}. Run Profile Heads with "
            "save_as set, or put the file there and refresh."
        )
    return load_profile(Path(folder_paths.get_full_path_or_raise(_FOLDER, name)))


def store_profile(profile: HeadProfile, name: str) -> Path:
    """Save a profile under a plain name. ValueError for any other name."""
    folder = Path(folder_paths.get_folder_paths(_FOLDER)[0])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / profile_file(name)
    save_profile(profile, path)
    return path


def profile_file(name: str) -> str:
    """File of a profile that is saved under a plain name. ValueError for any other name."""
    return check_plain_name("save_as", name).removesuffix(_SUFFIX) + _SUFFIX


def newest_profile(is_wanted: Callable[[HeadProfile], bool]) -> tuple[str, HeadProfile] | None:
    """The newest saved profile that is wanted; files that cannot be read are passed over."""
    paths = [Path(folder_paths.get_full_path_or_raise(_FOLDER, name)) for name in profile_names()]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            profile = load_profile(path)
        except RuntimeError:
            continue
        if is_wanted(profile):
            return path.name, profile
    return None


def known_profile(facts: ARFacts, layers: int, heads: int) -> tuple[HeadProfile | None, tuple[str, ...]]:
    """The newest saved profile of this checkpoint, if there is one, and sentences for the report."""
    found = newest_profile(lambda saved: saved.fingerprint in facts.fingerprints and saved.rule.rule == USUAL_RULE.rule)
    if found is None:
        return None, ()
    name, profile = found
    profile.check_fits(layers, heads, facts.fingerprints)
    return profile, (f"Heads from the saved profile {name}.",)
