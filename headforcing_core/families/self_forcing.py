"""Self-Forcing (guandeh17/Self-Forcing; code Apache-2.0, the page of the weights says CC BY-NC-SA 4.0): 1000, 750, 500,
250 warped by shift 5, chunks of three frames."""

from .family import FOUR_STEPS, Family

SELF_FORCING = Family(3, FOUR_STEPS)
