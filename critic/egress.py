"""Whose texts may go where: LOWLIGHT_EGRESS as rules, and what they say of a critic, a project and a prompt.

Grammar: rules separated by commas, each `PATTERN` or `WHO:PATTERN`.

    support-*                  prompts of the default project, to any configured provider
    openai:support-*           the same, to OpenAI alone
    openai/shop:support-*      prompts of the project "shop", to OpenAI alone
    */shop:*                   everything of the project "shop", to any configured provider

PATTERN matches a prompt's name as in a shell (`*`, `?`, `[ab]`); `*` also matches calls without a prompt
name. WHO is the word before the colon in LOWLIGHT_CRITIC (`openai`), the host of a critic that is named by
its address (`openrouter.ai`), or `*` for any. What stands before a colon and is none of them is part of the
pattern: prompts may have a colon in their names. Without a rule nothing leaves this machine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

#: What stands before the colon in LOWLIGHT_CRITIC, configured or not: a rule for one of them that is not in
#: use must not be read as a pattern of prompts.
KINDS = ("local", "openai", "anthropic", "systemone", "chat-logprobs", "chat-draws")
DEFAULT_PROJECT_NAME = "default"


@dataclass(frozen=True)
class Rule:
    """Texts of one project's prompts may go to one provider, "*" for any."""

    provider: str
    project: str
    pattern: str

    def is_for(self, critic: str) -> bool:
        """Whether it speaks of a critic ("openai:gpt-6-luna")."""
        return self.provider == "*" or self.provider in providers_of(critic)


class Egress:
    """The rules of LOWLIGHT_EGRESS.

    Args:
        setting: as written.
        critics: the configured ones, for the hosts among them.
    """

    def __init__(self, setting: str, critics: Iterable[str]) -> None:
        known = {"*", *KINDS, *(name for critic in critics for name in providers_of(critic))}
        written = (rule.strip() for rule in setting.split(","))
        self.rules: Sequence[Rule] = tuple(_rule(rule, known) for rule in written if rule)

    def allows(self, critic: str, project: str, prompt: str) -> bool:
        """Whether texts of a prompt's calls may go to a critic ("openai:gpt-6-luna")."""
        return any(
            rule.is_for(critic) and rule.project == project and fnmatchcase(prompt, rule.pattern)
            for rule in self.rules
        )

    def rules_for(self, critic: str) -> tuple[Rule, ...]:
        """Return the rules by which a critic may be sent anything."""
        return tuple(rule for rule in self.rules if rule.is_for(critic))


def providers_of(critic: str) -> frozenset[str]:
    """Return the names a rule may call a critic's provider by: its kind, and the host of an address."""
    kind, _, of_what = critic.partition(":")
    host = urlsplit(of_what.partition("#")[0]).hostname if "#" in of_what else None
    return frozenset((kind, host) if host else (kind,))


def _rule(written: str, known: set[str]) -> Rule:
    who, colon, pattern = written.partition(":")
    provider, slash, project = who.strip().partition("/")
    if colon and provider in known and (not slash or project):
        return Rule(provider, project or DEFAULT_PROJECT_NAME, pattern.strip())
    return Rule("*", DEFAULT_PROJECT_NAME, written)
