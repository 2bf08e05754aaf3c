"""A schedule edited by its scenes, as a ruler does it. The text stays the artist's: all that an edit does not mean -
comments, blank lines, choices, how times are written - stays as it stands."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..geometry import VideoShape
from .choices import choice_of_times
from .converting import converted
from .located import Block, changed_headers, changed_words, locate, newline_of, one_line, spliced, taken_out
from .reading import parse_schedule, read_prompt
from .scenes import Scene, ScheduleError
from .written_text import JOINERS, read_line, written_lines

_SAME_TIME = 6e-4  # seconds: times are written to the millisecond


@dataclass(frozen=True)
class Edit:
    """What to do with a schedule: the scene that begins on line `line` (0: the one of a text without times) is moved to
    a second, deleted, or given a transition (None: the node's own) or a prompt; or one is added or split at a second;
    or, by `scene_at`, a prompt holds from a second to the next scene; or another tool's schedule is converted."""

    kind: str
    line: int = 0
    second: float = 0.0
    prompt: str = ""
    transition: str | None = None
    soft_chunks: int | None = None


@dataclass(frozen=True)
class _Film:
    """A text whose scenes all have a time, where they stand in it, and on which chunks they begin."""

    text: str
    blocks: Sequence[Block]
    video: VideoShape

    @property
    def scenes(self) -> list[Scene]:
        return [block.scene for block in self.blocks]

    @property
    def chunks(self) -> list[int]:
        return [self.video.nearest_chunk(scene.start_second) for scene in self.scenes]

    def second(self, chunk: int) -> float:
        """Where a chunk starts, as a text has it."""
        return round(self.video.start_second(chunk), 3)


@dataclass(frozen=True)
class _Edited:
    """The scenes that an edit asks for, and texts that should be read as them, the one nearest to the old one first."""

    scenes: Sequence[Scene]
    texts: Sequence[str]


def edit_schedule(
    text: str, edit: Edit, video: VideoShape, transitions: Collection[str], is_drawn: bool = False
) -> str:
    """The text after an edit; it is read as exactly the scenes that the edit asks for. ScheduleError, with a sentence,
    for a text that is not read as scenes and for an edit that cannot be made. Times move to the nearest chunk."""
    if edit.kind == "convert":
        return converted(text, video.fps, transitions)
    if is_drawn and (choice := choice_of_times(text)) is not None:
        raise ScheduleError(0, f"{choice} decides about times only when you press Run. Change the text by hand.")
    scenes = parse_schedule(text, transitions)
    index = _index(scenes, edit)
    if not scenes[0].line:
        text = _with_time(text)
        scenes = parse_schedule(text, transitions)
    film = _Film(text, locate(text, scenes), video)
    edited = _DONE[edit.kind](film, edit, index)
    for candidate in edited.texts:
        if _is_read_as(candidate, edited.scenes, transitions) and not (is_drawn and choice_of_times(candidate)):
            return candidate
    raise ScheduleError(
        edit.line,
        "This cannot be changed from here: something in the text, or the new prompt, would be read as something else. "
        "Change the text by hand.",
    )


def _index(scenes: Sequence[Scene], edit: Edit) -> int:
    """The scene that an edit names by its line; the first for one that names none."""
    if edit.kind in ("add", "split", "scene_at"):
        return 0
    found = [index for index, scene in enumerate(scenes) if scene.line == edit.line]
    if not found:
        raise ScheduleError(
            edit.line,
            f"No scene begins on line {edit.line}; the text has changed since. Choose the scene again.",
        )
    return found[0]


def _with_time(text: str) -> str:
    """A text without times as one scene that begins at 0."""
    line = next(line for line in written_lines(text) if read_line(line.text).strip())
    first = len(line.text) - len(line.text.lstrip(JOINERS + " \t").lstrip())
    place = line.places[first]
    return f"{text[:place]}[0s] {text[place:]}"


def _move(film: _Film, edit: Edit, index: int) -> _Edited:
    if not index:
        raise ScheduleError(edit.line, "The first scene begins at 0. Move another one, or add one before it.")
    chunks, scenes = film.chunks, film.scenes
    chunk = film.video.nearest_chunk(edit.second)
    if index + 1 < len(chunks):
        chunk = min(chunk, chunks[index + 1] - 1)
    chunk = max(chunk, chunks[index - 1] + 1)
    if chunk == chunks[index]:
        return _Edited(scenes, [film.text])
    was, second = scenes[index], film.second(chunk)
    scenes[index] = replace(was, start_second=second)
    if was.end_second is not None and was.end_second <= second:  # of the last scene: it stays as long as it was
        end = round(second + was.end_second - was.start_second, 3)
        scenes[index] = replace(scenes[index], end_second=end)
    scenes[index - 1] = _ending(scenes[index - 1], second)
    return _reheaded(film, scenes)


def _add(film: _Film, edit: Edit, index: int) -> _Edited:
    return _added(film, edit, one_line(edit.prompt))


def _split(film: _Film, edit: Edit, index: int) -> _Edited:
    at = _scene_before(film, edit.second)
    return _added(film, edit, film.blocks[at].written_prompt)


def _added(film: _Film, edit: Edit, prompt: str) -> _Edited:
    """With one more scene, which has the line below the one that it cuts."""
    _check_prompt(prompt)
    at, scenes = _scene_before(film, edit.second), film.scenes
    cut, second = film.blocks[at], film.second(film.video.nearest_chunk(edit.second))
    end = cut.scene.end_second
    if end is not None and end <= second:  # behind the last scene
        end = None
    scene = Scene(second, end, read_prompt(prompt), edit.transition, soft_chunks=edit.soft_chunks)
    scenes[at : at + 1] = [_ending(cut.scene, second), scene]
    header = cut.header_of(scene)
    line = f"{newline_of(film.text)}[{header}] {prompt}"
    changes = [*changed_headers(film.blocks[at : at + 1], scenes[at : at + 1]), (cut.end, cut.end, line)]
    return _Edited(scenes, [spliced(film.text, changes)])


def _scene_before(film: _Film, second: float) -> int:
    """The scene in which a second lies. ScheduleError where one begins there already."""
    chunk, chunks = film.video.nearest_chunk(second), film.chunks
    if chunk in chunks:
        scene = film.scenes[chunks.index(chunk)]
        raise ScheduleError(
            scene.line,
            f"A scene begins there already, on chunk {chunk} ({film.video.start_second(chunk):.2f} s). A prompt can "
            "change only where a chunk begins. Choose a place further away.",
        )
    return max(index for index, begins in enumerate(chunks) if begins < chunk)


def _delete(film: _Film, edit: Edit, index: int) -> _Edited:
    scenes = film.scenes
    if len(scenes) == 1:
        raise ScheduleError(edit.line, "It is the only scene; a video has one at least. Change its prompt.")
    gone = scenes.pop(index)
    if not index:
        scenes[0] = replace(scenes[0], start_second=0.0)
    else:
        scenes[index - 1] = _ending(
            scenes[index - 1], scenes[index].start_second if index < len(scenes) else gone.end_second
        )
    left = [block for block in film.blocks if block.scene is not gone]
    out = taken_out(film.text, film.blocks[index], with_comments=index > 0)
    return _Edited(scenes, [spliced(film.text, [*changed_headers(left, scenes), out])])


def _transition(film: _Film, edit: Edit, index: int) -> _Edited:
    if not index:
        raise ScheduleError(edit.line, "The first scene takes over from nothing. Choose the transition of a later one.")
    scenes = film.scenes
    scenes[index] = replace(scenes[index], transition=edit.transition, soft_chunks=edit.soft_chunks)
    return _reheaded(film, scenes)


def _prompt(film: _Film, edit: Edit, index: int) -> _Edited:
    prompt, scenes, block = one_line(edit.prompt), film.scenes, film.blocks[index]
    _check_prompt(prompt)
    scenes[index] = replace(scenes[index], prompt=read_prompt(prompt))
    plain = (block.begin, block.end, f"[{block.inside}] {prompt}")
    texts = [spliced(film.text, changes) for changes in (changed_words(film.text, block, prompt), [plain])]
    return _Edited(scenes, texts)


def _scene_at(film: _Film, edit: Edit, index: int) -> _Edited:
    chunk, chunks = film.video.nearest_chunk(edit.second), film.chunks
    return _prompt(film, edit, chunks.index(chunk)) if chunk in chunks else _add(film, edit, index)


_DONE = {
    "move": _move,
    "add": _add,
    "split": _split,
    "delete": _delete,
    "transition": _transition,
    "prompt": _prompt,
    "scene_at": _scene_at,
}


def _ending(scene: Scene, second: float | None) -> Scene:
    """A scene that ends elsewhere, if it says where it ends."""
    return scene if scene.end_second is None else replace(scene, end_second=second)


def _reheaded(film: _Film, scenes: Sequence[Scene]) -> _Edited:
    return _Edited(scenes, [spliced(film.text, changed_headers(film.blocks, scenes))])


def _check_prompt(prompt: str) -> None:
    if not read_prompt(prompt):
        raise ScheduleError(0, "The scene has no prompt. Write what one sees.")


def _is_read_as(text: str, wanted: Sequence[Scene], transitions: Collection[str]) -> bool:
    try:
        read = parse_schedule(text, transitions)
    except ScheduleError:
        return False
    return len(read) == len(wanted) and all(_is_same(*pair) for pair in zip(read, wanted, strict=True))


def _is_same(scene: Scene, wanted: Scene) -> bool:
    ends, wanted_ends = (each.start_second if each.end_second is None else each.end_second for each in (scene, wanted))
    return (
        (scene.prompt, scene.transition, scene.soft_chunks) == (wanted.prompt, wanted.transition, wanted.soft_chunks)
        and (scene.end_second is None) == (wanted.end_second is None)
        and abs(scene.start_second - wanted.start_second) < _SAME_TIME
        and abs(ends - wanted_ends) < _SAME_TIME
    )
