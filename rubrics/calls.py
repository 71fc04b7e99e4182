"""A call as a rubric sees it, and which calls a rubric applies to. Plain data, no table and no wire model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class CallView:
    """The fields of a call that a rubric's template may show. '' and () stand for not recorded."""

    #: plain text, or a list of messages as they were sent
    input: str | list[dict[str, Any]]
    output: str
    #: the passages that the application looked up for the answer
    context: tuple[str, ...] = ()
    prompt: str = ""
    prompt_version: str = ""
    model: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str | None = None
    #: characters of the texts as they were sent, where the store keeps only their heads and tails
    input_chars: int | None = None
    output_chars: int | None = None
    context_chars: int | None = None


@dataclass(frozen=True)
class AppliesTo:
    """Which calls a rubric is asked about: those that match every kind given, by any of its patterns.

    Patterns are shell-style (`support-*`) and tell upper from lower case. Empty means all.
    """

    prompts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    #: tag name, patterns of its value; a call without the tag does not match
    tags: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def matches(self, *, prompt: str, model: str, tags: Mapping[str, str]) -> bool:
        """Tell whether a call with these fields is one of them."""
        return (
            (not self.prompts or _any(self.prompts, prompt))
            and (not self.models or _any(self.models, model))
            and all(name in tags and _any(patterns, tags[name]) for name, patterns in self.tags)
        )

    def __str__(self) -> str:
        """Return it in words, such as "prompts support-*, faq; tag tier = gold"."""
        parts = []
        if self.prompts:
            parts.append(f"prompts {', '.join(self.prompts)}")
        if self.models:
            parts.append(f"models {', '.join(self.models)}")
        parts += [f"tag {name} = {' or '.join(patterns)}" for name, patterns in self.tags]
        return "; ".join(parts) or "every call"


def _any(patterns: tuple[str, ...], value: str) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
