"""Why the slowest calls of a week were slow: a label for each, and what sets them apart.

Flow: outliers.frame.WeekCalls -> outliers.causes.expected_latency, outliers.causes.tail_rules
-> `find_causes` -> one row of `latency_causes` a week (outliers.weekly) -> the latency page,
GET /v1/latency/causes.

What a slow call took beyond its service's ordinary call is dealt out in milliseconds: what the model gives to
its input, its output and its hour; then what is left goes to retries where there were any, else to its first
token as far as that came late, then to tool calls; the remainder is unexplained. Each call's shares add up to
1, and so do a tail's, their mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from ingest.store import Store
from ingest.tables import Call, columns
from outliers.causes.expected_latency import Model, model_of, with_timings
from outliers.causes.tail_rules import Rule, tail_rules
from outliers.cohorts.describing import percent
from outliers.frame import Floats, Mask, WeekCalls
from outliers.tables import LatencyCauses

_kept, _call = columns(LatencyCauses), columns(Call)

#: Label -> how a person says it. "slow_service" is of the project's tail only: some service is the slowest.
LABELS = {
    "long_input": "a long input",
    "long_output": "a long output",
    "slow_provider_hour": "a slow hour of the provider",
    "slow_first_token": "a slow first token",
    "retries": "retries",
    "tool_calls": "tool calls",
    "slow_service": "a slower model or provider than the others",
    "unexplained": "unexplained",
}
#: Answered calls from which there is a tail to speak of; 1 % of them, 5 % of fewer than 5,000.
CALLS_ENOUGH = 100
CALLS_FOR_1_PERCENT = 5_000
#: Services with a tail of their own: those whose tail stands furthest out.
SERVICES_MAX = 12
SLOWEST_SHOWN = 20
EXAMPLES = 5


@dataclass(frozen=True)
class SlowBecause:
    """One of a tail's slowest calls.

    Attributes:
        latency_ms: what it took; `expected_ms` what was expected of such a call at that hour.
        label: the label with most of what it took beyond its service's ordinary call.
        shares: label -> share of that; they add up to 1.
    """

    id: str
    started_at_ms: int
    latency_ms: float
    expected_ms: float
    label: str
    shares: dict[str, float]


@dataclass(frozen=True)
class LabelShare:
    """How much of a tail one label explains.

    Attributes:
        label: one of `LABELS`; `words` says it.
        share: mean of the slow calls' shares, 0..1; the shares of a tail add up to 1.
        n: slow calls of which it is the label.
        examples: ids of some of them, slowest first.
    """

    label: str
    words: str
    share: float
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class RuleSaid:
    """One rule that sets a tail apart; figures as in `outliers.causes.tail_rules.Rule`.

    Attributes:
        condition: {"field", "op", "value"}, more of it under "also".
        sentence: "input_tokens > 9,800 holds for 71 % of the slowest 1 % and 2 % of the rest".
    """

    condition: dict[str, Any]
    sentence: str
    n: int
    n_tail: int
    share_in: float
    share_out: float
    lift: float
    held_back_lift: float
    p_value: float


@dataclass(frozen=True)
class TailCauses:
    """Why one tail is slow.

    Attributes:
        provider, model: whose; both "" for the tail of the whole project.
        scope: "all", or the service as a person says it.
        words: "the slowest 1 %".
        n: answered calls, of which n_tail from `from_ms` on are the tail.
        typical_ms: the median.
        labels: most share first; those without any are left out.
        rules: the one that explains most first; empty where nothing sets the tail apart.
        slowest: its slowest calls, slowest first.
    """

    provider: str
    model: str
    scope: str
    words: str
    n: int
    n_tail: int
    from_ms: float
    typical_ms: float
    labels: tuple[LabelShare, ...]
    rules: tuple[RuleSaid, ...]
    slowest: tuple[SlowBecause, ...]


def find_causes(store: Store, project_id: int, calls: WeekCalls, zone: ZoneInfo) -> list[TailCauses]:
    """Return the causes of the project's tail, then of each service's; empty with fewer than 100 answers."""
    if int((calls.answered & (np.nan_to_num(calls.latency_ms) > 0)).sum()) < CALLS_ENOUGH:
        return []
    calls = with_timings(store, project_id, calls)
    model = model_of(calls)
    scopes: list[tuple[tuple[str, str], str, Mask]] = [(("", ""), "all", model.known)]
    several = len({provider for provider, _model in model.services}) > 1
    counted = np.bincount(model.service[model.known], minlength=len(model.services))
    if len(model.services) > 1:
        enough = np.nonzero(counted >= CALLS_ENOUGH)[0].tolist()
        far_out = {
            place: _far_out(calls.latency_ms[model.known & (model.service == place)]) for place in enough
        }
        for place in sorted(enough, key=lambda one: -far_out[one])[:SERVICES_MAX]:
            provider, name = model.services[place]
            said = f"{provider if several else ''} {name}".strip()
            scopes.append(((provider, name), said, model.known & (model.service == place)))
    return [_tail(store, calls, model, *scope, zone) for scope in scopes]


def causes_of(connection: Connection, project_id: int, week_id: str) -> tuple[TailCauses, ...]:
    """Return a week's causes as kept: the project's tail first; empty while none were computed."""
    kept = connection.execute(
        select(_kept.c.causes).where(_kept.c.project_id == project_id, _kept.c.week == week_id)
    ).scalar()
    return tuple(_from_json(one) for one in kept["tails"]) if kept else ()


def keep_causes(connection: Connection, project_id: int, week_id: str, causes: Sequence[TailCauses]) -> None:
    """Write job: replace a week's causes."""
    connection.execute(delete(_kept).where(_kept.c.project_id == project_id, _kept.c.week == week_id))
    kept = {"tails": [asdict(one) for one in causes]}
    connection.execute(insert(_kept).values(project_id=project_id, week=week_id, causes=kept))


def _from_json(kept: Mapping[str, Any]) -> TailCauses:
    parts = {
        "labels": tuple(LabelShare(**one | {"examples": tuple(one["examples"])}) for one in kept["labels"]),
        "rules": tuple(RuleSaid(**one) for one in kept["rules"]),
        "slowest": tuple(SlowBecause(**one) for one in kept["slowest"]),
    }
    return TailCauses(**{**kept, **parts})


def _far_out(took: Floats) -> float:
    """Return how many times its median a service's slow calls take on average."""
    return float(took[took >= np.quantile(took, 0.95)].mean() / np.median(took))


def _tail(
    store: Store,
    calls: WeekCalls,
    model: Model,
    service: tuple[str, str],
    scope: str,
    among: Mask,
    zone: ZoneInfo,
) -> TailCauses:
    took = calls.latency_ms
    n = int(among.sum())
    share = 0.01 if n >= CALLS_FOR_1_PERCENT else 0.05
    rank = max(1, int(n * share))
    from_ms = float(np.partition(took[among], n - rank)[n - rank])
    slow = among & (took >= from_ms)
    typical_ms = float(np.median(took[among]))
    at = np.nonzero(slow)[0]
    at = at[np.argsort(-took[at], kind="stable")]
    shares = _shares(calls, model, slow, typical_ms if scope == "all" else None)[at]
    label = shares.argmax(axis=1)
    ids = _ids(store, calls.seq[at[: SLOWEST_SHOWN * len(LABELS)]].tolist())
    names = list(LABELS)
    words = f"the slowest {share:.0%}".replace("%", " %")
    labels = [
        LabelShare(
            label=name,
            words=LABELS[name],
            share=round(float(shares[:, i].mean()), 4),
            n=int((label == i).sum()),
            examples=tuple(ids[s] for s in calls.seq[at[label == i]].tolist() if s in ids)[:EXAMPLES],
        )
        for i, name in enumerate(names)
        if shares[:, i].any()
    ]
    slowest = [
        SlowBecause(
            id=ids.get(int(calls.seq[i]), ""),
            started_at_ms=int(calls.started_at_ms[i]),
            latency_ms=float(took[i]),
            expected_ms=float(model.expected_ms[i]),
            label=names[int(of_call.argmax())],
            shares={name: round(float(part), 4) for name, part in zip(names, of_call, strict=True) if part},
        )
        for i, of_call in zip(at[:SLOWEST_SHOWN].tolist(), shares, strict=False)
    ]
    rules = tail_rules(calls, slow, among)
    return TailCauses(
        provider=service[0],
        model=service[1],
        scope=scope,
        words=words,
        n=n,
        n_tail=len(at),
        from_ms=from_ms,
        typical_ms=typical_ms,
        labels=tuple(sorted(labels, key=lambda one: -one.share)),
        rules=tuple(_said(rule, words if scope == "all" else f"{words} of {scope}", zone) for rule in rules),
        slowest=tuple(slowest),
    )


def _shares(calls: WeekCalls, model: Model, slow: Mask, typical_ms: float | None) -> Floats:
    """Return each slow call's shares, columns in the order of `LABELS`; shape (n, labels), 0 elsewhere.

    Args:
        typical_ms: the project's median, where services are compared too.
    """
    parts = {name: np.zeros(len(calls)) for name in LABELS}
    parts["long_input"] = np.maximum(0.0, model.by_input_ms)
    parts["long_output"] = np.maximum(0.0, model.by_output_ms)
    parts["slow_provider_hour"] = np.maximum(0.0, model.by_hour_ms)
    if typical_ms is not None:
        parts["slow_service"] = np.maximum(0.0, model.usual_ms - typical_ms)
    left = np.maximum(0.0, calls.latency_ms - model.expected_ms)
    retried = np.nan_to_num(calls.numbers["retries"]) > 0
    parts["retries"] = np.where(retried, left, 0.0)
    left = np.where(retried, 0.0, left)
    late = np.nan_to_num(model.first_token_ms - model.first_expected_ms)
    parts["slow_first_token"] = np.clip(late, 0.0, left)
    left = left - parts["slow_first_token"]
    with_tools = _with_tools(calls)
    parts["tool_calls"] = np.where(with_tools, left, 0.0)
    parts["unexplained"] = np.where(with_tools, 0.0, left)
    table = np.column_stack([np.nan_to_num(parts[name]) for name in LABELS]) * slow[:, None]
    total = table.sum(axis=1)
    nothing = slow & (total <= 0)  # in a tail of equal latencies no call is slower than expected
    table[nothing, list(LABELS).index("unexplained")] = 1.0
    total[nothing] = 1.0
    return np.asarray(table / np.maximum(total, 1e-12)[:, None])


def _with_tools(calls: WeekCalls) -> Mask:
    used = np.zeros(len(calls), dtype=np.bool_)
    for (field, _key), column in calls.named.items():
        if field == "tool":
            used |= column.codes >= 0
    return used


def _said(rule: Rule, words: str, zone: ZoneInfo) -> RuleSaid:
    return RuleSaid(
        condition=rule.condition.as_json(),
        sentence=f"{rule.condition.words(zone)} holds for {percent(rule.share_in)} of {words} "
        f"and {percent(rule.share_out)} of the rest",
        n=rule.n,
        n_tail=rule.n_tail,
        share_in=rule.share_in,
        share_out=rule.share_out,
        lift=rule.lift,
        held_back_lift=rule.held_back_lift,
        p_value=rule.p_value,
    )


def _ids(store: Store, seqs: Sequence[int]) -> dict[int, str]:
    with store.read() as connection:
        rows = connection.execute(select(_call.c.seq, _call.c.id).where(_call.c.seq.in_(seqs)))
        return dict(rows.all())
