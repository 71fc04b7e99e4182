"""The kinds of incidents that are planted: a registry, so that others can add kinds nobody has tuned for.

Flow: a week's Traffic -> `plant` (draws kinds and plants each) -> Planted: the truth that findings are held
against. A kind is a function that picks whom it hits, changes those calls, and says the condition as the
product would; it returns None where this week has no fitting calls, and is then tried again.

`TUNED` were looked at while the search was made; the others only to measure it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from outliers.conditions import Condition
from tests.bench.incidents_traffic import DAY_MS, Mask, Traffic
from tests.bench.incidents_world import LANGUAGES, MODELS, PROMPTS, PROVIDERS, REGIONS, TENANTS, TOOLS, Floats

HOUR_MS = 3_600_000
#: Fewest calls an incident hits, the fewest people, and the most calls: a larger one is no needle.
CALLS_MIN, PEOPLE_MIN, CALLS_MAX = 60, 12, 4_000


@dataclass(frozen=True)
class Planted:
    """One incident.

    Attributes:
        kind: its name in the registry.
        conditions: the condition that is right, as the product would say it; any of them, where two say
            the same of this week's calls.
        exposed: the calls it hit; `Traffic.spoiled_by` says which of them it spoiled.
    """

    kind: str
    conditions: tuple[Condition, ...]
    exposed: Mask


@dataclass(frozen=True)
class Site:
    """Where an incident is planted: the week, its number among the week's incidents, and what is random."""

    traffic: Traffic
    place: int
    source: np.random.Generator

    def spoil(self, exposed: Mask, share: float, kind: str, *, error: str = "", finish: str = "") -> None:
        """Make a share of the calls go wrong."""
        hit = exposed & (self.source.random(len(self.traffic)) < share) & (self.traffic.spoiled_by < 0)
        self.traffic.spoiled_by[hit] = self.place
        self.traffic.kind[hit] = kind
        if error:
            self.traffic.error[hit] = error
        if finish:
            self.traffic.finish[hit] = finish

    def slow(self, exposed: Mask, low: float, high: float) -> None:
        """Make all of the calls take between `low` and `high` times as long."""
        hit = exposed & (self.traffic.spoiled_by < 0)
        self.traffic.spoiled_by[hit] = self.place
        self.traffic.wait_factor[hit] *= self.source.uniform(low, high, int(hit.sum()))

    def share(self) -> float:
        """Draw how much P(bad) rises: at least .3, also where one in seven calls is bad anyhow."""
        return float(self.source.uniform(0.4, 0.9))

    def one(self, column: np.ndarray, of: int) -> int:
        """Pick one value that this week's calls have."""
        seen = np.unique(column[(column >= 0) & (column < of)])
        return int(self.source.choice(seen))

    def span(self, low_hours: float, high_hours: float) -> tuple[int, int]:
        """Pick a stretch of time by day or night, to the minute."""
        hours = self.source.uniform(low_hours, high_hours)
        since = self.traffic.since_ms + int(self.source.uniform(0, 168 - hours) * 60) * 60_000
        return since, since + int(hours * 60) * 60_000

    def since(self) -> tuple[int, int]:
        """Pick a moment from Tuesday to Saturday, until the end of the week."""
        return (
            self.traffic.since_ms + int(self.source.uniform(1, 5) * 24 * 60) * 60_000,
            self.traffic.since_ms + 7 * DAY_MS,
        )

    def within(self, span: tuple[int, int]) -> Mask:
        """Return the calls that started in a span."""
        return np.asarray((self.traffic.started_ms >= span[0]) & (self.traffic.started_ms < span[1]))


Kind = Callable[[Site], Planted | None]
KINDS: dict[str, Kind] = {}
#: Kinds that the search was tuned on.
TUNED: list[str] = []


def kind(*, tuned: bool) -> Callable[[Kind], Kind]:
    """Enter a kind into the registry under its function's name."""

    def _enter(function: Kind) -> Kind:
        name = function.__name__
        KINDS[name] = function
        if tuned:
            TUNED.append(name)
        return function

    return _enter


def plant(
    traffic: Traffic, source: np.random.Generator, count: int, names: Iterable[str] = ()
) -> list[Planted]:
    """Plant `count` incidents of different kinds that hardly touch one another.

    Args:
        names: the kinds to draw from; all of the registry where empty.
    """
    left = sorted(names or KINDS)
    source.shuffle(left)
    planted: list[Planted] = []
    while len(planted) < count and left:
        name = left.pop()
        for _try in range(60):
            site = Site(traffic, len(planted), source)
            before = _copy(traffic)
            one = KINDS[name](site)
            if one is not None and _fits(one, planted, traffic, site.place):
                planted.append(one)
                break
            _restore(traffic, before)
    return planted


_CHANGED = ("spoiled_by", "kind", "error", "finish", "wait_factor", "retries", "cached_tokens",
            "output_tokens", "model_name", "prompt_version", "context_chars")  # fmt: skip


def _copy(traffic: Traffic) -> dict[str, np.ndarray]:
    return {name: getattr(traffic, name).copy() for name in _CHANGED}


def _restore(traffic: Traffic, before: dict[str, np.ndarray]) -> None:
    for name, values in before.items():
        setattr(traffic, name, values)


def _fits(one: Planted, others: list[Planted], traffic: Traffic, place: int) -> bool:
    n = int(one.exposed.sum())
    people = len(np.unique(traffic.user[one.exposed]))
    if not CALLS_MIN <= n <= CALLS_MAX or people < PEOPLE_MIN:
        return False
    # a fifth of its calls at most was another's: two troubles of the same calls are one
    spoiled = int((traffic.spoiled_by == place).sum())
    return spoiled >= CALLS_MIN * 0.35 and all(
        int((one.exposed & other.exposed).sum()) <= 0.2 * min(n, int(other.exposed.sum())) for other in others
    )


def _is(field: str, value: str, key: str = "") -> Condition:
    return Condition(field, "=", value, key)


def _in(span: tuple[int, int]) -> Condition:
    return Condition("started_at", "within", span)


def _over(values: Floats, exposed_n: int) -> float:
    """Return the threshold of two digits above which about this many calls lie."""
    at = float(np.sort(values)[-exposed_n])
    digits = 10.0 ** max(0, math.floor(math.log10(max(at, 1))) - 1)
    return round(at / digits) * digits


def versioned(prompt: int, version: int) -> str:
    """Return "faq@v7"."""
    return f"{PROMPTS[prompt][0]}@v{version}"


@kind(tuned=True)
def long_document(site: Site) -> Planted:
    """A document longer than the window loses its beginning."""
    calls = site.traffic
    limit = _over(calls.input_tokens, int(site.source.integers(100, 1500)))
    exposed = calls.input_tokens > limit
    site.spoil(exposed, site.share(), "unfounded")
    return Planted("long_document", (Condition("input_tokens", ">", limit),), exposed)


@kind(tuned=True)
def slow_provider(site: Site) -> Planted:
    """A provider is slow for two hours or so."""
    calls, provider, span = site.traffic, site.one(site.traffic.provider, 9), site.span(1.5, 4)
    exposed = (calls.provider == provider) & site.within(span)
    site.slow(exposed, 2.0, float(site.source.uniform(2.5, 6)))
    return Planted("slow_provider", (Condition.all_of([_is("provider", PROVIDERS[provider]), _in(span)]),),
                   exposed)  # fmt: skip


@kind(tuned=True)
def version_in_a_language(site: Site) -> Planted:
    """A new prompt version fails in one language."""
    calls = site.traffic
    prompt, language = site.one(calls.prompt, 99), site.one(calls.language, 99)
    mine = calls.prompt == prompt
    version = int(calls.prompt_version[mine].max()) + 1
    calls.prompt_version[mine & site.within(site.since())] = version
    exposed = mine & (calls.prompt_version == version) & (calls.language == language)
    site.spoil(exposed, site.share(), "wrong_language")
    said = [_is("prompt_version", versioned(prompt, version)), _is("input_language", LANGUAGES[language])]
    return Planted("version_in_a_language", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def truncated_at_a_limit(site: Site) -> Planted:
    """A new prompt version came with a limit that most of its answers reach."""
    calls, prompt = site.traffic, site.one(site.traffic.prompt, 99)
    mine = calls.prompt == prompt
    version = int(calls.prompt_version[mine].max()) + 1
    calls.prompt_version[mine & site.within(site.since())] = version
    exposed = mine & (calls.prompt_version == version)
    if not exposed.any():
        return Planted("truncated_at_a_limit", (), exposed)
    limit = float(np.quantile(calls.output_tokens[exposed], site.source.uniform(0.15, 0.55)))
    cut = exposed & (calls.output_tokens > limit)
    calls.output_tokens[cut] = limit
    site.spoil(cut, 1.0, "truncated", finish="length")
    return Planted("truncated_at_a_limit", (_is("prompt_version", versioned(prompt, version)),), exposed)


@kind(tuned=True)
def tool_times_out(site: Site) -> Planted:
    """A tool times out, for a day or two."""
    calls, tool, span = site.traffic, site.one(site.traffic.tool, len(TOOLS)), site.span(20, 70)
    exposed = (calls.tool == tool) & site.within(span)
    site.spoil(exposed, site.share(), "error", error="ToolTimeout")
    calls.wait_factor[exposed & (calls.spoiled_by == site.place)] *= 3
    return Planted("tool_times_out", (Condition.all_of([_is("tool", TOOLS[tool]), _in(span)]),), exposed)


@kind(tuned=True)
def rude_to_new_users(site: Site) -> Planted:
    """Whoever is on their first day is answered rudely."""
    exposed = site.traffic.user_age_days < 1
    site.spoil(exposed, site.share(), "rude")
    return Planted("rude_to_new_users", (Condition("user_age_days", "<", 1.0),), exposed)


@kind(tuned=False)
def refusals_after_an_update(site: Site) -> Planted:
    """A model was updated under a new name and refuses what it used to do."""
    calls, model = site.traffic, site.one(site.traffic.model, 99)
    prompt = site.one(calls.prompt[calls.model == model], 99)
    exposed = (calls.model == model) & (calls.prompt == prompt) & site.within(site.since())
    name = f"{MODELS[model][1]}-1125"
    calls.model_name[exposed] = name
    site.spoil(exposed, site.share(), "refusal", finish=str(site.source.choice(["", "content_filter"])))
    return Planted("refusals_after_an_update", (_is("model", name),), exposed)


@kind(tuned=False)
def retry_storm(site: Site) -> Planted:
    """A model's calls are retried again and again for some hours, and take as long."""
    calls, model, span = site.traffic, site.one(site.traffic.model, 99), site.span(2, 10)
    exposed = (calls.model == model) & site.within(span)
    calls.retries[exposed] = site.source.integers(2, 6, int(exposed.sum()))
    site.spoil(exposed, 0.15, "error", error="RateLimitError")
    site.slow(exposed, 2.0, 4.0)
    return Planted("retry_storm", (Condition.all_of([_is("model", MODELS[model][1]), _in(span)]),), exposed)


@kind(tuned=False)
def cache_gone_cold(site: Site) -> Planted:
    """A prompt's cached beginning is not found any more, and its calls wait for all of it to be read."""
    calls, prompt, span = site.traffic, site.one(site.traffic.prompt, 99), site.span(8, 60)
    exposed = (calls.prompt == prompt) & site.within(span)
    calls.cached_tokens[exposed] = 0.0
    site.slow(exposed, 2.0, 3.0)
    return Planted("cache_gone_cold", (Condition.all_of([_is("prompt", PROMPTS[prompt][0]), _in(span)]),),
                   exposed)  # fmt: skip


@kind(tuned=True)
def a_tenants_context(site: Site) -> Planted:
    """One tenant's retrieved text comes malformed."""
    calls, tenant = site.traffic, site.one(site.traffic.tenant, TENANTS)
    exposed = calls.tenant == tenant
    calls.context_chars[exposed] = np.maximum(calls.context_chars[exposed], 300)
    site.spoil(exposed, site.share(), "unfounded")
    return Planted("a_tenants_context", (_is("tag", f"tenant-{tenant:02d}", "tenant"),), exposed)


@kind(tuned=False)
def regional_outage(site: Site) -> Planted:
    """A region cannot be reached for some hours."""
    calls, region, span = site.traffic, site.one(site.traffic.region, 99), site.span(1, 6)
    exposed = (calls.region == region) & site.within(span)
    site.spoil(exposed, site.share(), "error", error="APIConnectionError")
    return Planted("regional_outage", (Condition.all_of([_is("tag", REGIONS[region], "region"), _in(span)]),),
                   exposed)  # fmt: skip


@kind(tuned=False)
def answers_in_english(site: Site) -> Planted:
    """One model answers one language in another."""
    calls = site.traffic
    model, language = site.one(calls.model, 99), site.one(calls.language, 99)
    exposed = (calls.model == model) & (calls.language == language)
    site.spoil(exposed, site.share(), "wrong_language")
    said = [_is("model", MODELS[model][1]), _is("input_language", LANGUAGES[language])]
    return Planted("answers_in_english", (Condition.all_of(said),), exposed)


@kind(tuned=True)
def tool_in_a_region(site: Site) -> Planted:
    """A tool gives empty results in one region."""
    calls, tool = site.traffic, site.one(site.traffic.tool, len(TOOLS))
    region = site.one(calls.region, 99)
    exposed = (calls.tool == tool) & (calls.region == region)
    site.spoil(exposed, site.share(), "off_topic")
    said = [_is("tool", TOOLS[tool]), _is("tag", REGIONS[region], "region")]
    return Planted("tool_in_a_region", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def tenant_with_long_inputs(site: Site) -> Planted:
    """One tenant's long inputs take far longer than they did."""
    calls, tenant = site.traffic, site.one(site.traffic.tenant, TENANTS)
    limit = _over(calls.input_tokens, int(len(calls) * site.source.uniform(0.2, 0.5)))
    exposed = (calls.tenant == tenant) & (calls.input_tokens > limit)
    site.slow(exposed, 2.2, 4.0)
    said = [_is("tag", f"tenant-{tenant:02d}", "tenant"), Condition("input_tokens", ">", limit)]
    return Planted("tenant_with_long_inputs", (Condition.all_of(said),), exposed)


@kind(tuned=True)
def release_repeats_itself(site: Site) -> Planted:
    """The new release makes one prompt repeat itself."""
    calls, prompt = site.traffic, site.one(site.traffic.prompt, 99)
    release = int(calls.release.max())
    exposed = (calls.prompt == prompt) & (calls.release == release)
    site.spoil(exposed, site.share(), "repeated")
    said = [_is("prompt", PROMPTS[prompt][0]), _is("release", f"2.{release}")]
    return Planted("release_repeats_itself", (Condition.all_of(said),), exposed)


@kind(tuned=False)
def empty_in_the_night(site: Site) -> Planted:
    """For a night, every answer to one language is empty."""
    calls, language, span = site.traffic, site.one(site.traffic.language, 99), site.span(3, 9)
    exposed = (calls.language == language) & site.within(span)
    site.spoil(exposed, site.share(), "empty")
    said = [_is("input_language", LANGUAGES[language]), _in(span)]
    return Planted("empty_in_the_night", (Condition.all_of(said),), exposed)
