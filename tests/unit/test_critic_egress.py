"""LOWLIGHT_EGRESS: which prompts of which project may go to which provider."""

import pytest

from critic.egress import Egress

OPENAI, ANTHROPIC = "openai:gpt-6-luna", "anthropic:claude-haiku-5-5"
ROUTER = "systemone:https://openrouter.ai/api/v1#typesafe/jev"


@pytest.mark.parametrize(
    ("setting", "critic", "project", "prompt", "allowed"),
    [
        ("", OPENAI, "default", "faq", False),
        ("*", OPENAI, "default", "", True),
        ("*", OPENAI, "shop", "faq", False),
        ("support-*,faq", ANTHROPIC, "default", "faq", True),
        ("support-*,faq", ANTHROPIC, "default", "hr", False),
        ("openai:support-*", OPENAI, "default", "support-mail", True),
        ("openai:support-*", ANTHROPIC, "default", "support-mail", False),
        ("openai/shop:*", OPENAI, "shop", "faq", True),
        ("openai/shop:*", OPENAI, "default", "faq", False),
        ("*/shop:*", ANTHROPIC, "shop", "", True),
        ("openrouter.ai:faq", ROUTER, "default", "faq", True),
        ("openrouter.ai:faq", OPENAI, "default", "faq", False),
        ("team:faq", OPENAI, "default", "team:faq", True),
        ("anthropic:faq", OPENAI, "default", "anthropic:faq", False),
    ],
)
def test_a_rule_allows_what_it_names_and_nothing_else(
    setting: str, critic: str, project: str, prompt: str, allowed: bool
) -> None:
    assert Egress(setting, [OPENAI, ROUTER]).allows(critic, project, prompt) is allowed
