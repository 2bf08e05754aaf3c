"""What people paste: read as it is meant, or told, or refused with the right form of their own text."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headforcing_core.rollout.transitions import TRANSITIONS
from headforcing_core.schedule.choices import choice_notes, choice_of_times
from headforcing_core.schedule.reading import parse_schedule, read_live_prompt, read_prompt
from headforcing_core.schedule.scenes import Scene, ScheduleError, write_schedule

FOX, RIVER, CITY = "a red fox in snow", "a frozen river", "a city at night"
TWO = [(0.0, FOX), (5.0, RIVER)]

AS_MEANT = {
    "a byte order mark": f"\ufeff[0s] {FOX}\n[5s] {RIVER}",
    "a zero-width space": f"[0s] {FOX}\n\u200b[5s] {RIVER}",
    "a joiner": f"[0s] {FOX}\n\u200d[5s] {RIVER}",
    "a soft hyphen": f"[0s] a red f\u00adox in snow\n[5s] {RIVER}",
    "marks of direction": f"\u202a[0s] {FOX}\u202c\n\u2066[5s] \u200e{RIVER}\u2069",
    "a zero and half a character": f"[0s] {FOX}\0\n[5s] {RIVER}\ud83d",
    "CRLF": f"[0s] {FOX}\r\n[5s] {RIVER}\r\n",
    "CR": f"[0s] {FOX}\r[5s] {RIVER}",
    "a line separator": f"[0s] {FOX}\u2028[5s] {RIVER}",
    "tabs": f"\t[0s]\t{FOX}\n\t[5s]\t{RIVER}\t",
    "a no-break space": f"[0\u00a0s] {FOX}\n[5\u00a0s]\u00a0{RIVER}",
    "an en dash": f"[0\u20135s] {FOX}\n[5\u201310s] {RIVER}",
    "an arrow": f"[0 -> 5s] {FOX}\n[5 \u2192 10s] {RIVER}",
    "to": f"[0s to 5s] {FOX}\n[5s to 10s] {RIVER}",
    "sec": f"[0sec] {FOX}\n[5 seconds] {RIVER}",
    "a capital": f"[0S] {FOX}\n[5 S] {RIVER}",
    "hours": f"[00:00:00] {FOX}\n[0:00:05] {RIVER}",
    "milliseconds of subtitles": f"[00:00:00,000] {FOX}\n[00:00:05,000] {RIVER}",
    "Chinese brackets": f"\u30100s\u3011{FOX}\n\u30105\u79d2\u3011{RIVER}",
    "a full-width keyboard": f"\uff3b\uff10\uff53\uff3d{FOX}\n\uff3b\uff10\uff1a\uff10\uff15\uff3d\uff1a{RIVER}",
    "full-width signs in ours": f"[\uff10\uff0e\uff10\uff53] {FOX}\n[\uff10\uff1a\uff10\uff15] {RIVER}",
    "a colon behind": f"[0s]: {FOX}\n[5s]:{RIVER}",
    "a dash behind": f"[0s] - {FOX}\n[5s] \u2014 {RIVER}",
    "bullets": f"- [0s] {FOX}\n* [5s] {RIVER}",
    "numbers": f"1. [0s] {FOX}\n2. [5s] {RIVER}",
    "headings": f"### [0s] {FOX}\n### [5s]\n{RIVER}",
    "quoted lines": f'"[0s] {FOX}",\n\u201c[5s] {RIVER}\u201d',
    "bold": f"**[0s]** {FOX}\n**[5s] {RIVER}**",
    "a block of code": f"```text\n[0s] {FOX}\n[5s] {RIVER}\n```",
    "rules": f"---\n[0s] {FOX}\n* * *\n[5s] {RIVER}\n___",
    "comments": f"// my film\n[0s] {FOX} // the hero\n/* [3s] nothing\nyet */[5s] {RIVER}",
    "a comment inside of brackets": f"[0s] {FOX}\n[/*4*/5s] {RIVER}",
}

REFUSED = {  # the right form of their own text
    f'"0": "{FOX}",\n"48": "{RIVER}",\n"96": "{CITY}"': f"[0s] {FOX}, next line [3s] {RIVER} (48 frames at 16 fps)",
    f'0: "{FOX}", 24: "{RIVER}"': f"[0s] {FOX}, next line [1.5s] {RIVER} (24 frames at 16 fps)",
    f"\u201c0\u201d\uff1a\u201c{FOX}\u201d,\n\u201c16\u201d\uff1a\u201c{RIVER}": f"[0s] {FOX}, next line [1s] {RIVER}",
    f'{{\n "0": "{FOX}",\n "30": "{RIVER} `0.5*t`"\n}}': f"[0s] {FOX}, next line [1.875s] {RIVER}",
    f'(best quality:1.2),\n"0": "{FOX}",\n"12": "{RIVER}"\nsitting': f"[0s] {FOX}, next line [0.75s] {RIVER}",
    "0:(0.95), 12:(1.0)": "[0s] 0.95, next line [0.75s] 1.0",
    f'"0": "(:o:`pw_a`)",\n"23": "(:D:0.6), {FOX}"': "[0s] (:o:`pw_a`), next line [1.438s] (:D:0.6), a red fox",
    f"best quality\n0: {FOX}\n8: {RIVER}\nsnow": f"[0s] {FOX}, next line [0.5s] {RIVER} (8 frames at 16 fps)",
    f"0@{FOX}\n10@{RIVER}": f"[0s] {FOX}, next line [0.625s] {RIVER}",
    '{"prompts": ["a fox", "a river"]}': "[0s] a red fox in deep snow",
    f"0: {FOX}\n8: {RIVER}": f"[0s] {FOX}, next line [0.5s] {RIVER} (8 frames at 16 fps)",
    f"{FOX} | {RIVER} | {CITY}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"{FOX} |\n{RIVER} |\n{CITY}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"0s: {FOX}\n5s: {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"0-5s: {FOX}\n5-10s: {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"0-5: {FOX}\n5-10: {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"From 0s to 5s: {FOX}\nFrom 5s to 9s: {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"00:00 {FOX}\n00:05 {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"0:00 - {FOX}\n1:05 - {RIVER}": f"[0s] {FOX}, next line [65s] {RIVER}",
    f"(0s) {FOX}\n(5s) {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"\uff080s\uff09{FOX}\n\uff085s\uff09{RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"- **0s:** {FOX}\n- **5s:** {RIVER}": f"[0s] {FOX}, next line [5s] {RIVER}",
    f"1\n00:00:00,000 --> 00:00:05,000\n{FOX}\n\n2\n00:00:05,000 --> 00:00:10,000\n{RIVER}": f"[0s] {FOX}, next line "
    f"[5s] {RIVER}",
    f"WEBVTT\n\n00:00.000 --> 00:02.500\n{FOX}\n\n00:02.500 --> 00:10.000\n{RIVER}": f"[0s] {FOX}, next line [2.5s] "
    f"{RIVER}",
    '{"prompt": "a fox", "seed": 5}': "[0s] a red fox in deep snow",
    '"class_type": "KSampler", "inputs": {': "[0s] a red fox in deep snow",
    f"[0s] {FOX}\n[48] {RIVER}": f"[48s] {RIVER}; or [3s], if 48 counts frames at 16 fps",
    f"[0s] {FOX}\n[5,8s] {RIVER}": f"[5.8s] {RIVER}; or [5-8s], from - to",
    f"[0s] {FOX}\n[cat:dog:0.5] in snow": "[12s] dog in snow",
    f"[0s] {FOX}\n[20s] {CITY}\n[wide shot] {RIVER}": f"[32s] {RIVER}",
    f"[0s] {FOX}\n[5s {RIVER}": f"[5s] {RIVER}",
    f"[0s] {FOX}\n[1-2m] {RIVER}": f"[12s] {RIVER}",
    f"# my film\n[0s] {FOX}": "// my film",
    f"My film\n[0s] {FOX}": "// My film",
    f"{FOX}\n[5s] {RIVER}": f"[0s] {FOX}",
}

TOLD = {
    "<lora:fox:0.8> a fox": "'<lora:fox:0.8>' loads nothing",
    "a fox, <hypernet:x:1>": "'<hypernet:x:1>' loads nothing",
    "a __color__ fox": "'__color__' is read as it stands",
    "a fox, __animals/cats__": "'__animals/cats__' is read as it stands",
    "a fox embedding:easynegative": "'embedding:easynegative' works only with a file",
    "a fox BREAK a river": "'BREAK' is read as a word",
    "a fox AND a river": "'AND' is read as a word",
    "a [cat:dog:0.5] in snow": "'[cat:dog:0.5]' is read as words",
    "a [fox:10] in snow": "'[fox:10]' is read as words",
    "a [b:c:0.3,0.7] fox": "'[b:c:0.3,0.7]' is read as words",
    "a [fox:[fox, wolf:wolf:0.7]:0.3] in snow": "'[fox, wolf:wolf:0.7]' is read as words",
    "a [fox:0.2:wolf:0.5:bear] in snow": "'[fox:0.2:wolf:0.5:bear]' is read as words",
    "a [red|blue] fox": "'[red|blue]' is read as words",
    "a fox\nNegative prompt: blurry": "There is no negative prompt here",
    "a fox\nSteps: 20, Sampler: Euler a, CFG scale: 7": "There is no negative prompt here",
    "a fox --ar 16:9": "'--ar 16:9' is read as words",
    "a {red|blue} fox": "'{red|blue}' is read as it stands",
    f"{FOX} | {RIVER} again": "'|' divides nothing",
    "fox | snow | 8k": "'|' divides nothing",
    "1. a fox\n2. a river": "its parts are one prompt together",
    "Scene 1: a fox. Scene 2: a river": "its parts are one prompt together",
    "- a fox\n- a river": "its parts are one prompt together",
    "# Fox\na fox": "A comment begins with //",
    "// https://x.org\n[0s] a sign, https://fox.org/a\n[5s] b": "Of 'https://fox.org/a' only 'https:' is read",
    "a screen with http://fox": "Of 'http://fox' only 'http:' is read",
    f"[0s] {FOX} [5s] {RIVER}": "'[5s]' begins no scene inside of a line",
    f"[0s] {FOX}\n5s: {RIVER}": "line 2, '5s: a frozen river', begins no scene",
    f"[0s] {FOX}\n00:05 - {RIVER}": "line 2, '00:05 - a frozen river', begins no scene",
    f"[0s] {FOX}\n# Part two\n[5s] {RIVER}": "line 2, '# Part two', is read as part of the prompt",
    f'[0s] 0: "{FOX}", 24: <lora:x:1>': "'<lora:x:1>' loads nothing",
}

ORDINARY = [
    FOX,
    "Style: anime. A fox runs through the snow, golden light",
    "cinematic wide shot, aspect ratio 16:9, 35mm",
    "16:9 cinematic shot of a fox",
    "a clock that shows 10:30 above a street",
    "10:30 at night, a lonely street in rain",
    "at 10:30 a fox walks by",
    'a neon sign that reads "OPEN 24/7 | FOOD | GAS"',
    '"SALT AND PEPPER" on a label, close-up',
    "a family \U0001f468\u200d\U0001f469\u200d\U0001f467 at the beach, a heart \u2764\ufe0f",
    "3D render of a robot, 4k, 8 seconds of slow motion",
    "0s and 1s falling like green rain",
    "(masterpiece:1.2), ((best quality)), a fox",
    "a fox [close-up] in snow",
    "5 foxes running: one of them is white",
    "8mm film, 1990s, grain",
    "A man says: \u201cWe leave at 5:00.\u201d He turns around.",
    "the score is 3:1, the crowd cheers",
    "The camera moves slowly - then stops; the fox looks up.",
    "a fox, no text, no watermark",
    "A WIDE SHOT OF A FOX AND A WOLF",
    "\u4e00\u53ea\u7ea2\u8272\u7684\u72d0\u72f8\u5728\u96ea\u4e2d\uff0c\u955c\u5934\uff1a\u7279\u5199",
    "\u3010\u7535\u5f71\u611f\u3011\u4e00\u53ea\u72d0\u72f8",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 a fox",
    "50% opacity, f/1.8, ISO 100",
    "a computer screen with C++ code",
    "a fox in snow,\ngolden light between bare birches,\nthe camera gliding beside it",
    "1920s Paris, a cafe at 5 pm",
    "Shot 1: a fox looks up.",
    "#1 athlete on a podium",
    "first frame: a seed; last frame: a tree",
    "a|b test card",
    "2:1 anamorphic - a desert",
    "6:00, a storm over the sea\n7:00, calm",
    "12-year-old boy with a kite",
    "24 fps, shutter 180, 5s exposure",
    "day 1: calm sea. The next morning, 6:00: a storm",
]


def read(text: str) -> list[tuple[float, str]]:
    """The scenes of a text."""
    return [(scene.start_second, scene.prompt) for scene in parse_schedule(text, TRANSITIONS)]


def noted(text: str) -> tuple[str, ...]:
    """What is told of a text."""
    return tuple(note for scene in parse_schedule(text, TRANSITIONS) for note in scene.notes)


@pytest.mark.parametrize("habit", AS_MEANT)
def test_what_is_certain_is_read_as_it_is_meant(habit: str) -> None:
    assert (read(AS_MEANT[habit]), noted(AS_MEANT[habit])) == (TWO, ())


@pytest.mark.parametrize("text", REFUSED)
def test_another_syntax_is_refused_with_their_own_text_in_the_right_form(text: str) -> None:
    with pytest.raises(ScheduleError) as error:
        parse_schedule(text, TRANSITIONS)
    assert f"Write it like: {REFUSED[text]}" in str(error.value) and len(str(error.value)) < 450
    assert 1 <= error.value.line <= len(text.splitlines())


@pytest.mark.parametrize("text", [text for text in REFUSED if not text.startswith(("[", "#", "My", FOX + "\n"))])
def test_behind_a_time_of_ours_the_same_is_one_prompt(text: str) -> None:
    assert read(f"[0s] {' '.join(text.split())}") == [(0.0, " ".join(read_prompt(text).split()))]


@pytest.mark.parametrize("text", TOLD)
def test_what_does_nothing_is_told(text: str) -> None:
    (note,) = noted(text)
    assert TOLD[text] in note


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_prompt_passes_untouched_and_without_a_word(text: str) -> None:
    one_line = " ".join(text.split())
    assert (read(text), noted(text)) == ([(0.0, one_line)], ())
    assert (read(f"[0s] {one_line}"), noted(f"[0s] {one_line}")) == ([(0.0, one_line)], ())
    assert read_live_prompt(text) == (one_line, ())


def test_lines_are_counted_in_the_text_as_it_was_written() -> None:
    text = f"// film\n/* one\r\ntwo */\n[0s] {FOX} /* three\nfour */\nstill\n/*\n*/ [soon] {RIVER}"
    with pytest.raises(ScheduleError, match=r"Schedule line 8 begins with \[soon\]"):
        parse_schedule(text, TRANSITIONS)


def test_comments_and_escapes_are_those_of_the_hosts_prompt_box() -> None:
    assert read("a fox // b\nc /* d\n */ e // f") == [(0.0, "a fox c e")]
    assert read(r"a \{red|blue\} fox \(1\)") == [(0.0, r"a {red|blue} fox \(1\)")]
    with pytest.raises(ScheduleError, match="The schedule is empty"):
        parse_schedule("\ufeff // nothing\n", TRANSITIONS)


@pytest.mark.parametrize(
    "text",
    ["[{5|8}s] a", "[0s] a\n{[5s]|[8s]} b", "[0s] a {b|\n [5s] c}", "{|x}[0s] a", "[0s] a\n[5s {cut|soft}] b"],
)
def test_a_choice_that_decides_about_times_is_found(text: str) -> None:
    found = choice_of_times(text)
    assert found is not None and found == " ".join(text[text.index("{") : text.index("}") + 1].split(" "))


@pytest.mark.parametrize(
    "text",
    [
        "a {red|blue} fox",
        "[0s] a {red|blue} fox\n[5s] {a|b}",
        "[0s] {a [wide]|[close] b} fox",
        "[0s] a {b|\nc}\n[5s] d",
        r"[0s] a" + "\n" + r"\{[5s]|[8s]\}",
        "// {[5s]|a}\n[0s] a",
        "no choice",
    ],
)
def test_a_choice_inside_of_a_prompt_decides_about_no_time(text: str) -> None:
    assert choice_of_times(text) is None


def test_while_the_page_has_not_drawn_yet_choices_are_told_as_such() -> None:
    text = r"[0s] a {red|{white|grey}} fox, {a|b} \{c|d\} // {e|f}"
    assert choice_notes(text) == ("{red|{white|grey}} (and 1 more) is drawn when you press Run.",)
    assert parse_schedule(text, TRANSITIONS, is_drawn=True)[0].notes == ()
    assert choice_notes(r"a {big} \{red|blue\} fox") == ()


@pytest.mark.parametrize(
    "text", [f"[5s] {RIVER}", f"\u30105s\u3011{RIVER}", f"- [5s cut] {RIVER}", f"0s: {FOX}\n5s: {RIVER}", f'0: "{FOX}"']
)
def test_a_live_prompt_with_times_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError, match="It takes over at the next chunk. Send one prompt without times"):
        read_live_prompt(text)


def test_a_live_prompt_is_read_as_a_scene_is() -> None:
    prompt, notes = read_live_prompt(f"\ufeff{RIVER} // later\n<lora:x:1>")
    assert prompt == f"{RIVER} <lora:x:1>"
    assert notes == (
        "The live prompt: '<lora:x:1>' loads nothing and is read as words. A LoRA is an input of Load AR Model.",
    )


SIGNS = st.text(alphabet='ab {}|[]():"-/*#.,0159s\ufeff\u200d\n\u3010\u3011', max_size=60)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(SIGNS)
def test_a_prompt_that_was_read_is_read_the_same_from_the_schedule_that_is_told(text: str) -> None:
    """As older versions read it, too: their prompt is then recognised."""
    try:
        prompts = [scene.prompt for scene in parse_schedule(text, TRANSITIONS)]
    except ScheduleError:
        prompts = []
    for prompt in prompts:
        assert read(write_schedule([Scene(0.0, None, prompt, None)])) == [(0.0, prompt)]
    older = " ".join(text.split())
    if read_prompt(older):
        ((_, again),) = read(write_schedule([Scene(0.0, None, older, None)]))
        assert again in (older, read_prompt(older))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(SIGNS)
def test_choices_of_any_text_are_looked_for(text: str) -> None:
    found = choice_of_times(text)
    assert found is None or found.startswith("{")


SIGNS_OF_SYNTAX = (*'[{/_ \n\r\u200d"|#a', "{|", "/*", "/* ", "[a:", "0:", " | ", "- ", "<lora:", "http://")


@pytest.mark.parametrize("sign", SIGNS_OF_SYNTAX)
def test_no_text_takes_long(sign: str) -> None:
    text = sign * (60_000 // len(sign))
    for whole in (text, f"[0s] a {text} b"):
        began = time.monotonic()
        choice_of_times(whole)
        with contextlib.suppress(ScheduleError):
            parse_schedule(whole, TRANSITIONS)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "read"),
    [("/* a fox", "/* a fox"), ("/* a // b\n/* c", "/* a /* c"), ("/*/ a", "/*/ a"), ("/* a */ b /* c", "b /* c")],
)
def test_a_comment_that_is_never_closed_is_none(text: str, read: str) -> None:
    assert read_prompt(text) == read
