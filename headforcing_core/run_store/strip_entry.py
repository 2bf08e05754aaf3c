"""One chunk on the film strip: what memory heads read for it, whether something was picked, and a small picture; a line
of `strip.jsonl` (docs/files.md)."""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ..files.strict_json import Fields, Json, integer, items, parse_json
from ..geometry import MOST_FPS, pixel_frames_of
from .record import MOST_CHUNKS

FORMAT = "headforcing.strip/1"
MOST_PICTURE = 3000  # bytes
MOST_LINE = 8192
BEFORE = -1
"""What stands for all that was there before chunk 0."""
_JPEG = b"\xff\xd8\xff"
_MOST_FRAMES = 2**31


@dataclass(frozen=True)
class StripEntry:
    """A chunk. `reads` are the first and the last of each stretch of chunks that memory heads read for it, BEFORE
    among them; `picture` is a JPEG of at most MOST_PICTURE bytes, or empty."""

    chunk: int
    reads: tuple[tuple[int, int], ...]
    picked: bool
    picture: bytes = b""


@dataclass(frozen=True)
class StripHeader:
    """What is the same for all chunks of a strip: how many the video is to have, pictures a second, frames a chunk,
    frames before chunk 0, and pictures of the whole video."""

    chunks: int
    fps: float
    chunk_frames: int
    prefix_frames: int
    pixel_frames: int

    def pixel_frames_before(self, chunk: int) -> int:
        """Pictures of the video before a chunk, those of the prefix included."""
        frames = self.prefix_frames + chunk * self.chunk_frames
        return pixel_frames_of(frames) if frames else 0

    def pixel_frames_of(self, chunks: int) -> int:
        """Pictures of the video once so many chunks are made."""
        return min(self.pixel_frames_before(chunks), self.pixel_frames)

    def second(self, chunk: int) -> float:
        """Second of the video, the prefix included, at which a chunk begins."""
        return round(self.pixel_frames_before(chunk) / self.fps, 4)

    def chunks_of(self, frames: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """The first and the last of each stretch of chunks that these frames are of."""
        stretches: list[tuple[int, int]] = []
        for number in sorted({max(BEFORE, (frame - self.prefix_frames) // self.chunk_frames) for frame in frames}):
            if stretches and stretches[-1][1] == number - 1:
                stretches[-1] = (stretches[-1][0], number)
            else:
                stretches.append((number, number))
        return tuple(stretches)


def dump_header(header: StripHeader) -> bytes:
    """The first line of a file."""
    return _line({"format": FORMAT, **asdict(header)})


def parse_header(line: bytes) -> StripHeader:
    """The header in the first line of a file. ValueError, in a few words, for any other."""
    fields = Fields.of(parse_json(line), "line 1", ("format", *StripHeader.__dataclass_fields__))
    fields.choice("format", (FORMAT,))
    return StripHeader(
        fields.integer("chunks", 1, MOST_CHUNKS),
        fields.number("fps", 1e-3, MOST_FPS),
        fields.integer("chunk_frames", 1, _MOST_FRAMES),
        fields.integer("prefix_frames", 0, _MOST_FRAMES),
        fields.integer("pixel_frames", 0, _MOST_FRAMES),
    )


def dump_entry(entry: StripEntry) -> bytes:
    """The line of a chunk. ValueError for one that could not be read again."""
    line = _line(told_entry(entry))
    parse_entry(line)
    return line


def told_entry(entry: StripEntry) -> dict[str, Json]:
    """A chunk as JSON."""
    return {
        "chunk": entry.chunk,
        "reads": [[first, last] for first, last in entry.reads],
        "picked": entry.picked,
        "picture": base64.b64encode(entry.picture).decode("ascii"),
    }


def parse_entry(line: bytes) -> StripEntry:
    """The chunk in a line. ValueError, in a few words, for any other."""
    if len(line) > MOST_LINE:
        raise ValueError(f"it has {len(line)} bytes, more than {MOST_LINE}")
    fields = Fields.of(parse_json(line), "it", ("chunk", "reads", "picked", "picture"))
    chunk = fields.integer("chunk", 0, MOST_CHUNKS)
    reads: list[tuple[int, int]] = []
    for where, value in fields.items("reads"):
        pair = items(where, value)
        if len(pair) != 2:
            raise ValueError(f"{where} has {len(pair)} numbers, not 2")
        first = integer(*pair[0], reads[-1][1] + 1 if reads else BEFORE, chunk)
        reads.append((first, integer(*pair[1], first, chunk)))
    return StripEntry(chunk, tuple(reads), fields.flag("picked"), _picture(fields.text("picture")))


def _picture(text: str) -> bytes:
    try:
        picture = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("picture is not base64") from None
    if picture and (not picture.startswith(_JPEG) or len(picture) > MOST_PICTURE):
        raise ValueError(f"picture is not a JPEG of at most {MOST_PICTURE} bytes")
    return picture


def _line(told: Json) -> bytes:
    return json.dumps(told, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
