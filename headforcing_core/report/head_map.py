"""Pictures of a head profile and of a run, drawn with Pillow."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from ..heads.profile import HeadProfile
from ..policy.cache_policy import HEAD_TYPES
from ..rollout.loop import Chunk

# light blue, dark blue, orange: far apart in lightness, or from blue to yellow, which red-green blindness leaves intact
COLOURS: Mapping[str, str] = {"local": "#7CC8F0", "anchor": "#00497A", "memory": "#E69F00"}
_LETTER_COLOURS: Mapping[str, str] = {"local": "#000000", "anchor": "#FFFFFF", "memory": "#000000"}
_TIER_SHADES: Mapping[str, str] = {"sink": "#0072B2", "episode": "#E69F00", "recent": "#56B4E9"}
_BACKGROUND, _INK, _FAINT = "#FFFFFF", "#1A1A1A", "#D0D0D0"
_LEAST_WIDTH = 640
_TIMELINE_WIDTHS = (960, 4096)
_LONGEST_LABEL = 300


def draw_profile(profile: HeadProfile, title: str) -> Image.Image:
    """Layers down, heads across, a coloured and lettered cell each; legend with counts below."""
    cell = max(22, min(44, 560 // profile.heads))
    left, top, legend = 70, 78, 40 + 26 * (len(HEAD_TYPES) + 1)
    width = max(_LEAST_WIDTH, left + cell * profile.heads + 30)
    image = Image.new("RGB", (width, top + cell * profile.layers + legend), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((left, 14), title, fill=_INK, font=_font(22))
    draw.text((left, 44), "head", fill=_INK, font=_font(14))
    draw.text((left - 46, top - 18), "layer", fill=_INK, font=_font(14))
    for head in range(profile.heads):
        if cell >= 30 or head % 2 == 0:
            _centred(draw, (left + cell * (head + 0.5), top - 10), str(head), _INK, 13)
    for layer, row in enumerate(profile.labels):
        y = top + cell * layer
        draw.text((left - 28, y + cell / 2 - 8), str(layer), fill=_INK, font=_font(13))
        for head, label in enumerate(row):
            x = left + cell * head
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=COLOURS[label])
            _centred(draw, (x + cell / 2 - 1, y + cell / 2 - 1), label[0].upper(), _LETTER_COLOURS[label], cell // 2)
    y = top + cell * profile.layers + 16
    for label, count in profile.counts.items():
        draw.rectangle((left, y, left + 20, y + 18), fill=COLOURS[label], outline=_INK)
        share = 100 * count / (profile.layers * profile.heads)
        draw.text(
            (left + 30, y), f"{label[0].upper()}  {label}: {count} heads ({share:.0f} %)", fill=_INK, font=_font(15)
        )
        y += 26
    draw.text((left, y), _reliability_line(profile), fill=_INK, font=_font(13))
    return image


def draw_timeline(chunks: Sequence[Chunk], starts: Sequence[float], segments: Sequence[tuple[int, str]]) -> Image.Image:
    """Time to the right, one panel per head type: which frames each chunk read, coloured by tier. Prompt segments, as
    (first chunk, prompt), stand along the top."""
    left, right, top, panel, gap = 90, 20, 86, 130, 26
    width = min(max(_TIMELINE_WIDTHS[0], left + right + 8 * len(chunks)), _TIMELINE_WIDTHS[1])
    image = Image.new("RGB", (width, top + (panel + gap) * len(HEAD_TYPES) + 50), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    span = width - left - right
    step = span / len(chunks)
    last_frame = max(1, chunks[-1].frames[1])
    for number, (first, prompt) in enumerate(segments):
        x = left + step * first
        end = left + step * segments[number + 1][0] if number + 1 < len(segments) else width - right
        draw.line((x, 30, x, top + (panel + gap) * len(HEAD_TYPES) - gap), fill=_FAINT, width=1)
        draw.rectangle((x, 30, end - 2, 54), fill="#EDEDED" if number % 2 else "#DADADA")
        draw.text((x + 5, 34), _fitted(draw, prompt, end - x - 10), fill=_INK, font=_font(13))
    draw.text(
        (left, 8), "what each head type reads, chunk by chunk (height: frame that is read)", fill=_INK, font=_font(14)
    )
    for number, head_type in enumerate(HEAD_TYPES):
        y = top + (panel + gap) * number
        draw.rectangle((left, y, width - right, y + panel), outline=_FAINT)
        draw.text((10, y + panel / 2 - 9), head_type, fill=_INK, font=_font(15))
        for place, chunk in enumerate(chunks):
            x = left + step * place
            for frame, _, tier in chunk.seen[head_type]:
                low = y + panel - panel * frame / last_frame
                high = min(low - 2, y + panel - panel * (frame + 1) / last_frame)
                draw.rectangle((x, max(y, high), max(x + 1, x + step - 1), low), fill=_TIER_SHADES[tier])
    bottom = top + (panel + gap) * len(HEAD_TYPES) - gap
    for place in range(0, len(chunks), max(1, len(chunks) // 8)):
        _centred(draw, (left + step * place, bottom + 14), f"{starts[place]:.1f} s", _INK, 12)
    for number, (tier, colour) in enumerate(_TIER_SHADES.items()):
        x = left + 130 * number
        draw.rectangle((x, bottom + 34, x + 16, bottom + 48), fill=colour, outline=_INK)
        draw.text((x + 24, bottom + 33), tier, fill=_INK, font=_font(14))
    return image


def _reliability_line(profile: HeadProfile) -> str:
    if profile.masses is None:
        return f"rule {profile.rule.rule}: nothing was measured"
    verdict = "reliable" if profile.reliable else "below 0.9: measure on more prompts"
    return f"rule {profile.rule.rule}, protocol {profile.protocol}; {profile.reliability_text} ({verdict})"


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _centred(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str, size: int) -> None:
    draw.text(at, text, fill=colour, font=_font(size), anchor="mm")


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: float) -> str:
    text = " ".join(text[:_LONGEST_LABEL].split())
    if draw.textlength(text, font=_font(13)) <= width:
        return text
    letters = bisect_right(range(len(text)), width, key=lambda count: draw.textlength(text[:count] + "...", _font(13)))
    return text[: letters - 1] + "..." if letters > 1 else ""
