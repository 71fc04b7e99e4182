"""The local critic: guard, grounding and label heads, computed from the texts without a model.

Imported by critic's drivers and worker; imports nothing of ours but the standard library and numpy.
Data comes from call texts (`Texts`) and goes to `guard_reading` and score rows (`Reading`, `Grade`).
"""

from critic.local.critic import Grade, LocalCritic, Reading, Ungraded, fit_guard
from critic.local.texts import Texts, input_text

__all__ = ["Grade", "LocalCritic", "Reading", "Texts", "Ungraded", "fit_guard", "input_text"]
