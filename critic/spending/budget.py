"""The hard daily budget: money is reserved before a request and settled after it, per project and critic.

Flow: critic.working.lane asks `reserve` with the most that each judgement can cost -> `Reserved`, or no room
-> the request -> `settle_spends` with what it cost, in the transaction that keeps its answers. What a dead
worker held is settled in full (`settle_dead`): a budget may be underused by a crash and is never exceeded by
one.

All are plain functions of a Connection with plain data as arguments; none commits. A day is a UTC day.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, delete, select, update

from critic.tables import CriticDay, Reservation, SampleCount
from ingest.tables import columns
from ingest.upsert import upsert

DAY, RESERVATION, SAMPLE = columns(CriticDay), columns(Reservation), columns(SampleCount)

DAY_MS = 24 * 3600 * 1000
#: What deferred calls wait at most before they are skipped.
DEFERRED_DAYS_MAX = 14
#: Rounding of sums of dollars: a budget is never said to be exceeded by less than this.
EPSILON_USD = 1e-9


@dataclass(frozen=True)
class Budget:
    """What one critic may spend a day on each project.

    Attributes:
        usd: all of it.
        uniform_usd: the part of it that only the uniform sample may use.
    """

    usd: float
    uniform_usd: float


@dataclass(frozen=True)
class Wanted:
    """Money for one judgement, or for a whole batch of them: `usd` is no less than it can cost."""

    project_id: int
    critic: str
    usd: float
    uniform: bool
    batch: int | None = None


@dataclass(frozen=True)
class Reserved:
    """Money that is held; `seq` names the reservation."""

    seq: int
    usd: float
    uniform: bool
    day: int


@dataclass(frozen=True)
class NoRoom:
    """The money is not there.

    Attributes:
        today: True where what is already spent leaves too little for the rest of the day; False where money
            that is only reserved stands in the way, so that asking again in a moment may help.
        left_usd: what this judgement might have used at most.
    """

    today: bool
    left_usd: float


@dataclass(frozen=True)
class Spend:
    """What became of one judgement's money.

    Attributes:
        usd: what it cost; None where that is unknown: a reservation is then settled in full, and without one
            the request is counted as unpriced.
        reservation: the money held for it; None where no budget holds.
        requests: 0 where nothing was sent, so that nothing is counted.
        known_usd: the part of an unknown cost that is known; the rest of what was held is in doubt.
    """

    project_id: int
    critic: str
    usd: float | None
    reservation: Reserved | None = None
    requests: int = 1
    known_usd: float = 0.0


@dataclass(frozen=True)
class Account:
    """One critic's day for one project; all US dollars."""

    spent_usd: float = 0.0
    uniform_spent_usd: float = 0.0
    reserved_usd: float = 0.0
    uniform_reserved_usd: float = 0.0
    in_doubt_usd: float = 0.0
    requests: int = 0
    requests_unpriced: int = 0

    def room_usd(self, budget: Budget, *, uniform: bool, spent_only: bool = False) -> float:
        """Return how much one more judgement may reserve.

        Args:
            uniform: whether it is of the uniform part, whose unused share nobody else may use.
            spent_only: count reserved money as free.
        """
        used = self.spent_usd + (0.0 if spent_only else self.reserved_usd)
        if uniform:
            return budget.usd - used
        uniform_used = self.uniform_spent_usd + (0.0 if spent_only else self.uniform_reserved_usd)
        return budget.usd - used - max(0.0, budget.uniform_usd - uniform_used)


def day_of(at_ms: int) -> int:
    """Return the UTC day of a time: days since 1970."""
    return at_ms // DAY_MS


def account_of(connection: Connection, project_id: int, critic: str, day: int) -> Account:
    """Return a day's account; an untouched day is empty. Sums that cancel out are 0, to a billionth."""
    row = connection.execute(
        select(*(DAY.c[name] for name in Account.__dataclass_fields__)).where(
            DAY.c.project_id == project_id, DAY.c.critic == critic, DAY.c.day == day
        )
    ).first()
    if row is None:
        return Account()
    return Account(
        **{
            name: round(value, 9) + 0.0 if name.endswith("_usd") else value
            for name, value in row._mapping.items()
        }
    )


def reserve(
    connection: Connection,
    wanted: Sequence[Wanted],
    *,
    budgets: Mapping[str, Budget],
    now_ms: int,
    until_ms: int,
) -> list[Reserved | NoRoom]:
    """Hold money for judgements, in their order; one that does not fit leaves room for smaller ones after it.

    Args:
        budgets: by critic; every critic in `wanted` has one.
        until_ms: when whoever asks is to be taken for dead.
    """
    day = day_of(now_ms)
    accounts: dict[tuple[int, str], Account] = {}
    more = _More()
    answers: list[Reserved | NoRoom] = []
    for one in wanted:
        key = (one.project_id, one.critic)
        if key not in accounts:
            _hold_account(connection, *key, day)
            accounts[key] = account_of(connection, *key, day)
        budget, account = budgets[one.critic], accounts[key]
        if one.usd > account.room_usd(budget, uniform=one.uniform) + EPSILON_USD:
            left_usd = account.room_usd(budget, uniform=one.uniform, spent_only=True)
            answers.append(NoRoom(one.usd > left_usd + EPSILON_USD, max(0.0, left_usd)))
            continue
        seq = connection.execute(
            RESERVATION.insert()
            .values(until_ms=until_ms, day=day, **asdict(one))
            .returning(RESERVATION.c.seq)
        ).scalar_one()
        answers.append(Reserved(seq, one.usd, one.uniform, day))
        uniform_usd = one.usd if one.uniform else 0.0
        more.plus((*key, day), reserved_usd=one.usd, uniform_reserved_usd=uniform_usd)
        accounts[key] = replace(
            account,
            reserved_usd=account.reserved_usd + one.usd,
            uniform_reserved_usd=account.uniform_reserved_usd + uniform_usd,
        )
    _add(connection, more)
    return answers


def _hold_account(connection: Connection, project_id: int, critic: str, day: int) -> None:
    """Keep other workers from the account until this transaction ends.

    On PostgreSQL two of them would each read what the other is about to reserve as free. SQLite has one
    writer, whose transactions follow one another.
    """
    if connection.dialect.name == "sqlite":
        return
    empty = {"project_id": project_id, "critic": critic, "day": day, **asdict(Account())}
    connection.execute(upsert(connection, DAY).on_conflict_do_nothing(), [empty])
    of_day = (DAY.c.project_id == project_id, DAY.c.critic == critic, DAY.c.day == day)
    connection.execute(select(DAY.c.day).where(*of_day).with_for_update())


def settle_spends(connection: Connection, spends: Sequence[Spend], *, now_ms: int) -> None:
    """Book what judgements cost and give back what was held for them beyond it.

    A reservation that is no longer there was settled in full when its holder was taken for dead: it is not
    booked again.
    """
    more = _More()
    for spend in spends:
        held = spend.reservation
        account = (spend.project_id, spend.critic, day_of(now_ms) if held is None else held.day)
        if held is None:
            unpriced = spend.requests if spend.usd is None else 0
            more.plus(
                account, requests=spend.requests, spent_usd=spend.usd or 0.0, requests_unpriced=unpriced
            )
        elif connection.execute(delete(RESERVATION).where(RESERVATION.c.seq == held.seq)).rowcount:
            settled = _settled(held.usd, held.uniform, spend.usd, spend.known_usd)
            more.plus(account, requests=spend.requests, **settled)
    _add(connection, more)


def settle_dead(connection: Connection, *, now_ms: int | None) -> float:
    """Settle in full what nobody will settle any more; return how much that is, in US dollars.

    Args:
        now_ms: reservations that ended before it; None for all, where the only worker of a store starts.
            What is held for a batch stays: the provider goes on with it, and `critic.batching.batches`
            settles it.
    """
    ended = select(RESERVATION).where(RESERVATION.c.batch.is_(None))
    if now_ms is not None:
        ended = ended.where(RESERVATION.c.until_ms <= now_ms)
    more = _More()
    in_full_usd = 0.0
    for row in connection.execute(ended).all():
        connection.execute(delete(RESERVATION).where(RESERVATION.c.seq == row.seq))
        account = (row.project_id, row.critic, row.day)
        more.plus(account, requests=1, **_settled(row.usd, row.uniform, None))
        in_full_usd += row.usd
    _add(connection, more)
    return in_full_usd


def count_sampled(
    connection: Connection, counts: Mapping[tuple[int, str, str], tuple[int, int]], *, now_ms: int
) -> None:
    """Add to today's counts of calls and chosen calls.

    Args:
        counts: (calls, chosen) by (project, critic, stratum).
    """
    day = day_of(now_ms)
    add = upsert(connection, SAMPLE)
    add = add.on_conflict_do_update(
        index_elements=["project_id", "critic", "day", "stratum"],
        set_={
            "calls": SAMPLE.c.calls + add.excluded.calls,
            "chosen": SAMPLE.c.chosen + add.excluded.chosen,
        },
    )
    rows = [
        {
            "project_id": project_id,
            "critic": critic,
            "day": day,
            "stratum": stratum,
            "calls": calls,
            "chosen": chosen,
        }
        for (project_id, critic, stratum), (calls, chosen) in counts.items()
    ]
    if rows:
        connection.execute(add, rows)


class _More(defaultdict[tuple[int, str, int], dict[str, float]]):
    """What is to be added to accounts: by (project, critic, day), by column."""

    def __init__(self) -> None:
        super().__init__(dict)

    def plus(self, key: tuple[int, str, int], **added: float) -> None:
        """Add to one account."""
        account = self[key]
        for name, value in added.items():
            account[name] = account.get(name, 0.0) + value


def _settled(
    held_usd: float, uniform: bool, cost_usd: float | None, known_usd: float = 0.0
) -> dict[str, float]:
    """Return what settling a reservation adds to its account; in full where the cost is unknown."""
    usd = held_usd if cost_usd is None else cost_usd
    more = {
        "reserved_usd": -held_usd,
        "spent_usd": usd,
        "in_doubt_usd": max(0.0, held_usd - known_usd) if cost_usd is None else 0.0,
    }
    if uniform:
        more |= {"uniform_reserved_usd": -held_usd, "uniform_spent_usd": usd}
    return more


def _add(connection: Connection, more: _More) -> None:
    for (project_id, critic, day), added in more.items():
        changed = {name: value for name, value in added.items() if value}
        if not changed:
            continue
        touched = connection.execute(
            update(DAY)
            .where(DAY.c.project_id == project_id, DAY.c.critic == critic, DAY.c.day == day)
            .values({name: DAY.c[name] + value for name, value in changed.items()})
        )
        if not touched.rowcount:
            first = asdict(Account()) | changed
            connection.execute(DAY.insert().values(project_id=project_id, critic=critic, day=day, **first))
