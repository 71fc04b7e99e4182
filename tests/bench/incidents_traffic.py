"""A week of calls of an invented application, as NumPy columns, before and after incidents are planted.

Flow: World + Shapes -> `draw_week` -> tests.bench.incidents_kinds plants -> `Traffic.settle` lets each call
go well or badly -> tests.bench.incidents_rows keeps it. Latencies are milliseconds, instants milliseconds
since 1970 (UTC).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.bench.incidents_shapes import WEEK_WINDOWS, WINDOW_S, Floats, Shapes
from tests.bench.incidents_world import (
    EVERYDAY_KINDS,
    LANGUAGES,
    MODELS,
    PROMPTS,
    PROVIDERS,
    USERS,
    Ints,
    World,
)

Mask = NDArray[np.bool_]

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
#: Share of a week's calls that people make who came in this week.
NEW_SHARE = 0.08


@dataclass
class Traffic:
    """n calls of one week, oldest first; every array has shape (n,) and may be changed by what is planted.

    Attributes:
        number: 0 for the first week of the application.
        user: place in the world's users; beyond `USERS` somebody who came in this week.
        first_seen_ms: when that user first came.
        prompt_version: 3 for "v3".
        release: 12 for "2.12".
        model_name: the model's name where an incident renamed it, else "".
        tool: place in TOOLS; len(TOOLS) for none.
        p_bad: how probable a bad answer is, without incidents; `kind_bad` names its failure.
        spoiled_by: the place of the incident that spoiled this call, -1 for none.
        kind: what went wrong ("" for nothing), in the guard's words where it has one.
        wait_factor: how much longer the call took than its tokens explain.
        error: type of the error of a failed call, else "".
        finish: finish reason.
    """

    number: int
    since_ms: int
    started_ms: Ints
    user: Ints
    first_seen_ms: Ints
    session: Ints
    prompt: Ints
    prompt_version: Ints
    release: Ints
    model: Ints
    model_name: NDArray[np.str_]
    language: Ints
    tenant: Ints
    region: Ints
    plan: Ints
    staging: Mask
    tool: Ints
    streaming: Mask
    input_tokens: Floats
    output_tokens: Floats
    cached_tokens: Floats
    context_chars: Floats
    retries: Ints
    wait_factor: Floats
    p_bad: Floats
    votes: Floats
    spoiled_by: Ints = field(init=False)
    kind: NDArray[np.str_] = field(init=False)
    error: NDArray[np.str_] = field(init=False)
    finish: NDArray[np.str_] = field(init=False)
    latency_ms: Floats = field(init=False)
    usual_ms: Floats = field(init=False)
    first_token_ms: Floats = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.started_ms)
        self.spoiled_by = np.full(n, -1, dtype=np.int64)
        self.kind = np.full(n, "", dtype="U24")
        self.error = np.full(n, "", dtype="U24")
        self.finish = np.full(n, "stop", dtype="U16")

    def __len__(self) -> int:
        return len(self.started_ms)

    @property
    def provider(self) -> Ints:
        """Place in PROVIDERS."""
        of_model = np.array([PROVIDERS.index(provider) for provider, _model in MODELS])
        return np.asarray(of_model[self.model])

    @property
    def user_age_days(self) -> Floats:
        """Days since the user first came, at the start of the call."""
        return (self.started_ms - self.first_seen_ms) / DAY_MS

    def settle(self, world: World, source: np.random.Generator) -> None:
        """Let every call that no incident spoiled go well or badly, and take its time."""
        n = len(self)
        bad = (source.random(n) < self.p_bad) & (self.kind == "")
        kinds = np.array(EVERYDAY_KINDS)[source.integers(len(EVERYDAY_KINDS), size=n)]
        self.kind = np.where(bad, kinds, self.kind)
        failed = (source.random(n) < 0.004) & (self.kind == "")
        self.kind[failed] = "error"
        self.error[failed] = source.choice(["RateLimitError", "APITimeoutError", "APIConnectionError"], n)[
            failed
        ]
        self.finish[(self.kind == "truncated")] = "length"
        self.usual_ms = self._usual_ms(world)
        noise = np.empty(n)
        for model, slowness in enumerate(world.slowness):
            mine = np.nonzero(self.model == model)[0]
            noise[mine] = source.choice(slowness, len(mine)) * source.lognormal(0, 0.15, len(mine))
        prefill = world.ms_start[self.model] + world.ms_per_input[self.model] * (
            self.input_tokens - 0.9 * self.cached_tokens
        )
        self.latency_ms = self.usual_ms * noise * self.wait_factor
        self.first_token_ms = np.where(
            self.streaming, np.minimum(self.latency_ms, prefill * noise * self.wait_factor), np.nan
        )
        self.output_tokens = np.where(self.error != "", np.nan, self.output_tokens)

    def _usual_ms(self, world: World) -> Floats:
        hour = (self.started_ms // 3_600_000) % 24
        prefill = world.ms_per_input[self.model] * (self.input_tokens - 0.9 * self.cached_tokens)
        written = world.ms_per_output[self.model] * self.output_tokens
        return np.asarray(
            (world.ms_start[self.model] + prefill + written)
            * world.slow_of_prompt[self.prompt]
            * world.slow_of_tool[self.tool]
            * world.slow_by_hour[self.provider, hour]
        )


def draw_week(
    world: World, shapes: Shapes, source: np.random.Generator, number: int, since_ms: int, n: int
) -> Traffic:
    """Draw n calls of the world's week `number`, which begins at `since_ms`; nothing is planted in it."""
    started_ms = np.sort(_arrivals(shapes, source, since_ms, n))
    is_new = source.random(n) < NEW_SHARE
    user, first_seen_ms, started_ms = _people(world, source, started_ms, is_new, since_ms, number)
    order = np.argsort(started_ms, kind="stable")
    user, first_seen_ms, started_ms = user[order], first_seen_ms[order], started_ms[order]
    home = np.where(user < USERS, user, user * 7919 % USERS)  # who came this week lives where somebody does
    prompt = source.choice(len(PROMPTS), n, p=world.prompt_share)
    model = _choices(source, world.model_of_prompt[prompt])
    tool_shares = world.tool_of_prompt.copy()
    tool_shares[:, -1] = 1 - tool_shares[:, :-1].sum(axis=1)
    tool = _choices(source, tool_shares[prompt])
    language = np.where(
        source.random(n) < 0.9, world.language_of_user[home], source.integers(len(LANGUAGES), size=n)
    )
    tenant = world.tenant_of_user[home]
    tokens = _tokens(world, shapes, source, prompt)
    with_context = source.random(n) < world.has_context[prompt]
    # harmless deployments: every prompt gets a new version in every third week, the application one each week
    turn = number + np.arange(len(PROMPTS))
    deployed_ms = since_ms + (source.random(len(PROMPTS)) * WEEK_MS).astype(np.int64)
    version = turn[prompt] // 3 - ((turn[prompt] % 3 == 0) & (started_ms < deployed_ms[prompt]))
    released_ms = since_ms + int(source.uniform(1, 4) * DAY_MS)
    p_bad = (
        world.bad_of_prompt[prompt]
        * world.bad_of_model[model]
        * world.bad_of_language[language]
        * world.bad_of_pair[prompt, language]
        * world.bad_of_tenant[tenant]
        * world.bad_of_user[home]
    )
    cached = np.where(source.random(n) < 0.7, tokens[:, 0] * source.uniform(0.3, 0.8, n), 0.0)
    return Traffic(
        number=number,
        since_ms=since_ms,
        started_ms=started_ms,
        user=user,
        first_seen_ms=first_seen_ms,
        session=started_ms // (4 * 3_600_000),
        prompt=prompt,
        prompt_version=version + 2,
        release=np.where(started_ms >= released_ms, number + 1, number),
        model=model,
        model_name=np.full(n, "", dtype="U32"),
        language=language,
        tenant=tenant,
        region=world.region_of_user[home],
        plan=world.plan_of_tenant[tenant],
        staging=source.random(n) < 0.03,
        tool=tool,
        streaming=source.random(n) < 0.6,
        input_tokens=tokens[:, 0],
        output_tokens=tokens[:, 1],
        cached_tokens=np.round(cached),
        context_chars=np.where(with_context, np.round(tokens[:, 0] * source.uniform(1.5, 3.5, n)), 0.0),
        retries=(source.random(n) < 0.02).astype(np.int64),
        wait_factor=np.ones(n),
        p_bad=np.minimum(0.6, p_bad),
        votes=world.votes[home],
    )


def _arrivals(shapes: Shapes, source: np.random.Generator, since_ms: int, n: int) -> Ints:
    """Return n instants with the rhythm of seven days in a row of the arrival trace."""
    first = int(source.integers(0, 7)) * 144
    rate = shapes.arrivals[first : first + WEEK_WINDOWS] * source.gamma(8, 1 / 8, WEEK_WINDOWS)
    window = source.choice(WEEK_WINDOWS, n, p=rate / rate.sum())
    at = (window + source.random(n)) * WINDOW_S * 1000
    return np.asarray(since_ms + at.astype(np.int64))


def _people(
    world: World, source: np.random.Generator, started_ms: Ints, is_new: Mask, since_ms: int, number: int
) -> tuple[Ints, Ints, Ints]:
    """Return who makes each call, when they first came, and the instants: new people come in bursts."""
    n = len(started_ms)
    user = source.choice(USERS, n, p=world.user_share).astype(np.int64)
    # those who use it came up to half a year before the first week of the world
    came = np.random.default_rng(USERS).uniform(1, 180, USERS) * DAY_MS
    first_seen = since_ms - number * WEEK_MS - came[user].astype(np.int64)
    started = started_ms.copy()
    at = np.nonzero(is_new)[0]
    source.shuffle(at)
    taken = newcomer = 0
    sizes = source.geometric(0.35, len(at))
    while taken < len(at):
        mine = at[taken : taken + int(sizes[newcomer])]
        came_ms = int(started_ms[mine[0]])
        later = np.sort(source.exponential(10 * 3_600_000, len(mine)))
        later[0] = 0
        started[mine] = np.minimum(came_ms + later.astype(np.int64), since_ms + WEEK_MS - 1)
        first_seen[mine] = came_ms
        user[mine] = USERS * (1 + number) + newcomer
        taken += len(mine)
        newcomer += 1
    return user, first_seen, started


def _choices(source: np.random.Generator, shares: Floats) -> Ints:
    """Draw a column for each row of shares."""
    return np.asarray((source.random(len(shares))[:, None] > np.cumsum(shares, axis=1)[:, :-1]).sum(axis=1))


def _tokens(world: World, shapes: Shapes, source: np.random.Generator, prompt: Ints) -> Floats:
    """Return (input, output) tokens of each call, drawn as pairs from its prompt's trace."""
    tokens = np.empty((len(prompt), 2))
    for place, (_name, trace) in enumerate(PROMPTS):
        mine = np.nonzero(prompt == place)[0]
        drawn = shapes.tokens[trace][source.integers(len(shapes.tokens[trace]), size=len(mine))]
        scale = world.tokens_scale[place] * (0.3 if trace == "documents" else 1.0)
        tokens[mine] = drawn * [scale, 1.0] * source.lognormal(0, 0.1, (len(mine), 2))
    return np.maximum(1, np.round(tokens))
