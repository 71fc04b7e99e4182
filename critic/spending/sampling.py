"""Which calls a critic with a budget judges: strata, the probability of each, and one fixed draw a call.

Flow: what is known of a call -> `stratum_of`; what the day still holds -> `rates_for` -> `Rates.inclusion`; a
call is chosen where its own `place_of` lies below its inclusion. Pure: no database, no clock.

Calls with a thumbs-down, an error or in the slow tail are always chosen. A uniform part of all calls is
reserved first; what money is left goes to the rest by how bad, uncertain or new they look. A call's place is
a fixed number in 0..1, so drawing it again draws the same: when a late signal moves it to another stratum, it
is in the sample with exactly the probability of that final stratum, which is what a mean weights it by
(permanent random numbers: Ohlsson 1995; weights 1 / (sample_rate * inclusion): Horvitz & Thompson 1952).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

#: Always judged, and how urgent where money is short; larger is sooner.
FORCED: Mapping[str, float] = {"thumbs_down": 3.0, "error": 2.0, "tail": 1.0}
#: How much likelier than a usual call one of these strata is judged.
WEIGHTS: Mapping[str, float] = {"unhappy": 8.0, "likely": 8.0, "unsure": 4.0, "new": 4.0, "usual": 1.0}
STRATA = (*FORCED, *WEIGHTS)

#: Signals that force a judgement whenever they come.
DOWN_KINDS = frozenset(("thumbs_down", "escalate"))
#: Signals that only make a bad answer likelier: people also rephrase a good one.
UNHAPPY_KINDS = frozenset(("rephrase", "regenerate", "abandon", "edit"))
#: A signal of the team's own forces a judgement from this polarity down; any negative one is unhappy.
DOWN_POLARITY = -0.5
#: A rating in this lowest part of its range is a thumbs-down.
DOWN_RATING = 0.25

LIKELY_FROM = 0.5
UNSURE_FROM = 0.1
#: A slice is new until this many of its calls have come.
NEW_BELOW = 200
#: The slowest share that is the tail.
TAIL_SHARE = 0.01
#: What the p99 of a slice needs to be known (two-sided 95 % interval).
TAIL_CALLS_MIN = 368
#: However short the money is, each call can be chosen: without a chance it would stand for nobody.
UNIFORM_MIN = 0.001

#: Calls of each stratum that are taken for seen before any was, so that the first batch is planned for.
_PRIOR: Mapping[str, float] = {
    "thumbs_down": 0.2,
    "error": 0.2,
    "tail": 0.2,
    "unhappy": 0.5,
    "likely": 0.5,
    "unsure": 2.0,
    "new": 2.0,
    "usual": 10.0,
}


@dataclass(frozen=True)
class Given:
    """One signal as the sampler needs it; range as sent, None where not given."""

    kind: str
    value: float | None = None
    value_min: float | None = None
    value_max: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a call when it is taken, or when a signal comes.

    Attributes:
        p_fail: the guard's probability of a failure that shows; None where it could not read.
        latency_ms: None where unknown.
        tail_from_ms: the p99 of the call's slice; None where too few calls are known.
        slice_calls: calls of its slice in the 28 days before.
    """

    outcome: str
    p_fail: float | None = None
    latency_ms: float | None = None
    tail_from_ms: float | None = None
    slice_calls: int = NEW_BELOW
    signals: tuple[Given, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What the sample decides about one call and one critic.

    Attributes:
        stratum: where it belongs now.
        inclusion: the probability with which a call of this stratum is chosen, > 0.
        chosen: whether this one is.
        uniform: whether it is of the uniform part, whose money is kept apart.
        urgency: how soon it is wanted where money is short.
        budget_usd: what the critic may spend a day.
    """

    stratum: str
    inclusion: float
    chosen: bool
    uniform: bool
    urgency: float
    budget_usd: float


@dataclass(frozen=True)
class Rates:
    """How likely a call is judged.

    Attributes:
        uniform: of any call, by the uniform part alone.
        beyond: of a call of each stratum that is not of the uniform part; 0 where not named.
    """

    uniform: float = 1.0
    beyond: Mapping[str, float] = field(default_factory=dict)

    def inclusion(self, stratum: str) -> float:
        """Return the probability that a call of a stratum is chosen; 1 for the forced ones."""
        if stratum in FORCED:
            return 1.0
        return min(1.0, self.uniform + (1.0 - self.uniform) * self.beyond.get(stratum, 0.0))

    def choice(self, stratum: str, place: float, p_fail: float | None, budget_usd: float) -> Choice:
        """Return what is decided about a call with this place, from `place_of`."""
        inclusion = self.inclusion(stratum)
        return Choice(
            stratum=stratum,
            inclusion=inclusion,
            chosen=place < inclusion,
            uniform=place < self.uniform,
            urgency=FORCED.get(stratum, 0.0) + (UNSURE_FROM if p_fail is None else p_fail),
            budget_usd=budget_usd,
        )


def place_of(critic: str, project_id: int, call_id: str) -> float:
    """Return a call's fixed place in [0, 1) for one critic, as good as random, independent of any other."""
    name = f"{critic}\n{project_id}\n{call_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=7, person=b"lowlight-sample").digest()) / 2**56


def stratum_of(facts: Facts, polarity: Mapping[str, float]) -> str:
    """Return the stratum of a call: the first of `STRATA` that fits it.

    Args:
        polarity: the team's own signals, -1..1.
    """
    if any(is_down(signal, polarity) for signal in facts.signals):
        return "thumbs_down"
    if facts.outcome == "failed":
        return "error"
    slow = facts.latency_ms is not None and facts.tail_from_ms is not None
    if slow and (facts.latency_ms or 0.0) >= (facts.tail_from_ms or 0.0):
        return "tail"
    if facts.outcome == "aborted" or any(_is_unhappy(signal, polarity) for signal in facts.signals):
        return "unhappy"
    if facts.p_fail is not None and facts.p_fail >= LIKELY_FROM:
        return "likely"
    if facts.p_fail is None or facts.p_fail >= UNSURE_FROM:
        return "unsure"
    return "new" if facts.slice_calls < NEW_BELOW else "usual"


def is_down(signal: Given, polarity: Mapping[str, float]) -> bool:
    """Whether a signal says that the answer was bad, so that it is to be judged whatever that costs."""
    if signal.kind in polarity:
        return polarity[signal.kind] <= DOWN_POLARITY
    if signal.kind == "rating" and signal.value is not None:
        low = 1.0 if signal.value_min is None else signal.value_min
        high = 5.0 if signal.value_max is None else signal.value_max
        return high > low and signal.value <= low + DOWN_RATING * (high - low)
    return signal.kind in DOWN_KINDS


def rates_for(
    expected: Mapping[str, float], call_usd: float, uniform_left_usd: float, rest_left_usd: float
) -> Rates:
    """Return the rates that use up what the day still holds, as far as can be foreseen.

    The uniform part comes first, out of its own money. The forced calls that are not of it come out of the
    rest; what then remains is shared so that a stratum's rate is proportional to its weight, up to 1.

    Args:
        expected: calls of each stratum that are still to come today.
        call_usd: what judging one call costs.
        uniform_left_usd, rest_left_usd: money that is left; below 0 is none.
    """
    calls = sum(expected.values())
    if calls <= 0 or call_usd <= 0:
        return Rates(1.0)
    uniform = min(1.0, max(UNIFORM_MIN, max(0.0, uniform_left_usd) / (calls * call_usd)))
    forced = sum(expected.get(stratum, 0.0) for stratum in FORCED)
    affordable = rest_left_usd / call_usd - forced * (1.0 - uniform)
    others = {stratum: expected.get(stratum, 0.0) * (1.0 - uniform) for stratum in WEIGHTS}
    return Rates(uniform, _shared(others, affordable))


def _shared(calls: Mapping[str, float], affordable: float) -> dict[str, float]:
    """Return rates proportional to `WEIGHTS`, at most 1, that choose `affordable` of the calls."""
    if affordable >= sum(calls.values()):
        return dict.fromkeys(WEIGHTS, 1.0)
    if affordable <= 0:
        return dict.fromkeys(WEIGHTS, 0.0)
    # Strata whose rate would exceed 1 are taken whole, the rest share what is left.
    whole: set[str] = set()
    while True:
        shared = {stratum: n for stratum, n in calls.items() if stratum not in whole}
        left = affordable - sum(n for stratum, n in calls.items() if stratum in whole)
        weighed = sum(WEIGHTS[stratum] * n for stratum, n in shared.items())
        each = max(0.0, left) / weighed if weighed else 0.0
        too_high = {stratum for stratum in shared if WEIGHTS[stratum] * each > 1.0}
        if not too_high:
            return {stratum: 1.0 if stratum in whole else WEIGHTS[stratum] * each for stratum in WEIGHTS}
        whole |= too_high


def expected_calls(
    today: Mapping[str, int], yesterday: Mapping[str, int], waiting: int, day_share: float
) -> dict[str, float]:
    """Return how many calls of each stratum are still to come today.

    The larger of what yesterday's rate and today's rate so far promise for the rest of the day, and whatever
    waits already; split as the calls of both days were.

    Args:
        today, yesterday: calls by stratum.
        waiting: calls that nobody has looked at yet.
        day_share: how much of the UTC day is over, 0..1.
    """
    over_h, left_h = 24 * day_share, 24 * (1 - day_share)
    by_yesterday = sum(yesterday.values()) * left_h / 24
    by_today = sum(today.values()) * left_h / max(over_h, 1.0)
    calls = waiting + max(by_yesterday, by_today, 1.0)
    seen = {
        stratum: _PRIOR[stratum] + today.get(stratum, 0) + yesterday.get(stratum, 0) for stratum in STRATA
    }
    total = sum(seen.values())
    return {stratum: calls * n / total for stratum, n in seen.items()}


def _is_unhappy(signal: Given, polarity: Mapping[str, float]) -> bool:
    if signal.kind in polarity:
        return polarity[signal.kind] < 0
    return signal.kind in UNHAPPY_KINDS
