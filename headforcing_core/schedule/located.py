"""Where the scenes of a schedule stand in its text, and changes to the text that leave the rest of it as it is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .header_times import rewritten
from .reading import SEPARATOR, read_header
from .scenes import Scene
from .written_text import JOINERS, WrittenLine, read_line, written_lines

Change: TypeAlias = "tuple[int, int, str]"
"""From where to where a text is replaced, and by what."""
_OPENING = re.compile("[\\[\uff3b\u3010\u3014]")
_LINE_BREAK = re.compile(r"\r\n|[\s\S]")


@dataclass(frozen=True)
class Block:
    """A scene in its text: all lines of the text, those of them from its time to its last words, what its brackets hold
    and where, and where in its lines its prompt stands (line, first sign, end)."""

    scene: Scene
    all_lines: Sequence[WrittenLine]
    first: int
    last: int
    inside: str
    inside_places: Sequence[int]
    words: Sequence[tuple[int, int, int]]

    @property
    def begin(self) -> int:
        """Where its first line begins."""
        return self.all_lines[self.first].begin

    @property
    def end(self) -> int:
        """Where its last line ends, comments included."""
        return self.all_lines[self.last].end

    @property
    def written_prompt(self) -> str:
        """Its prompt as it is written, without comments: choices and escapes stay."""
        return " ".join(" ".join(self.all_lines[line].text[begin:end] for line, begin, end in self.words).split())

    def header_of(self, scene: Scene) -> str:
        """What brackets hold for another scene, in the notation of this one."""
        return rewritten(self.inside, self.scene, scene).strip()


def locate(text: str, scenes: Sequence[Scene]) -> list[Block]:
    """Where the scenes that a text is read as stand in it; each of them has a time."""
    lines = written_lines(text)
    numbers = [line.number for line in lines]
    firsts = [numbers.index(scene.line) for scene in scenes]
    ends = [*firsts[1:], len(lines)]
    return [_block(scene, lines, *bounds) for scene, *bounds in zip(scenes, firsts, ends, strict=True)]


def _block(scene: Scene, lines: Sequence[WrittenLine], first: int, end: int) -> Block:
    text = lines[first].text
    header = read_header(text.lstrip(JOINERS + " \t"))
    opening = _OPENING.search(text)
    assert header is not None and header.inside is not None and opening is not None
    inside = opening.end()
    closing = inside + len(header.inside)
    rest = closing + 1 + text[closing + 1 :].find(header.rest)
    last = max(line for line in range(first, end) if line == first or read_line(lines[line].text).strip())
    spans = [(first, rest, rest + len(header.rest))]
    spans += [(line, 0, len(lines[line].text)) for line in range(first + 1, last + 1) if read_line(lines[line].text)]
    places = lines[first].places[inside:closing]
    return Block(scene, lines, first, last, header.inside, places, tuple(_words(lines, spans)))


def _words(lines: Sequence[WrittenLine], spans: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """The spans without space around them, and without what divides a time from its prompt."""
    begun = False
    for line, begin, end in spans:
        words = lines[line].text[begin:end].rstrip()
        end = begin + len(words)
        begin += len(words) - len(words.lstrip())
        if not begun and (divided := SEPARATOR.match(lines[line].text[begin:end] + " ")):
            begin = min(end, begin + divided.end())
        if begin < end:
            begun = True
            yield line, begin, end


def changed_headers(blocks: Sequence[Block], wanted: Sequence[Scene]) -> Iterator[Change]:
    """The changes by which each scene gets the times and the transition of the wanted one."""
    for block, scene in zip(blocks, wanted, strict=True):
        old, new, places = block.inside, rewritten(block.inside, block.scene, scene), block.inside_places
        same = _same(old, new)
        tail = _same(old[same:][::-1], new[same:][::-1])
        if old == new:
            continue
        begin = places[same] if same < len(old) else places[-1] + 1
        end = places[len(old) - tail - 1] + 1 if same + tail < len(old) else begin
        yield begin, end, new[same : len(new) - tail]


def _same(one: str, other: str) -> int:
    """How many signs two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def changed_words(text: str, block: Block, prompt: str) -> list[Change]:
    """The changes by which a scene gets another prompt; comments between the words stay."""
    changes: list[Change] = []
    for number, (at, begin, end) in enumerate(block.words):
        line, new = block.all_lines[at], "" if number else prompt
        if number and not text[line.begin : line.end].strip().replace(line.text.strip(), "", 1):
            changes.append((block.all_lines[at - 1].end, line.end, ""))  # nothing else stands on it
            continue
        for run in _runs(line.places[begin:end]):
            words = text[run[0] : run[-1] + 1]
            if words.strip():
                first = run[0] + len(words) - len(words.lstrip())
                changes.append((first, first + len(words.strip()), new))
                new = ""
    return changes


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Places that follow each other, together."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] + 1 == place:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def taken_out(text: str, block: Block, with_comments: bool) -> Change:
    """The change by which a scene goes, with the comments on the lines right above it, if asked for."""
    lines, first, last = block.all_lines, block.first, block.last

    def is_blank(line: int) -> bool:
        return not text[lines[line].begin : lines[line].end].strip()

    while with_comments and first and not lines[first - 1].text.strip() and not is_blank(first - 1):
        first -= 1
    while first and last + 1 < len(lines) and is_blank(first - 1) and is_blank(last + 1):
        last += 1
    begin, end = lines[first].begin, lines[last].end
    if last + 1 < len(lines):
        return begin, lines[last + 1].begin, ""
    if line_break := _LINE_BREAK.match(text, end):
        return begin, line_break.end(), ""
    return (lines[first - 1].end if first else begin), end, ""


def newline_of(text: str) -> str:
    """How the lines of a text end."""
    return next((line_break for line_break in ("\r\n", "\n", "\r") if line_break in text), "\n")


def one_line(prompt: str) -> str:
    """A prompt on one line, as it is written: choices and escapes stay, comments and lines that only divide do not."""
    return " ".join(" ".join(line.text for line in written_lines(prompt) if read_line(line.text)).split())


def spliced(text: str, changes: Iterator[Change] | Sequence[Change]) -> str:
    """A text with changes, none of which overlap."""
    for begin, end, new in sorted(changes, reverse=True):
        text = text[:begin] + new + text[end:]
    return text
