"""An invented application: its prompts, models, tenants and people, and what is lastingly different there.

Flow: `make_world` (one seed) -> tests.bench.incidents_traffic draws its weeks. What differs here differs in
every week, so none of it is an incident: a prompt that is worse than the rest, a language that a model does
badly, a tenant that is never content, a slow service.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.bench.incidents_shapes import Floats, Shapes

Ints = NDArray[np.int64]

PROVIDERS = ("northwind", "kestrel", "basalt")
MODELS = (
    ("northwind", "aurora-2"),
    ("northwind", "aurora-2-mini"),
    ("kestrel", "peregrine-large"),
    ("kestrel", "peregrine-swift"),
    ("basalt", "slate-70b"),
)
PROMPTS = (
    ("support-answer", "chat"),
    ("faq", "chat"),
    ("summarise-contract", "documents"),
    ("draft-mail", "chat"),
    ("explain-code", "code"),
    ("translate-listing", "chat"),
    ("classify-ticket", "code"),
    ("research-brief", "documents"),
)
LANGUAGES = ("en", "de", "fr", "es", "pt", "ja", "pl")
REGIONS = ("eu-west", "eu-north", "us-east", "us-west", "ap-south")
TOOLS = ("search", "crm_lookup", "calculator", "calendar", "code_runner")
PLANS = ("free", "team", "enterprise")
#: What goes wrong without any incident, by the guard's words.
EVERYDAY_KINDS = ("off_topic", "truncated", "refusal", "repeated", "empty", "rude", "unfounded")
TENANTS = 40
USERS = 5_000


@dataclass(frozen=True)
class World:
    """One application; every array is indexed by the thing's place in the tuples above.

    Attributes:
        prompt_share, language_share, tenant_share, user_share: how often each occurs; they sum to 1.
        model_of_prompt: which models answer a prompt, shape (prompts, models), rows sum to 1.
        tool_of_prompt: which tool a prompt's calls use, last column none, shape (prompts, tools + 1).
        has_context: share of a prompt's calls with retrieved text.
        bad_of_prompt: share of a prompt's answers that are bad, in every week.
        bad_of_model, bad_of_language, bad_of_tenant, bad_of_user: factors on it, in every week.
        bad_of_pair: a factor for a prompt in a language, shape (prompts, languages).
        ms_per_input, ms_per_output, ms_start: latency of a model.
        slowness: latency over median of a real service, for each model.
        slow_of_prompt, slow_of_tool: lasting factors on latency.
        slow_by_hour: factor on each provider's latency by hour of the day, shape (providers, 24).
        tenant_of_user, region_of_user, language_of_user, plan_of_tenant: where people belong.
        tokens_scale: of a prompt's trace.
        votes: factor on a user's readiness to give a thumb; most have little.
    """

    prompt_share: Floats
    model_of_prompt: Floats
    tool_of_prompt: Floats
    has_context: Floats
    bad_of_prompt: Floats
    bad_of_model: Floats
    bad_of_language: Floats
    bad_of_tenant: Floats
    bad_of_user: Floats
    bad_of_pair: Floats
    ms_start: Floats
    ms_per_input: Floats
    ms_per_output: Floats
    slowness: tuple[Floats, ...]
    slow_of_prompt: Floats
    slow_of_tool: Floats
    slow_by_hour: Floats
    user_share: Floats
    tenant_of_user: Ints
    region_of_user: Ints
    language_of_user: Ints
    plan_of_tenant: Ints
    tokens_scale: Floats
    votes: Floats


def make_world(source: np.random.Generator, shapes: Shapes) -> World:
    """Draw an application."""
    prompts, models, tools = len(PROMPTS), len(MODELS), len(TOOLS)
    bad_of_prompt = source.lognormal(np.log(0.02), 0.5, prompts)
    bad_of_prompt[source.integers(prompts)] = 0.15  # one prompt is bad in every week
    bad_of_tenant = source.lognormal(0, 0.25, TENANTS)
    bad_of_tenant[source.integers(TENANTS)] *= 5  # one tenant is never content
    bad_of_pair = np.ones((prompts, len(LANGUAGES)))
    for _ in range(2):  # a prompt that does one language badly, in every week
        bad_of_pair[source.integers(prompts), source.integers(1, len(LANGUAGES))] = 5.0
    slow_of_prompt = source.lognormal(0, 0.2, prompts)
    slow_of_prompt[source.integers(prompts)] *= 2.5
    slow_of_tool = np.append(source.lognormal(0.3, 0.3, tools), 1.0)
    tenant_of_user = source.choice(TENANTS, USERS, p=_zipf(TENANTS, 0.9))
    home = source.choice(len(REGIONS), TENANTS, p=_zipf(len(REGIONS), 0.6))
    elsewhere = source.random(USERS) < 0.2
    region_of_user = np.where(
        elsewhere, source.integers(len(REGIONS), size=USERS), home[tenant_of_user]
    ).astype(np.int64)
    spoken = source.choice(len(LANGUAGES), len(REGIONS), p=_zipf(len(LANGUAGES), 0.5))
    mixed = source.random(USERS) < 0.5
    language_of_user = np.where(
        mixed, source.choice(len(LANGUAGES), USERS, p=_zipf(len(LANGUAGES), 1.1)), spoken[region_of_user]
    ).astype(np.int64)
    hours = np.arange(24)
    swing = source.uniform(0.05, 0.3, len(PROVIDERS))
    peak = source.integers(24, size=len(PROVIDERS))
    activity = source.pareto(1.5, USERS) + 0.2
    return World(
        prompt_share=source.permutation(_zipf(prompts, 0.7)),
        model_of_prompt=source.dirichlet(np.full(models, 0.5), prompts),
        tool_of_prompt=np.hstack(
            [
                source.dirichlet(np.full(tools, 0.3), prompts) * source.uniform(0.1, 0.6, (prompts, 1)),
                np.zeros((prompts, 1)),
            ]
        ),
        has_context=source.choice([0.0, 0.3, 0.9], prompts),
        bad_of_prompt=bad_of_prompt,
        bad_of_model=source.lognormal(0, 0.35, models),
        bad_of_language=source.lognormal(0, 0.2, len(LANGUAGES)),
        bad_of_tenant=bad_of_tenant,
        bad_of_user=source.lognormal(-0.125, 0.5, USERS),
        bad_of_pair=bad_of_pair,
        ms_start=source.uniform(150, 600, models),
        ms_per_input=source.uniform(0.02, 0.15, models),
        ms_per_output=source.uniform(6, 30, models),
        slowness=tuple(shapes.slowness[i] for i in source.integers(len(shapes.slowness), size=models)),
        slow_of_prompt=slow_of_prompt,
        slow_of_tool=slow_of_tool,
        slow_by_hour=1 + swing[:, None] * np.cos((hours[None, :] - peak[:, None]) * 2 * np.pi / 24),
        user_share=activity / activity.sum(),
        tenant_of_user=tenant_of_user,
        region_of_user=region_of_user,
        language_of_user=language_of_user,
        plan_of_tenant=source.choice(len(PLANS), TENANTS, p=[0.5, 0.35, 0.15]),
        tokens_scale=source.uniform(0.5, 1.5, prompts),
        votes=np.minimum(4.0, source.gamma(0.3, 1 / 0.3, USERS)),
    )


def _zipf(n: int, steepness: float) -> Floats:
    weights = 1.0 / np.arange(1, n + 1) ** steepness
    return np.asarray(weights / weights.sum())
