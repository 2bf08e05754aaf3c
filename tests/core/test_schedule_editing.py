"""Edits of a schedule's text: each gives exactly the scenes that it asks for, and leaves the rest as it stands."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from headforcing_core.geometry import VideoShape
from headforcing_core.rollout.transitions import TRANSITIONS
from headforcing_core.schedule.editing import Edit, edit_schedule
from headforcing_core.schedule.header_times import written_like
from headforcing_core.schedule.reading import parse_schedule, read_prompt
from headforcing_core.schedule.scenes import Scene, ScheduleError
from headforcing_core.schedule.times import read_times
from headforcing_core.schedule.written_text import read_lines, without_comments, written_lines

VIDEO = VideoShape(60.0, 16.0, 832, 480, 3)  # chunks begin at 0, 0.5625, 1.3125, ...: one each 0.75 s
FILM = """// my film

[0s] a {red|blue} fox // the hero
in snow

// the river
[1m30s soft 2] a frozen /* wide */ river
[100-120s] a city
"""
EDITS = {
    "moved in its own notation": ("move 7 93", "[1m30s", "[1m32.812s"),
    "moved below a minute": ("move 7 50", "[1m30s", "[50.062s"),
    "moved to where it is": ("move 7 90", "", ""),
    "moved before its neighbour": ("move 7 400", "[1m30s", "[1m39.562s"),
    "the last one moved behind its end": ("move 8 200", "[100-120s", "[200.062-220.062s"),
    "split": ("split 5", "in snow\n", "in snow\n[5.062s] a {red|blue} fox in snow\n"),
    "added": ("add 5 cut a {b|c}", "in snow\n", "in snow\n[5.062s cut] a {b|c}\n"),
    "added behind the last": (
        "add 130 - night",
        "[100-120s] a city\n",
        "[100-130.312s] a city\n[130.312s] night\n",
    ),
    "added into a range": (
        "add 110 cut night",
        "[100-120s] a city\n",
        "[100-110.062s] a city\n[110.062-120s cut] night\n",
    ),
    "deleted with its comment": ("delete 7", "// the river\n[1m30s soft 2] a frozen /* wide */ river\n", ""),
    "the last one deleted": ("delete 8", "[100-120s] a city\n", ""),
    "a transition taken away": ("transition 7 -", "[1m30s soft 2]", "[1m30s]"),
    "a transition given": ("transition 8 cut", "[100-120s]", "[100-120s cut]"),
    "a fade given": ("transition 8 soft 3", "[100-120s]", "[100-120s soft 3]"),
    "a prompt written": ("prompt 7 a lake // no", "a frozen /* wide */ river", "a lake /* wide */ "),
    "a prompt on two lines written": ("prompt 3 a wolf", "a {red|blue} fox // the hero\nin snow", "a wolf // the hero"),
    "a prompt for a stretch, at a scene": ("scene_at 100.2 a town", "a city", "a town"),
    "a prompt for a stretch, inside of one": ("scene_at 5 a wolf", "in snow\n", "in snow\n[5.062s] a wolf\n"),
}


def asked(words: str) -> Edit:
    """An edit, in words."""
    kind, first, rest = (*words.split(" ", 2), "")[:3]
    if kind in ("split", "scene_at"):
        return Edit(kind, second=float(first), prompt=rest)
    if kind == "add":
        word, _, prompt = rest.partition(" ")
        return Edit(kind, second=float(first), prompt=prompt, transition=None if word == "-" else word)
    if kind == "transition":
        word, _, chunks = rest.partition(" ")
        return Edit(
            kind, int(first), transition=None if word == "-" else word, soft_chunks=int(chunks) if chunks else None
        )
    return Edit(kind, int(first), float(rest) if kind == "move" else 0.0, rest)


def edited(text: str, edit: Edit | str, video: VideoShape = VIDEO) -> str:
    """The text after an edit, as the page has it done."""
    return edit_schedule(text, asked(edit) if isinstance(edit, str) else edit, video, TRANSITIONS, is_drawn=True)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_what_it_must_and_nothing_else(name: str, line_break: str) -> None:
    edit, old, new = EDITS[name]
    assert FILM.count(old) == 1 or not old
    wanted = FILM.replace(old, new, 1) if old else FILM
    assert edited(FILM.replace("\n", line_break), edit) == wanted.replace("\n", line_break)


@pytest.mark.parametrize(
    ("old", "second", "new"),
    [
        ("12s", 7.3125, "7.312s"),
        ("12.50 sec", 7.5, "7.50 sec"),
        ("0:12", 75.5, "1:15.5"),
        ("00:12", 75.0, "01:15"),
        ("1:00:05,000", 75.5, "0:01:15,500"),
        ("00:01:05", 3675.0, "01:01:15"),
        ("1m30s", 120.0, "2m"),
        ("2 min", 95.5, "1 min 35.5s"),
        ("2m", 95.5, "1m35.5s"),
        ("1 min 30 sec", 95.5, "1 min 35.5 sec"),
        ("1\u520630\u79d2", 95.5, "1\u520635.5\u79d2"),
        ("12", 13.5, "13.5"),
        ("\uff11\uff12\uff53", 13.5, "13.5s"),
        ("1:59.5", 119.9996, "2:00.0"),
    ],
)
def test_a_time_is_written_in_the_notation_of_another(old: str, second: float, new: str) -> None:
    assert written_like(old, second) == new
    read = read_times(f"{new}-999s" if new == "13.5" else new)
    assert read is not None and read.start_second == pytest.approx(second, abs=6e-4)


@pytest.mark.parametrize(
    ("text", "edit", "new"),
    [
        ("a fox\nin snow // x", "add 3 - b", "[0s] a fox\nin snow // x\n[2.812s] b"),
        ("// film\n  - a fox", "split 3", "// film\n  [0s] - a fox\n[2.812s] a fox"),
        ("a fox", "scene_at 0 b", "[0s] b"),
        ("a fox", "prompt 0 b", "[0s] b"),
        ("[0-12s] a\n[12-0:20] b", "move 2 7", "[0-7.312s] a\n[7.312-0:20] b"),
        ("[0-12s] a\n[12s-0:20] b\n[0:20] c", "move 3 95", "[0-12s] a\n[12s-1:35.062] b\n[1:35.062] c"),
        ("[0-12s] a\n[12-20s] b", "delete 2", "[0-20s] a"),
        ("[0-12s] a\n[12s] b", "delete 2", "[0s] a"),
        ("[0-12s] a\n[12-20s] b\n[20s] c", "delete 2", "[0-20s] a\n[20s] c"),
        ("[0s] a\n[12s cut] b", "delete 1", "[0s cut] b"),
        ("// t\n[0:00] a\n\n[0:12] b", "delete 2", "// t\n\n[0:00] b"),
        ("[0s] a\n\n// b\n[12s] b\n\n[20s] c", "delete 4", "[0s] a\n\n[20s] c"),
        ("[0s] a\n/* b\nb */\n[12s] b\n[20s] c\n// end", "delete 4", "[0s] a\n[20s] c\n// end"),
        ("```\n[0s] a\n[12s] b\n```", "add 20 - c", "```\n[0s] a\n[12s] b\n[20.062s] c\n```"),
        ("- **[0s]** a\n- **[12s] b**", "prompt 2 c", "- **[0s]** a\n- **[12s] c**"),
        ("- **[0s]** a\n- **[12s] b**", "prompt 2 c**", "- **[0s]** a\n- **[12s] c****"),
        ("### [0s]\na\nb\n### [5s]\nc", "prompt 1 d", "### [0s]\nd\n### [5s]\nc"),
        ("### [0s]\na\n### [5s]\nc", "prompt 3 - [3s] d", "### [0s]\na\n[5s] - [3s] d"),
        ("[0s]: a\n[5s] -\nb", "prompt 2 c", "[0s]: a\n[5s] -\nc"),
        ("\u30100s\u3011a\n\u3010\uff15\u79d2\u3011b", "move 2 9", "\u30100s\u3011a\n\u30108.812\u79d2\u3011b"),
        ("[0s] a\n[/*4*/5s] b", "move 2 9", "[0s] a\n[/*4*/8.812s] b"),
        ("[0s] a\n[\u200b5s] b", "move 2 9", "[0s] a\n[\u200b8.812s] b"),
        ("[0s] a\n[12 \u2192 20s SOFT  6] b", "move 2 5", "[0s] a\n[5.062 \u2192 20s SOFT  6] b"),
        ("[0s] a\n[12s] b\\{c\\}", "split 20", "[0s] a\n[12s] b\\{c\\}\n[20.062s] b\\{c\\}"),
        ("/* a fox", "add 3 - b", "[0s] /* a fox\n[2.812s] b"),
        ("[0s] a\n[1s] b\n[1.1s] c", "move 3 3", "[0s] a\n[1s] b\n[2.812s] c"),
    ],
)
def test_texts_of_every_form_are_edited(text: str, edit: str, new: str) -> None:
    assert edited(text, edit) == new


@pytest.mark.parametrize(
    ("text", "edit", "told"),
    [
        (FILM, "move 3 5", "The first scene begins at 0"),
        (FILM, "transition 3 cut", "The first scene takes over from nothing"),
        (FILM, "move 4 5", "No scene begins on line 4"),
        (FILM, "split 90", r"A scene begins there already, on chunk 120 \(89.81 s\)"),
        (FILM, "add 0 - b", "A scene begins there already, on chunk 0"),
        (FILM, "add 5 - // b", "The scene has no prompt"),
        ("a fox", "delete 0", "It is the only scene"),
        ("[0s] a\n[{5|8}s] b", "move 2 7", r"\{5\|8\} decides about times only when you press Run"),
        ("[0s] a\n[soon] b", "move 2 7", "line 2 begins with .soon., which is not a time"),
        ("[0s] a /* b\n[5s] c", "prompt 2 d */ e", "This cannot be changed from here"),
        ("[0s] a {b\n[5s] c", "prompt 2 d}", "cannot be changed from here|decides about times"),
        ("[0s] a", "convert 0", "no schedule of another tool"),
    ],
)
def test_what_cannot_be_done_is_told(text: str, edit: str, told: str) -> None:
    with pytest.raises(ScheduleError, match=told):
        edited(text, edit)


def test_one_time_in_two_notations_is_the_same_time() -> None:
    """60 + 5.812 is another float than 65.812."""
    for second in ("5.812", "7.312", "11.1", "35.062"):
        text = (
            f"[0-1:0{second}] a\n[{60 + float(second):.3f}s] b"
            if float(second) < 10
            else (f"[0-1:{second}] a\n[{60 + float(second):.3f}s] b")
        )
        assert len(parse_schedule(text, TRANSITIONS)) == 2
    with pytest.raises(ScheduleError, match="ends at 65.8"):
        parse_schedule("[0-1:05.812] a\n[65.813s] b", TRANSITIONS)


WORDS = st.sampled_from(
    [
        "a red fox",
        "a {red|blue} fox",
        r"a \{red\} fox",
        "(snow:1.2), night",
        "[close] on a fox",
        "- a fox",
        "a: b",
        "5s: a",
    ]
)
PROMPTS = st.lists(WORDS, min_size=1, max_size=2).map(" ".join)
BETWEEN = st.sampled_from(["", "", "// note\n", "/* two\nlines */\n", "\n", "\n// note\n", "---\n", "\u200b\n"])
BEHIND = st.sampled_from(
    ["", "", " // note", " /* note */", " /* note\nnote */", "\n  in deep snow", "\n\nin snow // x"]
)
HEADERS = st.sampled_from(
    ["[{}] ", "[{}]: ", "- [{}] ", "### [{}]\n", "**[{}]** ", "\u3010{}\u3011", "[ {} ] ", "[/*x*/{}] "]
)
SHAPES = st.builds(
    lambda fps, frames, beginning: VideoShape(600.0, fps, 832, 480, frames, beginning),
    st.sampled_from([8.0, 16.0, 23.976, 24.0]),
    st.integers(1, 4),
    st.integers(0, 1),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A schedule as somebody may have written it, without a choice that decides about times."""
    seconds = sorted(draw(st.sets(st.integers(1, 400), max_size=4)))
    ranged = draw(st.booleans())
    parts = []
    for index, second in enumerate([0, *(each * 3 / 2 for each in seconds)]):
        notation = draw(st.sampled_from(["1s", "1:01", "1m1s", "00:00:01.50", "1 sec"]))
        time = written_like(notation, second)
        if ranged and index < len(seconds):
            time += draw(st.sampled_from(["-", " to ", " \u2192 "])) + written_like(notation, seconds[index] * 3 / 2)
        word = draw(st.sampled_from(["", "", " cut", " soft 3", " SOFT"]))
        header = draw(HEADERS).format(time + word)
        if header.startswith("\u3010") and len(time + word) > 40:
            header = f"[{time}] "
        parts.append(draw(BETWEEN) + header + draw(PROMPTS) + draw(BEHIND) + "\n")
    return draw(st.sampled_from(["\n", "\r\n"])).join("".join(parts).split("\n"))


EDITED = st.one_of(
    st.builds(Edit, st.sampled_from(["move"]), st.integers(0, 4), st.floats(0, 700)),
    st.builds(Edit, st.just("add"), st.just(0), st.floats(0, 700), PROMPTS, st.sampled_from([None, "cut", "soft"])),
    st.builds(Edit, st.sampled_from(["split", "delete"]), st.integers(0, 4), st.floats(0, 700)),
    st.builds(
        lambda line, word, chunks: Edit(
            "transition", line, transition=word, soft_chunks=chunks if word == "soft" else None
        ),
        st.integers(0, 4),
        st.sampled_from([None, "cut", "soft"]),
        st.sampled_from([None, 5]),
    ),
    st.builds(Edit, st.sampled_from(["prompt", "scene_at"]), st.integers(0, 4), st.floats(0, 700), PROMPTS),
)


def by_hand(scenes: list[Scene], edit: Edit, index: int, video: VideoShape) -> list[Scene] | None:
    """The edit made on the list of scenes; None where it cannot be made."""
    chunks = [video.nearest_chunk(scene.start_second) for scene in scenes]
    chunk = video.nearest_chunk(edit.second)
    second = round(video.start_second(chunk), 3)
    if edit.kind == "scene_at" and chunk in chunks:
        index = chunks.index(chunk)
    if edit.kind == "prompt" or (edit.kind == "scene_at" and chunk in chunks):
        return [replace(s, prompt=read_prompt(edit.prompt)) if n == index else s for n, s in enumerate(scenes)]
    if edit.kind == "transition":
        new = replace(scenes[index], transition=edit.transition, soft_chunks=edit.soft_chunks)
        return [*scenes[:index], new, *scenes[index + 1 :]] if index else None
    if edit.kind == "delete":
        if len(scenes) == 1:
            return None
        left = scenes[:index] + scenes[index + 1 :]
        starts = [0.0, *(scene.start_second for scene in left[1:])]
        return meeting([replace(scene, start_second=start) for scene, start in zip(left, starts, strict=True)])
    if edit.kind == "move":
        if not index:
            return None
        after = chunks[index + 1] if index + 1 < len(chunks) else 10**9
        if not chunks[index - 1] < chunk < after:
            chunk = chunks[index - 1] + 1 if chunk <= chunks[index - 1] else after - 1
        second = scenes[index].start_second if chunk == chunks[index] else round(video.start_second(chunk), 3)
        return meeting([replace(s, start_second=second) if n == index else s for n, s in enumerate(scenes)])
    if chunk in chunks:
        return None
    at = sum(begins < chunk for begins in chunks)
    prompt = scenes[at - 1].prompt if edit.kind == "split" else read_prompt(edit.prompt)
    new = Scene(second, scenes[at - 1].end_second, prompt, edit.transition, soft_chunks=edit.soft_chunks)
    return meeting([*scenes[:at], new, *scenes[at:]])


def meeting(scenes: list[Scene]) -> list[Scene]:
    """Scenes of which those that say where they end, end where the next begins; the last one need not."""
    following = [*(scene.start_second for scene in scenes[1:]), None]
    return [
        replace(scene, end_second=end if scene.end_second is not None else None)
        for scene, end in zip(scenes, following, strict=True)
    ]


@settings(derandomize=True, deadline=None, max_examples=500)
@given(texts(), EDITED, SHAPES)
def test_an_edited_text_is_read_as_the_edited_scenes(text: str, edit: Edit, video: VideoShape) -> None:
    try:
        scenes = [replace(scene, notes=()) for scene in parse_schedule(text, TRANSITIONS)]
    except ScheduleError:  # a prompt on a line of its own that begins with a bracket
        reject()
    index = edit.line % len(scenes)
    edit = replace(edit, line=scenes[index].line)
    wanted = by_hand(scenes, edit, index, video)
    if wanted is None:
        with pytest.raises(ScheduleError):
            edited(text, edit, video)
        return
    new = edited(text, edit, video)
    read = list(parse_schedule(new, TRANSITIONS))
    assert [(s.prompt, s.transition, s.soft_chunks) for s in read] == [
        (s.prompt, s.transition, s.soft_chunks) for s in wanted
    ]
    assert [s.start_second for s in read] == pytest.approx([s.start_second for s in wanted], abs=1e-3)
    assert [s.end_second is None for s in read[:-1]] == [s.end_second is None for s in wanted[:-1]]
    comments = re.findall(r"//.*?(?=[\r\n]|$)|/\*.*?\*/", text, re.DOTALL)
    if edit.kind not in ("delete", "prompt", "scene_at"):
        assert re.findall(r"//.*?(?=[\r\n]|$)|/\*.*?\*/", new, re.DOTALL) == comments
    assert new.count("\r") in (0, new.count("\n"))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet="ab /*\\{\n\r\u2028\x85\u200b\ufeff[]0s-", max_size=60))
def test_every_line_is_found_where_it_stands(text: str) -> None:
    lines = written_lines(text)
    assert [(line.number, bool(line.text.strip())) for line in lines if line.text.strip()] == [
        (line.number, True) for line in lines if line.text.strip()
    ]
    assert len(lines) == len(read_lines(text))
    for line in lines:
        assert "".join(text[place] for place in line.places) == line.text
        assert all(line.begin <= place < line.end for place in line.places)
    assert "".join(line.text for line in lines) == "".join(without_comments(text).splitlines())
