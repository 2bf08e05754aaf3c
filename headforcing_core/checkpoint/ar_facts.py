"""What is known of an AR model: its family, and what of that was chosen otherwise."""

from dataclasses import dataclass

from ..families.family import Family
from ..families.table import FAMILIES, Channels, family_by_name, fitting_families, usual_family
from .saved_choice import SavedChoice

AUTO = "auto"


@dataclass(frozen=True)
class ARFacts:
    """What is known of an AR model. `ar_trained` is false when nothing says that the weights are AR-trained.

    `fingerprint` names the weights: `weights:` and a SHA-256 over all of them, or `shapes:` when only names and shapes
    were at hand; `older_fingerprints` are what older versions gave for the same model. `family_guessed` is true where
    the usual one of its channels was taken, for want of a name.
    """

    family: str
    chunk_frames: int
    fingerprint: str
    ar_trained: bool
    older_fingerprints: tuple[str, ...] = ()
    family_guessed: bool = False

    @property
    def record(self) -> Family:
        """What its family was trained for."""
        return FAMILIES[self.family]

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise levels of every chunk but, for some families, the first."""
        return self.record.steps.sigmas

    @property
    def trained_frames(self) -> int:
        """Frames of the trained range."""
        return self.record.trained_frames

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Every name of the weights, today's first."""
        return (self.fingerprint, *self.older_fingerprints)


def facts_for(
    file_name: str,
    family: str,
    chunk_frames: int,
    fingerprint: str,
    saved: SavedChoice | None = None,
    channels: Channels | None = None,
) -> tuple[ARFacts, str]:
    """AR facts of a checkpoint and one sentence on how they were found. `chunk_frames` 0 takes the family's own;
    `saved` is what was chosen where the file comes from; `channels` are those of the file, None before it is read.

    ValueError for an unknown family, one that has other channels, or a chunk that does not fit the trained range.
    """
    guessed = False
    if family == AUTO:
        by_workflow = _family_of(saved, channels) if saved else ""
        if saved and by_workflow:
            chunk_frames = chunk_frames or saved.chunk_frames
        family = by_workflow or family_by_name(file_name, channels)
        source = "workflow that the file was saved with" if by_workflow else "file name"
        told = f"Family {family}, told by the {source}."
        if not family:
            guessed = True
            family = usual_family(channels)
            told = (
                f"Family {family}: neither file name nor layout tells, so the usual one was taken. "
                "Choose the family if the picture falls apart."
            )
    else:
        told = f"Family {family}, as chosen."
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}. Known families are {', '.join(FAMILIES)}. Choose one of them or auto.")
    record = FAMILIES[family]
    if channels is not None and not channels.fit(record):
        raise ValueError(
            f"family is {family}, whose models take {record.in_channels} channels and make {record.space.channels}, "
            f"but this file takes {channels.given} and makes {channels.made}. Choose auto, or one of "
            f"{', '.join(fitting_families(channels))}."
        )
    chunk = chunk_frames or record.chunk_frames
    if not 1 <= chunk <= record.most_chunk_frames:
        ahead = record.ahead(chunk)
        beside = f", the {ahead} frames of noise behind it" if ahead else ""
        raise ValueError(
            f"chunk_frames is {chunk}. A chunk{beside} and its history share the {record.trained_frames} frames that "
            f"the model was trained on. Use 1 to {record.most_chunk_frames}; {family} uses {record.chunk_frames}."
        )
    return ARFacts(family, chunk, fingerprint, ar_trained=True, family_guessed=guessed), told


def assumed_facts(
    fingerprint: str, older_fingerprints: tuple[str, ...] = (), channels: Channels | None = None
) -> ARFacts:
    """Facts taken for a model that Load AR Model did not mark: the usual family of its channels, and no knowledge of
    its training."""
    family = usual_family(channels)
    return ARFacts(family, FAMILIES[family].chunk_frames, fingerprint, False, older_fingerprints, family_guessed=True)


def _family_of(saved: SavedChoice, channels: Channels | None) -> str:
    chosen = saved.family if saved.family in fitting_families(channels) else ""
    return chosen or family_by_name(saved.model_name, channels)
