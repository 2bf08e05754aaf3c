"""The map of a head profile, drawn with Pillow."""

from collections.abc import Mapping

from PIL import Image, ImageDraw

from ..heads.profile import HeadProfile
from ..policy.head_types import HEAD_TYPES
from .drawing import BACKGROUND, COLOURS, INK, centred, font

_LETTER_COLOURS: Mapping[str, str] = {"local": "#000000", "anchor": "#FFFFFF", "memory": "#000000"}
_LEAST_WIDTH = 640


def draw_profile(profile: HeadProfile, title: str) -> Image.Image:
    """Layers down, heads across, a coloured and lettered cell each; legend with counts below."""
    cell = max(22, min(44, 560 // profile.heads))
    left, top, legend = 70, 78, 40 + 26 * (len(HEAD_TYPES) + 1)
    width = max(_LEAST_WIDTH, left + cell * profile.heads + 30)
    image = Image.new("RGB", (width, top + cell * profile.layers + legend), BACKGROUND)
    draw = ImageDraw.Draw(image)
    draw.text((left, 14), title, fill=INK, font=font(22))
    draw.text((left, 44), "head", fill=INK, font=font(14))
    draw.text((left - 46, top - 18), "layer", fill=INK, font=font(14))
    for head in range(profile.heads):
        if cell >= 30 or head % 2 == 0:
            centred(draw, (left + cell * (head + 0.5), top - 10), str(head), INK, 13)
    for layer, row in enumerate(profile.labels):
        y = top + cell * layer
        draw.text((left - 28, y + cell / 2 - 8), str(layer), fill=INK, font=font(13))
        for head, label in enumerate(row):
            x = left + cell * head
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=COLOURS[label])
            centred(draw, (x + cell / 2 - 1, y + cell / 2 - 1), label[0].upper(), _LETTER_COLOURS[label], cell // 2)
    y = top + cell * profile.layers + 16
    for label, count in profile.counts.items():
        draw.rectangle((left, y, left + 20, y + 18), fill=COLOURS[label], outline=INK)
        share = 100 * count / (profile.layers * profile.heads)
        draw.text(
            (left + 30, y), f"{label[0].upper()}  {label}: {count} heads ({share:.0f} %)", fill=INK, font=font(15)
        )
        y += 26
    draw.text((left, y), _reliability_line(profile), fill=INK, font=font(13))
    return image


def _reliability_line(profile: HeadProfile) -> str:
    if profile.masses is None:
        return f"rule {profile.rule.rule}: nothing was measured"
    verdict = "reliable" if profile.reliable else "below 0.9: measure on more prompts"
    return f"rule {profile.rule.rule}, protocol {profile.protocol}; {profile.reliability_text} ({verdict})"
