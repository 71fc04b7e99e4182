"""Cases for tests that ask a driver directly: two rubrics that share a view, and a call of our own."""

from typing import Any

from critic.drivers.base import Case
from critic.local import Reading
from rubrics import CallView, Rubric, new_fence, rubric_of

LEVELS = ", ".join(f'"situation {level}"' for level in range(1, 8))
SOURCE = """{{% set question = "How is its {name}?" %}}
{{% set levels = [{levels}] %}}
Asked:
{{{{ input }}}}

Answered:
{{{{ output }}}}
"""


def rubric(name: str, *, more: str = "") -> Rubric:
    """Return a rubric whose view all others made here share; `more` are further settings."""
    return rubric_of(name, more + SOURCE.format(name=name, levels=LEVELS))


RUBRICS = (rubric("accuracy"), rubric("tone"))


def case_of(rubrics: tuple[Rubric, ...] = RUBRICS, **call: Any) -> Case:
    """Return a case of one call; `call` are fields of `CallView`."""
    fields: dict[str, Any] = {"input": "Where is my parcel?", "output": "It arrives tomorrow.", **call}
    view_of, fence = CallView(**fields), new_fence()
    reading = Reading(None, None, {}, None, None, None, {})
    return Case(view_of, rubrics[0].render(view_of, fence=fence), fence, rubrics, reading)
