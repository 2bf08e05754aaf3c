"""Words and signs that other tools act on and that do nothing here: told, since the text encoder reads them as text.

Weights such as (word:1.2) are not among them: the host applies them with Wan's text encoder too.
"""

import re
from collections.abc import Iterator, Sequence

from .foreign_schedules import is_timed
from .scenes import shown_line
from .times import read_times
from .written_text import Line

_HABITS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"<\s?(?:lora|lyco|lycoris|loha|hypernet|lora_block)\s?:[^<>]{1,200}>", re.IGNORECASE),
        "loads nothing and is read as words. A LoRA is an input of Load AR Model",
    ),
    (
        re.compile(r"(?<!\w)__[a-zA-Z0-9][\w /.*-]{0,80}?__(?!\w)"),
        "is read as it stands: there are no wildcards here. Of {red|blue} the text box draws one",
    ),
    (
        re.compile(r"(?<!\S)embedding:\s?[^\s,()<>\[\]]{1,100}"),
        "works only with a file of that name in models/embeddings that was made for umt5, Wan's text encoder; one for "
        "another model is left out",
    ),
    (
        re.compile(r"(?<![A-Z]{2} )(?<!\w)(?:BREAK|AND|ADDCOL|ADDROW|ADDBASE|ADDCOMM)(?!\w)(?! [A-Z]{2})"),
        "is read as a word: a prompt is encoded in one piece",
    ),
    (
        re.compile(
            r"\[(?=[^\[\]]{0,300}[^\W\d_])[^\[\]|]{1,300}(?<!\d):\s?\d{1,4}(?:\.\d{1,4})?(?:,\s?\d[\d.]{0,5})?\s?\]"
            r"|\[[^\[\]|]{1,200}:\s?\d?\.\d{1,4}\s?:[^\[\]|]{1,200}\]"
            r"|\[[^\[\]|]{1,200}(?:\|[^\[\]|]{1,200}){1,20}\]"
        ),
        "is read as words: a prompt changes only where a scene begins, on a line that begins with its time, as in [5s]",
    ),
    (
        re.compile(r"\bNegative prompt\s?:|\bSteps: \d{1,4}, Sampler: \w"),
        "and what follows it are read as part of the prompt. There is no negative prompt here: take it out",
    ),
    (
        re.compile(
            r"(?<!\S)--(?:ar|aspect|neg|niji|no|seed|stylize|chaos|style|sref|cref|[vnqswh])(?:\s\S{1,40})?(?!\S)"
        ),
        "is read as words: a prompt has no options",
    ),
)
_CHOICE = re.compile(r"\{[^{}]{0,400}\|[^{}]{0,400}\}")
_NOT_DRAWN = (
    "is read as it stands. Choices are drawn by the page, in the text box of Prompt Schedule, and by nothing else"
)
_BRACKETS = re.compile("[\\[\uff3b\u3010\u3014]([^\\[\\]\uff3d\u3011\u3015]{1,40})[\\]\uff3d\u3011\u3015]")
# words of a sign, say, and what has a note of its own
_NOT_READ = re.compile('"[^"]{0,200}"|\u201c[^\u201d]{0,200}\u201d|\\{[^{}]*\\}|\\[[^\\[\\]]*\\]')
_PIPE = re.compile(r"\s\|\s")
_MANY_WORDS = 3  # on both sides of one pipe; more than one pipe are none of an ordinary sentence
_NO_COMMENT = re.compile(r"\s*#{1,6}\s")
_PART = r"(?:scene|shot|clip|part|segment|prompt)\s?#?\d{1,3}\s?[.:)\-\u2013\u2014]"
_ADDRESS = re.compile(r"^(?:(?!//|/\*)[^\n])*?\b(\w{2,20}://\S{0,40})", re.MULTILINE)
_LIST = re.compile(rf"\s*(?:\*\*)?(?:\d{{1,3}}[.):]|[-*+\u2022]|{_PART})(?:\*\*)?\s+\S", re.IGNORECASE)
_PARTS = re.compile(rf"\b{_PART}", re.IGNORECASE)


def prompt_notes(prompt: str, where: str, is_drawn: bool = False) -> Iterator[str]:
    """A sentence for every habit of another tool in a prompt, which `where` names; of choices none if `is_drawn`: the
    page still draws them."""
    sentence = _NOT_READ.sub(lambda found: " " if found[0][0] in '"\u201c' else found[0], prompt)
    for habit, told in (*_HABITS, *((_CHOICE, _NOT_DRAWN),) * (not is_drawn)):
        found = list(habit.finditer(sentence))
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            yield f"{where}: {shown_line(found[0][0])!r}{more} {told}."
    for bracket in _BRACKETS.finditer(sentence):
        if read_times(bracket[1]) is not None:
            yield f"{where}: {bracket[0]!r} begins no scene inside of a line. Put it at the beginning of one."
            break
    parts = _PIPE.split(_NOT_READ.sub(" ", prompt))
    if len(parts) > 2 or (len(parts) == 2 and all(len(part.split()) >= _MANY_WORDS for part in parts)):
        yield f"{where}: '|' divides nothing and is read as a sign. Another scene begins with a time, as in [5s]."


def address_notes(text: str) -> Iterator[str]:
    """A sentence on an address in a text, of which a comment makes a stump."""
    if address := _ADDRESS.search(text):
        shown = address[1].partition("//")[0]
        yield f"Of {address[1]!r} only {shown!r} is read: // begins a comment, as in ComfyUI's own prompt box."


def line_notes(lines: Sequence[Line], where: str, is_scene: bool) -> Iterator[str]:
    """A sentence for lines of a prompt that look as if they began a scene or a comment; `is_scene` says that the first
    is that of its time."""
    for line in lines[1:] if is_scene else lines:
        shown = f"{where}: line {line.number}, {shown_line(line.text)!r},"
        if is_timed(line.text):
            yield f"{shown} begins no scene: its time is not in brackets. Write it like [5s]."
        elif _NO_COMMENT.match(line.text):
            yield f"{shown} is read as part of the prompt. A comment begins with //."
    text = "\n".join(line.text for line in lines)
    if not is_scene and (sum(bool(_LIST.match(line.text)) for line in lines) > 1 or len(_PARTS.findall(text)) > 1):
        yield f"{where}: its parts are one prompt together. A scene is a line that begins with its time, as in [5s]."
