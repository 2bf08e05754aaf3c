"""What timeline.png says of the video beside it: one that was changed, or has another sound, is not taken for it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_TEXTS = ("video sha256", "sound sha256")  # in the PNG


class VideoMark(NamedTuple):
    """SHA-256 of a video's file, None of one that is not whole, and of its sound, None without."""

    video: str | None
    sound: str | None

    @classmethod
    def of(cls, timeline: Image.Image) -> VideoMark:
        """What stands in a timeline that was read."""
        return cls(*(timeline.info.get(text) for text in _TEXTS))

    def put_into(self, timeline: Image.Image) -> bytes:
        """The timeline as a PNG that says it."""
        data, beside = io.BytesIO(), PngInfo()
        for text, value in zip(_TEXTS, self, strict=True):
            if value is not None:
                beside.add_text(text, value)
        timeline.save(data, "PNG", pnginfo=beside)
        return data.getvalue()

    def is_of(self, path: Path) -> bool:
        """Whether a file is the video; one that cannot be read is not, and is made again."""
        try:
            return self.video is not None and path.exists() and self.video == file_sha256(path)
        except OSError:
            return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
