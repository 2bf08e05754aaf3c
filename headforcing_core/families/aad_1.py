"""AAD-1 (weights Watay/AAD-1, of which a merged file is needed; licence not known): Wan 2.1 14B in one step. Chunk and
window as its paper and model card have them; its configuration was not seen."""

from .family import LARGE, Family, Steps, Window

AAD_1 = Family(4, Steps((1.0, 0.0)), window=Window(1, 8), size=LARGE)
