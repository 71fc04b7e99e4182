"""What providers charge against what is booked: never more than was held, whatever comes of a judgement."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine
from sqlmodel import SQLModel

from critic.batching.batches import InBatch, OpenBatch
from critic.batching.gathering import custom_id
from critic.batching.outcomes import became
from critic.drivers.base import (
    Answer,
    Charge,
    CriticError,
    CriticMisconfigured,
    CriticUnavailable,
    Refused,
    Unusable,
    Usage,
)
from critic.drivers.batching import Missed, Outcome, Results
from critic.drivers.draws import DRAWS, Draw, three, verdicts_of
from critic.queue.cases import Judgement
from critic.spending.budget import (
    Budget,
    Reserved,
    Spend,
    Wanted,
    account_of,
    reserve,
    settle_dead,
    settle_spends,
)
from critic.spending.money import Money
from critic.spending.prices import Price, Prices
from critic.working.purse import Purse

CRITIC, MODEL, BUDGET_USD = "anthropic:m", "m", 0.05
#: Dollars per million tokens; what is written to the cache is dearer than what is not.
FRESH, CACHED, WRITTEN, OUT = 3.0, 0.3, 3.75, 15.0
PRICE = Price(
    provider="anthropic",
    model=MODEL,
    valid_from="2020-01-01",  # type: ignore[arg-type]
    input=FRESH,
    output=OUT,
    cached_input=CACHED,
    cache_write=WRITTEN,
    batch_factor=0.5,
)
NOW_MS = 1_800_000_000_000
DAY = NOW_MS // (24 * 3600 * 1000)
MONEY = Money(Prices([PRICE], []), {CRITIC: Budget(BUDGET_USD, 0.0)})
#: What one request can take at most; a judgement is three.
REQUEST = Usage(1_000, 100)

#: The kinds of input in thousandths of the most there can be, and whether the provider tells what it used.
_USED = st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 100))
_REQUESTS = st.tuples(
    st.sampled_from(["answered", "refused", "cut off", "turned down", "429", "hang", "reset", "wrong key"]),
    _USED,
    st.booleans(),
)
_JUDGEMENTS = st.lists(st.lists(_REQUESTS, min_size=DRAWS, max_size=DRAWS), min_size=1, max_size=8)


def charged_usd(used: tuple[int, int, int, int]) -> float:
    """What a provider charges for fresh, cached, written input and output tokens, by its own price list."""
    fresh, cached, written, out = used
    return (fresh * FRESH + cached * CACHED + written * WRITTEN + out * OUT) / 1e6


def as_told(used: tuple[int, int, int, int], tells: bool) -> dict[str, Any]:
    fresh, cached, written, out = used
    return {
        "model_reported": MODEL,
        "input_tokens": fresh + cached + written if tells else None,
        "output_tokens": out if tells else None,
        "cached_input_tokens": cached if tells else None,
        "cache_write_tokens": written if tells else None,
    }


def bounded(used: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Cut the input to what one request can take."""
    fresh, cached, written, out = used
    total = max(1, fresh + cached + written)
    share = min(1.0, REQUEST.input_tokens / total)
    return int(fresh * share), int(cached * share), int(written * share), out


def outcome_of(kind: str, used: tuple[int, int, int, int], tells: bool) -> tuple[Any, float]:
    """Return what a request gives (a draw, a verdict, an error) and what the provider charges for it."""
    about, usd = as_told(used, tells), charged_usd(used)
    given: dict[str, tuple[Any, float]] = {
        "answered": (Draw({"tone": 4}, **about), usd),
        "refused": (Refused("no", **about), usd),
        "cut off": (Unusable("cut off", **about), usd),
        "turned down": (Unusable("400", charged=False), 0.0),
        "429": (CriticUnavailable("429", retry_after_s=1.0, busy=True), 0.0),
        "hang": (CriticUnavailable("no answer in time", blames_call=True), usd),
        "reset": (CriticUnavailable("the connection broke", in_doubt=True), usd),
        "wrong key": (CriticMisconfigured("the quota is spent"), 0.0),
    }
    return given[kind]


class Store:
    """A purse over a database in memory."""

    def __init__(self) -> None:
        self.connection: Connection = create_engine("sqlite://").connect()
        SQLModel.metadata.create_all(self.connection)
        driver: Any = SimpleNamespace(name=CRITIC, leaves_machine=True)
        work: Any = SimpleNamespace(money=MONEY, clock_ms=lambda: NOW_MS)
        self.purse = Purse(work, driver)

    def hold(self, usd: float, batch: int | None = None) -> Reserved | None:
        wanted = [Wanted(1, CRITIC, usd, uniform=False, batch=batch)]
        (held,) = reserve(self.connection, wanted, budgets=MONEY.budgets, now_ms=NOW_MS, until_ms=NOW_MS)
        return held if isinstance(held, Reserved) else None

    def book(self, *spends: Spend | None) -> None:
        settle_spends(self.connection, [one for one in spends if one is not None], now_ms=NOW_MS)

    def used_usd(self) -> float:
        """What is spent and reserved; never more than the budget."""
        account = account_of(self.connection, 1, CRITIC, DAY)
        used = account.spent_usd + account.reserved_usd
        assert used <= BUDGET_USD + 1e-9
        return used


def draw_three(given: Sequence[Any]) -> list[Any] | CriticError:
    """Return what `three` makes of the outcomes of three requests."""
    left = list(given)

    async def _one() -> Any:
        one = left.pop(0)
        if isinstance(one, BaseException):
            raise one
        return one

    try:
        return asyncio.run(three(_one))
    except CriticError as error:
        return error


def at_most_usd() -> float:
    return PRICE.at_most_usd(DRAWS * REQUEST.input_tokens, DRAWS * REQUEST.output_tokens)


@given(_JUDGEMENTS, st.sets(st.integers(0, 7)))
@hypothesis_settings(max_examples=60, deadline=None)
def test_what_a_provider_charges_is_booked_or_held_whatever_comes_of_three_draws(
    judgements: list[list[tuple[str, tuple[int, int, int, int], bool]]], dies: set[int]
) -> None:
    """Answers, refusals, halves of a judgement, hangs, resets, spent quotas and crashes, in any order."""
    store, charged = Store(), 0.0
    for place, requests in enumerate(judgements):
        held = store.hold(at_most_usd())
        if held is None:
            continue  # no money: nothing is sent
        given = [outcome_of(kind, bounded(used), tells) for kind, used, tells in requests]
        charged += sum(usd for _one, usd in given)
        judgement: Any = SimpleNamespace(project_id=1, held=held)
        if place in dies:
            settle_dead(store.connection, now_ms=None)
        else:
            store.book(booked(store.purse, judgement, draw_three([one for one, _usd in given])))
        assert charged <= store.used_usd() + 1e-9


def booked(purse: Purse, judgement: Judgement, came: list[Any] | CriticError) -> Spend | None:
    if isinstance(came, CriticError):
        return purse.without_answer(judgement, came)
    return purse.spent(judgement, purse.costs_usd(verdicts_of(came, ["tone", "accuracy"])))


@given(_JUDGEMENTS, st.booleans(), st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_what_a_provider_charges_for_a_batch_is_booked_whatever_its_answers_hold(
    judgements: list[list[tuple[str, tuple[int, int, int, int], bool]]], whole: bool, data: Any
) -> None:
    """Half-price answers, refusals, requests that expired, lines without usage, files that break off."""
    store, charged, outcomes, rows = Store(), 0.0, dict[str, Outcome](), []
    for request, draws in enumerate(judgements, start=1):
        rows.append(row_of(request))
        for place, (kind, used, tells) in enumerate(draws):
            one, usd = outcome_of(kind, bounded(used), tells)
            came = Missed(str(one), again=True) if isinstance(one, CriticError) else one
            charged += 0.0 if isinstance(came, Missed) else usd * PRICE.batch_factor
            if whole or data.draw(st.booleans()):
                outcomes[custom_id("mark", request, place)] = came
    held = store.hold(len(judgements) * at_most_usd() * PRICE.batch_factor, batch=1)
    if held is None:
        return
    batch = OpenBatch(1, CRITIC, 1, "mark", "sent", "b", len(judgements) * DRAWS, None, NOW_MS)
    batcher: Any = SimpleNamespace(requests_a_case=DRAWS, verdicts=verdicts_of)
    done = became(
        batch,
        Results(outcomes, whole),
        rows,
        batcher=batcher,
        held=held,
        price=lambda came: MONEY.cost_usd(CRITIC, came, NOW_MS, batched=True),
        next_rows=lambda _row: (),
    )
    store.book(*done.spends)
    assert charged <= store.used_usd() + 1e-9
    account = account_of(store.connection, 1, CRITIC, DAY)
    assert account.reserved_usd == 0.0
    exact = whole and all(tells or kind not in ("answered", "refused", "cut off") for draws in judgements
                          for kind, _used, tells in draws)  # fmt: skip
    if exact:
        assert account.spent_usd == pytest.approx(charged, abs=1e-8), "what is known is booked to the cent"


def row_of(request: int) -> InBatch:
    return InBatch(
        request, "mark", request, request, "tone", "b", "v", CRITIC, "", 1, 1.0, "", "default", "", 1.0,
        uniform=False, urgency=0.0, open=True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["answered", "refused", "cut off"])
def test_what_is_written_to_the_cache_costs_more_than_plain_input(kind: str) -> None:
    """Anthropic charges a quarter more for it: two draws that wrote, and a third that was turned away."""
    store = Store()
    wrote, usd = outcome_of(kind, (0, 0, 1000, 10), tells=True)
    judgement: Any = SimpleNamespace(project_id=1, held=store.hold(at_most_usd()))
    error = draw_three([wrote, CriticUnavailable("429", busy=True), wrote])
    assert isinstance(error, CriticError)
    store.book(store.purse.without_answer(judgement, error))
    assert store.used_usd() == pytest.approx(2 * usd)
    assert usd > charged_usd((1000, 0, 0, 10))


def test_a_quota_that_is_spent_between_two_draws_leaves_the_first_one_booked() -> None:
    store = Store()
    first, usd = outcome_of("answered", (500, 0, 0, 5), tells=True)
    judgement: Any = SimpleNamespace(project_id=1, held=store.hold(at_most_usd()))
    error = draw_three([first, CriticMisconfigured("the quota is spent"), CriticUnavailable("429")])
    assert isinstance(error, CriticMisconfigured)
    store.book(store.purse.without_answer(judgement, error))
    assert store.used_usd() == pytest.approx(usd)


def test_a_draw_that_was_turned_down_costs_nothing_beside_two_that_were_not() -> None:
    """The whole used to be unknown, and so was booked in full."""
    came, usd = outcome_of("answered", (500, 100, 0, 5), tells=True)
    verdicts = verdicts_of([came, Unusable("400", charged=False), came], ["tone"])
    (cost_usd,) = Store().purse.costs_usd(verdicts)
    assert isinstance(verdicts[0], Answer)
    assert cost_usd == pytest.approx(2 * usd)


def test_a_judgement_of_which_nothing_was_charged_is_free() -> None:
    verdicts = verdicts_of([Unusable("400", charged=False)] * DRAWS, ["tone"])
    assert Store().purse.costs_usd(verdicts) == [0.0]
    assert not any(replace(verdict).charged for verdict in verdicts), "the charge survives being split"
    assert isinstance(verdicts[0], Charge)
