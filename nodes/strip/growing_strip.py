"""The film strip of a run that goes on: an entry a chunk, told to the page once its picture is there, and held for
whoever asks later. Nothing that fails here ends a run."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from torch import Tensor

from ...headforcing_core.files.strict_json import Json
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.rollout.loop import Chunk
from ...headforcing_core.rollout.plan import Segment
from ...headforcing_core.run_store.folder import JOURNAL_FILE, NEXT_VIDEO_FILE, VIDEO_FILE
from ...headforcing_core.run_store.strip_entry import StripEntry
from ..keeping.run import Run
from ..status.node_status import NodeStatus
from .small_pictures import of_latent, of_pictures
from .strip_answer import header_of, told_of_entries, told_of_scenes, told_of_video
from .told_chunks import entry_of, told_by_report

if TYPE_CHECKING:
    from ..sockets import Conditioning
    from ..video.growing_video import OnPictures, VideoStream

EVENT = "head_forcing.chunk"
_MOST_STRIPS = 8  # that are held, each of another node

log = logging.getLogger(__name__)


class _Going(NamedTuple):
    run: Run
    stream: VideoStream | None
    segments: Callable[[], Sequence[Segment[Conditioning]]]


class GrowingStrip:
    """The strip of the newest run of a node, also when that has ended; `name` is the one that it was asked to be kept
    under. A chunk waits for its decoded picture, and is drawn from its latent where none comes."""

    def __init__(
        self,
        video: VideoShape,
        run: Run,
        stream: VideoStream | None,
        status: NodeStatus,
        segments: Callable[[], Sequence[Segment[Conditioning]]],
    ) -> None:
        self.name = run.name
        self._id = status.run_id or uuid4().hex
        self._header = header_of(video, stream)
        self._status, self._file = status, run.strip
        self._lock = threading.Lock()
        self._entries = {} if self._file is None else self._file.begin(self._header)
        self._waiting: dict[int, StripEntry] = {}
        self._told: dict[int, StripEntry] = {}
        self._made = run.finished.chunks
        self._kept_pictures = video.pixel_frames_after(run.finished.chunks)
        self._going: _Going | None = _Going(run, stream, segments)  # taken away while the server's threads look
        self._scenes: list[Json] = []
        self._place: tuple[Path, int] | None = None  # of the video, once the run has ended
        self._journal: tuple[int, ...] | None = None  # as it was then

    def add(self, chunk: Chunk, also: OnPictures | None) -> OnPictures | None:
        """A chunk is there, made or rebuilt. Returns what is to be given its decoded pictures, which `also` gets too;
        None: nothing is."""
        try:
            entry = entry_of(chunk, self._header)
        except Exception:
            _log_failure()
            return also
        return self._add(entry, chunk.latent, also)

    def read_report(self, report: str) -> None:
        """The run is whole: what this tells of chunks is taken where their entries are lost."""
        if len(self._entries) < self._made:
            try:
                self._told = told_by_report(report.encode()).entries
            except Exception:
                _log_failure()

    def add_kept(self, number: int, latent: Tensor) -> OnPictures | None:
        """A chunk of a whole run was read, in model space. Returns what is to be given its decoded pictures, if
        anything is."""
        there = self._entries.get(number)
        if there is not None and there.picture:
            return None
        return self._add(there or self._told.get(number, StripEntry(number, (), False)), latent, None)

    def settle(self) -> None:
        """No decoded pictures come of the chunks that wait: they are drawn."""
        with self._lock:
            drawn = [self._waiting.pop(number) for number in sorted(self._waiting)]
        for entry in drawn:
            self._publish(entry)

    def close(self) -> None:
        """The run has ended, whole or not, and its video is closed. The page hears of the last chunk once more, with
        the video where it is now."""
        self.settle()
        try:
            self._scenes, self._place, self._journal = self._told_scenes(), self._placed(), self._stamp()
        except Exception:
            _log_failure()
        self._going = None  # what it holds is large
        last = self._entries.get(self._made - 1)
        if last is not None:
            self._tell(last)

    def is_of(self, name: str) -> bool:
        """Whether this is what a node with this run_name is to show, and not the kept run of that name, if there is
        one: it is going, or was asked for by that name, and its folder is as it left it."""
        if self._going is not None:
            return True
        stamp = self._stamp()
        return (not name or "%n%" in name or name == self.name) and (stamp is None or stamp == self._journal)

    def answer(self, first: int, count: int) -> dict[str, Json]:
        """What the page is answered that asks for so many chunks from the first one on."""
        with self._lock:
            wanted = [self._entries[number] for number in range(first, first + count) if number in self._entries]
        entries = told_of_entries(self._header, wanted)
        return {**self._so_far(), "scenes": self._told_scenes(), "entries": entries}

    def _add(self, entry: StripEntry, latent: Tensor, also: OnPictures | None) -> OnPictures | None:
        there = self._entries.get(entry.chunk)
        if there is not None and there.picture:
            self._publish(replace(entry, picture=there.picture))
            return also
        try:
            drawn = replace(entry, picture=of_latent(latent))
        except Exception:
            _log_failure()
            drawn = entry
        with self._lock:
            self._waiting[entry.chunk] = drawn

        def hear(pictures: Tensor) -> None:
            self._show(drawn, pictures)
            if also is not None:
                also(pictures)

        return hear

    def _show(self, drawn: StripEntry, pictures: Tensor) -> None:
        with self._lock:
            self._waiting.pop(drawn.chunk, None)
        try:
            shown = replace(drawn, picture=of_pictures(pictures) or drawn.picture)
        except Exception:
            _log_failure()
            shown = drawn
        self._publish(shown)

    def _publish(self, entry: StripEntry) -> None:
        with self._lock:
            is_new = self._entries.get(entry.chunk) != entry
            self._entries[entry.chunk] = entry
            self._made = max(self._made, entry.chunk + 1)
            if self._file is not None and is_new:
                self._file.append(entry)
        self._tell(entry)

    def _tell(self, entry: StripEntry) -> None:
        if self._status.is_behind:  # the page asks for what it was not told
            return
        try:
            (told,) = told_of_entries(self._header, [entry])
            self._status.send_event(EVENT, {**self._so_far(), "entry": told})
        except Exception:
            _log_failure()

    def _so_far(self) -> dict[str, Json]:
        place = self._placed()
        return {
            "run": self._id,
            "chunks": self._header.chunks,
            "made": self._made,
            "fps": self._header.fps,
            "video": None if place is None else told_of_video(*place),
        }

    def _told_scenes(self) -> list[Json]:
        going = self._going
        return self._scenes if going is None else told_of_scenes(self._header, going.segments())

    def _placed(self) -> tuple[Path, int] | None:
        """Where the video is that shows the most, and its pictures."""
        going = self._going
        if going is None:
            return self._place
        run, stream, _ = going
        if stream is None:
            return (run.video_path, self._header.pixel_frames) if run.has_video else None
        path, before = run.video_path, run.video_path.with_name(VIDEO_FILE)
        if path.name == NEXT_VIDEO_FILE and stream.pixel_frames < self._kept_pictures and before.is_file():
            return before, self._kept_pictures
        return path, stream.pixel_frames

    def _stamp(self) -> tuple[int, ...] | None:
        """Tells whether the journal of a kept run is the one that was there; None where there is none."""
        try:
            found = None if self._file is None else self._file.path.with_name(JOURNAL_FILE).stat()
        except OSError:
            return None
        return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


_newest: OrderedDict[str, GrowingStrip] = OrderedDict()  # by the id of the node in the page


@contextmanager
def opened_strip(
    video: VideoShape,
    run: Run,
    stream: VideoStream | None,
    status: NodeStatus,
    segments: Callable[[], Sequence[Segment[Conditioning]]],
) -> Iterator[GrowingStrip]:
    """The strip of a run, which is the newest of its node from now on. The video is closed before this ends."""
    strip = GrowingStrip(video, run, stream, status, segments)
    if status.shown_id is not None:
        _newest.pop(status.shown_id, None)
        _newest[status.shown_id] = strip
        while len(_newest) > _MOST_STRIPS:
            _newest.popitem(last=False)
    try:
        yield strip
    finally:
        strip.close()


def newest_strip(node_id: str) -> GrowingStrip | None:
    """The strip of the newest run of a node in this ComfyUI."""
    return _newest.get(node_id)


def _log_failure() -> None:
    log.warning("Head forcing: a chunk could not be put on the film strip", exc_info=True)
