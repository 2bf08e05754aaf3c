"""What each head type read, chunk by chunk, drawn with Pillow."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from ..policy.head_types import HEAD_TYPES
from ..rollout.loop import Chunk
from ..rollout.plan import Segment, Text
from .drawing import BACKGROUND, FAINT, INK, centred, font

_TIER_SHADES: Mapping[str, str] = {"sink": "#0072B2", "episode": "#E69F00", "recent": "#56B4E9", "pinned": "#CC79A7"}
_ALWAYS_SHOWN = ("sink", "episode", "recent")
_TIMELINE_WIDTHS = (960, 4096)
_LONGEST_LABEL = 300


def draw_timeline(chunks: Sequence[Chunk], starts: Sequence[float], segments: Sequence[Segment[Text]]) -> Image.Image:
    """Time to the right, one panel per head type: which frames each chunk read, coloured by tier. The prompts of the
    segments stand along the top, and a mark below the memory heads where it was chosen what they recall."""
    left, right, top, panel, gap = 90, 20, 86, 130, 26
    width = min(max(_TIMELINE_WIDTHS[0], left + right + 8 * len(chunks)), _TIMELINE_WIDTHS[1])
    image = Image.new("RGB", (width, top + (panel + gap) * len(HEAD_TYPES) + 50), BACKGROUND)
    draw = ImageDraw.Draw(image)
    span = width - left - right
    step = span / len(chunks)
    last_frame = max(1, chunks[-1].frames[1])
    for number, segment in enumerate(segments):
        x = left + step * segment.first_chunk
        end = left + step * segments[number + 1].first_chunk if number + 1 < len(segments) else width - right
        draw.line((x, 30, x, top + (panel + gap) * len(HEAD_TYPES) - gap), fill=FAINT, width=1)
        draw.rectangle((x, 30, end - 2, 54), fill="#EDEDED" if number % 2 else "#DADADA")
        draw.text((x + 5, 34), _fitted(draw, segment.prompt, end - x - 10), fill=INK, font=font(13))
    draw.text(
        (left, 8), "what each head type reads, chunk by chunk (height: frame that is read)", fill=INK, font=font(14)
    )
    for number, head_type in enumerate(HEAD_TYPES):
        y = top + (panel + gap) * number
        draw.rectangle((left, y, width - right, y + panel), outline=FAINT)
        draw.text((10, y + panel / 2 - 9), head_type, fill=INK, font=font(15))
        for place, chunk in enumerate(chunks):
            x = left + step * place
            for frame, _, tier in chunk.seen[head_type]:
                low = y + panel - panel * frame / last_frame
                high = min(low - 2, y + panel - panel * (frame + 1) / last_frame)
                draw.rectangle((x, max(y, high), max(x + 1, x + step - 1), low), fill=_TIER_SHADES[tier])
            if head_type == "memory" and chunk.choice is not None:
                draw.rectangle((x, y + panel + 2, max(x + 1, x + step - 1), y + panel + 6), fill=INK)
    bottom = top + (panel + gap) * len(HEAD_TYPES) - gap
    for place in range(0, len(chunks), max(1, len(chunks) // 8)):
        centred(draw, (left + step * place, bottom + 14), f"{starts[place]:.1f} s", INK, 12)
    met = {tier for chunk in chunks for seen in chunk.seen.values() for _, _, tier in seen}
    shown = [tier for tier in _TIER_SHADES if tier in _ALWAYS_SHOWN or tier in met]
    for number, tier in enumerate(shown):
        x = left + 130 * number
        draw.rectangle((x, bottom + 34, x + 16, bottom + 48), fill=_TIER_SHADES[tier], outline=INK)
        draw.text((x + 24, bottom + 33), tier, fill=INK, font=font(14))
    if any(chunk.choice is not None for chunk in chunks):
        x = left + 130 * len(shown)
        draw.rectangle((x, bottom + 39, x + 16, bottom + 43), fill=INK)
        draw.text((x + 24, bottom + 33), "chosen anew what memory heads recall", fill=INK, font=font(14))
    return image


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: float) -> str:
    text = " ".join(text[:_LONGEST_LABEL].split())
    if draw.textlength(text, font=font(13)) <= width:
        return text
    letters = bisect_right(range(len(text)), width, key=lambda count: draw.textlength(text[:count] + "...", font(13)))
    return text[: letters - 1] + "..." if letters > 1 else ""
