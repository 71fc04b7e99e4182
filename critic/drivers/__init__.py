"""One file per kind of critic, one method each: a rendered case in, seven probabilities or a reason out.

Used by critic.working.worker; imports `critic.drivers.base` and, where needed, `critic.local` and a
provider's SDK. Data comes from `rubrics` (the rendered view, the levels) and goes to
`critic.queue.finish`.
"""

from critic.drivers.base import (
    Answer,
    CannotJudge,
    Case,
    CriticError,
    CriticMisconfigured,
    CriticUnavailable,
    Driver,
    Refused,
)
from critic.drivers.configured import build, build_one, wanted

__all__ = [
    "Answer",
    "CannotJudge",
    "Case",
    "CriticError",
    "CriticMisconfigured",
    "CriticUnavailable",
    "Driver",
    "Refused",
    "build",
    "build_one",
    "wanted",
]
