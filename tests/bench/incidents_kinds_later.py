"""Kinds of incidents that were thought of when the search was done: nothing was tuned on them.

Flow: importing this module enters them into tests.bench.incidents_kinds.KINDS. They go where the first do
not: what grows with the answer, what is short, an environment, a weekend, all but one value of a field.
"""

import numpy as np

from outliers.conditions import Condition
from tests.bench.incidents_kinds import Planted, Site, kind, versioned
from tests.bench.incidents_traffic import DAY_MS
from tests.bench.incidents_world import LANGUAGES, MODELS, PLANS, PROMPTS, REGIONS, TENANTS, TOOLS


def _is(field: str, value: str, key: str = "") -> Condition:
    return Condition(field, "=", value, key)


@kind(tuned=False)
def answers_grew_long(site: Site) -> Planted | None:
    """A new prompt version writes many times as much, and people wait for all of it."""
    calls, prompt = site.traffic, site.one(site.traffic.prompt, 99)
    mine = calls.prompt == prompt
    if np.median(calls.output_tokens[mine]) < 100:  # what is short takes no longer for being told at length
        return None
    version = int(calls.prompt_version[mine].max()) + 1
    exposed = mine & site.within(site.since())
    calls.prompt_version[exposed] = version
    calls.output_tokens[exposed] *= np.round(site.source.uniform(5, 9))
    calls.spoiled_by[exposed & (calls.spoiled_by < 0)] = site.place
    return Planted("answers_grew_long", (_is("prompt_version", versioned(prompt, version)),), exposed)


@kind(tuned=False)
def index_of_a_tenant_is_empty(site: Site) -> Planted | None:
    """Retrieval finds nothing for one tenant, under a prompt that needs a source."""
    calls, tenant = site.traffic, site.one(site.traffic.tenant, TENANTS)
    prompt = site.one(calls.prompt, 99)
    mine = calls.prompt == prompt
    if (calls.context_chars[mine] > 0).mean() < 0.8:
        return None
    exposed = mine & (calls.tenant == tenant)
    calls.context_chars[exposed] = 0.0
    site.spoil(exposed, site.share(), "unfounded")
    said = [_is("tag", f"tenant-{tenant:02d}", "tenant"), _is("prompt", PROMPTS[prompt][0])]
    return Planted("index_of_a_tenant_is_empty", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def another_users_record(site: Site) -> Planted:
    """A tool hands out another user's record on one plan."""
    calls, tool = site.traffic, site.one(site.traffic.tool, len(TOOLS))
    plan = site.one(calls.plan, len(PLANS))
    exposed = (calls.tool == tool) & (calls.plan == plan)
    site.spoil(exposed, site.share(), "off_topic")
    said = [_is("tool", TOOLS[tool]), _is("tag", PLANS[plan], "plan")]
    return Planted("another_users_record", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def slow_in_staging(site: Site) -> Planted:
    """One model is slow in the staging environment alone."""
    calls, model = site.traffic, site.one(site.traffic.model, len(MODELS))
    exposed = calls.staging & (calls.model == model)
    site.slow(exposed, 2.5, 5.0)
    said = [_is("model", MODELS[model][1]), _is("environment", "staging")]
    return Planted("slow_in_staging", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def all_but_one_region(site: Site) -> Planted:
    """A prompt goes wrong for a day or two wherever it is served from, but in one region."""
    calls, prompt, span = site.traffic, site.one(site.traffic.prompt, 99), site.span(16, 48)
    region = site.one(calls.region, len(REGIONS))
    exposed = (calls.prompt == prompt) & (calls.region != region) & site.within(span)
    site.spoil(exposed, site.share(), "refusal")
    said = [_is("prompt", PROMPTS[prompt][0]), Condition("started_at", "within", span)]
    return Planted("all_but_one_region", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def a_language_at_the_weekend(site: Site) -> Planted:
    """From Saturday to Sunday one language gets answers that repeat themselves."""
    calls, language = site.traffic, site.one(site.traffic.language, len(LANGUAGES))
    span = (calls.since_ms + 5 * DAY_MS, calls.since_ms + 7 * DAY_MS)
    exposed = (calls.language == language) & site.within(span)
    site.spoil(exposed, site.share(), "repeated")
    said = [_is("input_language", LANGUAGES[language]), Condition("started_at", "within", span)]
    return Planted("a_language_at_the_weekend", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def short_inputs_of_a_prompt(site: Site) -> Planted:
    """Whoever asks one prompt something short is refused."""
    calls, prompt = site.traffic, site.one(site.traffic.prompt, 99)
    mine = calls.prompt == prompt
    limit = float(np.round(np.quantile(calls.input_tokens[mine], site.source.uniform(0.1, 0.35)), -1))
    exposed = mine & (calls.input_tokens < limit)
    site.spoil(exposed, site.share(), "refusal")
    said = [_is("prompt", PROMPTS[prompt][0]), Condition("input_tokens", "<", limit)]
    return Planted("short_inputs_of_a_prompt", (Condition.all_of(said),), exposed)
