"""POST /head_forcing/strip: the film strip of a sampler's newest run, or of a kept one.

Asked: `node_id` and `run_name` of the sampler; the number of the `first` chunk that is wanted, and the `count`.

Answered: {"run", "chunks", "made", "fps", "scenes": [{"chunk", "second", "prompt", "transition", "live"}], "video",
"entries": [{"chunk", "second", "picture", "reads", "picked"}]}. It is the newest run of the node in this ComfyUI,
unless that was kept under another name than `run_name`, or its folder holds another run by now; then the kept run of
that name; of one with %n% in it none, since that does not say which scene's. `run` is an id, or null where there is
neither. `chunks` are wanted, `made` are there. A `second` is one of the video, so that of chunk 0 says how much goes
before it in there; `transition` is null for the first scene. `video` is what GET /view is asked for, {"filename",
"subfolder", "type"}, and the `pictures` in it, or null.

Of the wanted chunks those are answered that are there, which may be less than `made`: then ask again. `picture` is a
small JPEG in base64, empty where it cannot be made. `reads` are the first and last of each stretch of chunks that
memory heads read for this one; -1 stands for all that was there before chunk 0. `picked` says that an episode was
admitted, or that it was chosen here what is recalled.
"""

from __future__ import annotations

from ...headforcing_core.files.plain_names import is_plain_name
from ...headforcing_core.files.strict_json import Fields, Json
from ...headforcing_core.run_store.record import MOST_CHUNKS
from ..strip.growing_strip import newest_strip
from ..strip.kept_strip import kept_answer
from ..strip.strip_answer import NO_STRIP

FIELDS = ("node_id", "run_name", "first", "count")
MOST_ENTRIES = 200


def answer(asked: Fields) -> dict[str, Json]:
    """The strip. ValueError for a field that is wrong."""
    node_id, run_name = asked.text("node_id"), asked.text("run_name")
    wanted = asked.integer("first", 0, MOST_CHUNKS), asked.integer("count", 1, MOST_ENTRIES)
    newest = newest_strip(node_id)
    if newest is not None and newest.is_of(run_name):
        return newest.answer(*wanted)
    kept = kept_answer(run_name, *wanted) if is_plain_name(run_name) else None  # no other can be that of a run
    if kept is not None:
        return kept
    return NO_STRIP if newest is None else newest.answer(*wanted)
