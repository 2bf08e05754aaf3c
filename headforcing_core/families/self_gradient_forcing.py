"""Self Gradient Forcing (zhuang2002/Self_Gradient_Forcing; weights JunhaoZhuang/Self_Gradient_Forcing; Apache-2.0)."""

from .family import FOUR_STEPS, Family, Window

CHUNKWISE = Family(3, FOUR_STEPS, trained_frames=12, window=Window(3, 6))
FRAMEWISE = Family(1, FOUR_STEPS, window=Window(4, 16))
