"""What a rubric's template may say: the fields of a call, the settings, the limits.

Kept small on purpose. A template prints fields, asks whether one is there or equals a word, and loops over
passages or messages. It calls nothing, filters nothing and computes nothing, so there is nothing to escape
from and its size is known before it runs. `checking` refuses everything else by file and line.
"""

from functools import lru_cache

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Fields that `{{ name }}` (or `{{ call.name }}`) prints, and the most characters that one printing costs,
#: fences included. A longer text keeps head and tail with an explicit gap.
FIELD_CHARS_MAX = {
    "input": 32_000,
    "last_user_message": 32_000,
    "output": 32_000,
    "context": 48_000,
    "prompt": 400,
    "prompt_version": 400,
    "model": 400,
    "finish_reason": 400,
}
#: One tag, `{{ tags.tier }}`.
TAG_CHARS_MAX = 600

#: What `{% for one in many %}` may loop over, and the field that its items are cut as.
LISTS = {"context": "context", "messages": "input"}

#: The most characters a view may come to, whatever the call: some 50,000 tokens.
VIEW_CHARS_MAX = 200_000
#: A rubric file's most bytes, and the most files of one folder.
FILE_BYTES_MAX = 65_536
RUBRICS_MAX = 100

SETTINGS = ("question", "levels", "applies_to", "weight", "reason_first", "visible")
LEVELS = 7
#: Characters of the question, and of one level.
SENTENCE_CHARS_MAX = 1_000

#: Failures the guard was taught to see, each planted in ordinary outputs; and "grounding", which is no
#: planted failure but how closely an output stays with its source.
VISIBLE = (
    "empty",
    "truncated",
    "off_topic",
    "wrong_language",
    "repeated",
    "refusal",
    "swapped",
    "rude",
    "grounding",
)


def finalize(value: object) -> object:
    """Let pass what a checked template can print; the second lock should the check have a hole.

    Raises:
        TypeError: a raw value was about to be printed.
    """
    if isinstance(value, str) or getattr(value, "fenced", None) is True:
        return value
    raise TypeError(f"a view prints fenced fields and its own words, not {type(value).__name__}")


def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that rubrics are parsed and rendered in; it has no loader, filter or global."""
    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        finalize=finalize,
        cache_size=0,
    )
    made.globals.clear()
    made.filters.clear()
    made.tests.clear()
    return made


def lexing_environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that splits a file into tokens which add up to the file again."""
    return ImmutableSandboxedEnvironment(keep_trailing_newline=True, cache_size=0)


@lru_cache(maxsize=256)
def compile_view(view: str) -> Template:
    """Return a view ready to be rendered."""
    return environment().from_string(view)
