"""What each family of autoregressive Wan 2.1 checkpoints was trained for: chunk and steps (method.md section 2)."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..geometry import TRAINED_FRAMES
from .saved_choice import SavedChoice

AUTO = "auto"
MOST_STEPS = 63  # noise of a chunk is numbered up to 64


@dataclass(frozen=True)
class Family:
    """What a family of checkpoints was trained for: frames a chunk and noise levels, down to 0."""

    chunk_frames: int
    sigmas: tuple[float, ...]


FOUR_STEPS = (1.0, 0.9375, 0.8333333134651184, 0.625, 0.0)  # 1000, 750, 500, 250 warped by shift 5
FAMILIES: Mapping[str, Family] = {
    "self_forcing": Family(3, FOUR_STEPS),
    "causal_forcing": Family(3, FOUR_STEPS),
    "causal_forcing_framewise": Family(1, FOUR_STEPS),
    "longlive": Family(3, FOUR_STEPS),
    "reward_forcing": Family(3, FOUR_STEPS),
    "krea_realtime": Family(3, (1.0, 0.937, 0.833, 0.625, 0.0)),
    "custom": Family(3, FOUR_STEPS),
}
# Told by file name; the first pattern that occurs wins, so the more special ones come first.
_NAME_PATTERNS = (
    ("framewise", "causal_forcing_framewise"),
    ("causal_forcing", "causal_forcing"),
    ("causalforcing", "causal_forcing"),
    ("longlive", "longlive"),
    ("reward", "reward_forcing"),
    ("krea", "krea_realtime"),
    ("self_forcing", "self_forcing"),
    ("selfforcing", "self_forcing"),
)


@dataclass(frozen=True)
class ARFacts:
    """What is known of an AR model. `ar_trained` is false when nothing says that the weights are AR-trained.

    `fingerprint` names the weights: `weights:` and a SHA-256 over all of them, or `shapes:` when only names and shapes
    were at hand; `older_fingerprints` are what older versions gave for the same model.
    """

    family: str
    chunk_frames: int
    sigmas: tuple[float, ...]
    trained_frames: int
    fingerprint: str
    ar_trained: bool
    older_fingerprints: tuple[str, ...] = ()

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Every name of the weights, today's first."""
        return (self.fingerprint, *self.older_fingerprints)


def facts_for(
    file_name: str, family: str, chunk_frames: int, fingerprint: str, saved: SavedChoice | None = None
) -> tuple[ARFacts, str]:
    """AR facts of a checkpoint and one sentence on how they were found. `chunk_frames` 0 takes the family's own;
    `saved` is what was chosen where the file comes from.

    ValueError for an unknown family or a chunk that does not fit the trained range.
    """
    if family == AUTO:
        by_workflow = _family_of(saved) if saved else ""
        if saved and by_workflow:
            chunk_frames = chunk_frames or saved.chunk_frames
        family = by_workflow or _family_by_name(file_name)
        told = (
            f"Family {family}, told by the {'workflow that the file was saved with' if by_workflow else 'file name'}."
            if family
            else (
                "Family self_forcing: neither file name nor layout tells, so the usual one was taken. "
                "Choose the family if the picture falls apart."
            )
        )
        family = family or "self_forcing"
    else:
        told = f"Family {family}, as chosen."
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}. Known families are {', '.join(FAMILIES)}. Choose one of them or auto.")
    chunk = chunk_frames or FAMILIES[family].chunk_frames
    if not 1 <= chunk < TRAINED_FRAMES:
        raise ValueError(
            f"chunk_frames is {chunk}. A chunk and its history share the {TRAINED_FRAMES} frames that the "
            f"model was trained on. Use 1 to {TRAINED_FRAMES - 1}; Self-Forcing uses 3."
        )
    return ARFacts(family, chunk, FAMILIES[family].sigmas, TRAINED_FRAMES, fingerprint, ar_trained=True), told


def assumed_facts(fingerprint: str, older_fingerprints: tuple[str, ...] = ()) -> ARFacts:
    """Facts taken for a model that Load AR Model did not mark: self_forcing, and no knowledge of its training."""
    family = FAMILIES["self_forcing"]
    return ARFacts(
        "self_forcing", family.chunk_frames, family.sigmas, TRAINED_FRAMES, fingerprint, False, older_fingerprints
    )


def _family_by_name(file_name: str) -> str:
    name = file_name.lower().replace("-", "_")
    return next((known for pattern, known in _NAME_PATTERNS if pattern in name), "")


def _family_of(saved: SavedChoice) -> str:
    return saved.family if saved.family in FAMILIES else _family_by_name(saved.model_name)


def check_sigmas(sigmas: tuple[float, ...]) -> None:
    """ValueError unless the noise levels fall strictly from at most 1 to exactly 0."""
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if not 2 <= len(sigmas) <= MOST_STEPS + 1 or sigmas[-1] != 0 or not falling or not 0 < sigmas[0] <= 1:
        shown = ", ".join(f"{sigma:g}" for sigma in sigmas[:8])
        raise ValueError(
            f"sigmas are ({shown}). Every chunk is denoised along them, so they must fall from at most 1 "
            f"to exactly 0, in up to {MOST_STEPS} steps. Use Basic Scheduler (simple, 4 steps, denoise 1), or leave "
            "sigmas unconnected."
        )
