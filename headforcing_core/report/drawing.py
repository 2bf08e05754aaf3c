"""What pictures of a report have in common: colours, letters."""

from collections.abc import Mapping
from functools import lru_cache

from PIL import ImageDraw, ImageFont

# light blue, dark blue, orange: far apart in lightness, or from blue to yellow, which red-green blindness leaves intact
COLOURS: Mapping[str, str] = {"local": "#7CC8F0", "anchor": "#00497A", "memory": "#E69F00"}
BACKGROUND, INK, FAINT = "#FFFFFF", "#1A1A1A", "#D0D0D0"


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def centred(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str, size: int) -> None:
    draw.text(at, text, fill=colour, font=font(size), anchor="mm")
