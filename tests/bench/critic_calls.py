"""The calls and rubrics of `make bench BENCH=critic`: four rubrics that see the same, one request a call."""

from pathlib import Path

MODEL = "gpt-6-luna"
RUBRICS = ("accuracy", "completeness", "fluency", "tone")
_RUBRIC = """{{% set question = "How is the {name} of the answer?" %}}
{{% set levels = [{levels}] %}}
Asked:
{{{{ input }}}}

Answered:
{{{{ output }}}}
"""


def write_rubrics(folder: Path) -> None:
    """Put the four rubrics there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in RUBRICS:
        levels = ", ".join(
            f'"the {name} is such that a reader of level {level} would act on it"' for level in range(1, 8)
        )
        (folder / f"{name}.jinja").write_text(_RUBRIC.format(name=name, levels=levels))


def text_of(number: int) -> tuple[str, str]:
    """Return input and output of a call; its number stands in it, so that the provider can count it."""
    asked = f"CASE {number}. Where is my parcel with the red ribbon that I ordered on the {number % 28}th?"
    answered = "It left Leipzig this morning and arrives tomorrow between nine and twelve. " * 6
    return asked, answered.strip()
