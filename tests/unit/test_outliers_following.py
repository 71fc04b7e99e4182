"""A case's fix, proven or not by the calls that came since; a closed case that reopens by itself."""

import random
from dataclasses import replace
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy import insert, select, update

from critic.tables import GuardReading
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Call, Signal, columns
from outliers.casework import case_actions
from outliers.casework.case_actions import By
from outliers.casework.cases import Case, Fix, case_of, events_of
from outliers.casework.following import first_used_ms, follow_cases
from outliers.casework.proof import NothingComesBack, Trouble, gather
from outliers.casework.verification import ALPHA, Outcomes, Sides, judge, sequence_radius
from outliers.conditions import Condition
from outliers.experience.refresh import refresh_experience
from outliers.weekly import compute_weeks
from outliers.weeks import Week, week_after, week_by_id
from tests.rows import HOUR_MS, frame_of, put_calls, quiet_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W30", UTC)
DAY_MS = 24 * HOUR_MS
ADA = By("ada", WEEK.until_ms + DAY_MS)


def a_week(
    source: random.Random, week: Week, version: str, bad: float, n: int = 1200
) -> list[dict[str, Any]]:
    """Return a week in which prompt faq has one version and a share of answers in the wrong language."""
    calls = quiet_calls(source, week.since_ms, n, users=150)
    for call in calls:
        call["first_seen_at_ms"] = WEEK.since_ms - 90 * DAY_MS
        if call["prompt"] == "faq":
            call["prompt_version"] = version
            if source.random() < bad:
                call |= {"p_fail": source.uniform(0.8, 0.99), "kind": "wrong_language"}
    return calls


def weeks_from(first: Week, count: int) -> list[Week]:
    weeks = [first]
    while len(weeks) < count:
        weeks.append(week_after(weeks[-1], UTC))
    return weeks


def nominated(store: OpenStore, settings: Settings, seed: int = 1) -> Case:
    """Keep a week in which faq@v9 fails, and return its case."""
    store.write(partial(put_calls, calls=a_week(random.Random(seed), WEEK, "v9", 0.5)))
    refresh_experience(store, settings)
    compute_weeks(store, settings, WEEK.until_ms + HOUR_MS)
    with store.read() as connection:
        case = case_of(connection, 1, WEEK.id)
    assert case is not None
    assert {part.field for part in case.cohort.condition.parts} <= {"prompt", "prompt_version"}
    return case


def fixed(store: OpenStore, version: str | None) -> None:
    fix = Fix(WEEK.until_ms, None, version, None, "ada")
    store.write(partial(case_actions.enter_fix, project_id=1, week_id=WEEK.id, by=ADA, fix=fix))


def look(store: OpenStore, settings: Settings, now_ms: int) -> Case:
    refresh_experience(store, settings)
    follow_cases(store, settings, {}, now_ms)
    with store.read() as connection:
        case = case_of(connection, 1, WEEK.id)
    assert case is not None
    return case


def test_trouble_that_was_over_before_its_fix_is_no_proof_and_is_watched(
    store: OpenStore, settings: Settings
) -> None:
    """Calls that go well since Tuesday go well whatever was done on Monday: "fixed" would be a guess."""
    case = nominated(store, settings)
    hours = Condition("started_at", "within", (WEEK.since_ms + DAY_MS, WEEK.since_ms + 2 * DAY_MS))
    cohort = replace(case.cohort, condition=Condition.all_of([*case.cohort.condition.parts, hours]))
    store.write(partial(case_actions.pick, project_id=1, week_id=WEEK.id, by=ADA, cohort=cohort))
    fixed(store, None)
    source = random.Random(6)
    weeks = weeks_from(week_after(WEEK, UTC), 3)
    store.write(partial(put_calls, calls=a_week(source, weeks[0], "v9", 0.0)))
    over = look(store, settings, weeks[0].until_ms)
    assert over.proof is not None
    verdict = over.proof.verdict
    assert (over.status, verdict.verdict, verdict.calls_needed) == ("fixed", "too_early", None)
    assert verdict.sentence.startswith("It was over before the fix: ")
    assert f"until Wed 00:00, {verdict.after:.0%} bad in the".replace("%", " %") in verdict.sentence
    assert verdict.before == case.cohort.rate_in

    by_hand = partial(case_actions.verify, project_id=1, week_id=WEEK.id, by=ADA, because="it was a deploy")
    store.write(by_hand)
    store.write(partial(put_calls, calls=a_week(source, weeks[1], "v9", 0.0)))
    assert look(store, settings, weeks[1].until_ms).status == "verified"
    store.write(partial(put_calls, calls=a_week(source, weeks[2], "v9", 0.5)))
    assert look(store, settings, weeks[2].until_ms + 2 * DAY_MS).status == "reopened"


def test_a_fix_that_works_is_proven_closes_its_case_and_is_watched(
    store: OpenStore, settings: Settings
) -> None:
    nominated(store, settings)
    fixed(store, "v10")
    source = random.Random(2)
    weeks = weeks_from(week_after(WEEK, UTC), 4)
    early = look(store, settings, WEEK.until_ms + HOUR_MS)
    assert early.proof is not None
    assert early.proof.verdict.verdict == "too_early"
    assert early.proof.verdict.calls_needed is not None
    assert 20 <= early.proof.verdict.calls_needed <= 500
    assert "about" in early.proof.verdict.sentence

    store.write(partial(put_calls, calls=a_week(source, weeks[0], "v10", 0.0)))
    proven = look(store, settings, weeks[0].until_ms)
    assert proven.status == "verified"
    assert proven.closed_at_ms == weeks[0].until_ms
    assert proven.proof is not None
    assert proven.proof.verdict.sentence.startswith("Fixed: ")
    if any(part.field == "prompt_version" for part in proven.cohort.condition.parts):
        assert proven.proof.followed_by == ("faq@v10",)

    store.write(partial(put_calls, calls=a_week(source, weeks[1], "v10", 0.0)))
    assert look(store, settings, weeks[1].until_ms).status == "verified", "it stays fixed"

    # another version, the old trouble
    store.write(partial(put_calls, calls=a_week(source, weeks[2], "v11", 0.5)))
    back = look(store, settings, weeks[2].until_ms + 2 * DAY_MS)
    assert (back.status, back.fix, back.closed_at_ms) == ("reopened", None, None)
    with store.read() as connection:
        told = [(event.what, event.who) for event in events_of(connection, 1, [WEEK.id])]
    assert told == [
        ("nominated", "lowlight"),
        ("fixed", "ada"),
        ("verdict", "lowlight"),
        ("verified", "lowlight"),
        ("reopened", "lowlight"),
    ]


def test_a_fix_that_does_not_work_is_told(store: OpenStore, settings: Settings) -> None:
    nominated(store, settings)
    fixed(store, "v10")
    after = week_after(WEEK, UTC)
    store.write(partial(put_calls, calls=a_week(random.Random(2), after, "v10", 0.5)))
    case = look(store, settings, after.until_ms)
    assert case.status == "fixed"
    assert case.proof is not None
    assert case.proof.verdict.verdict == "no_change"
    assert case.proof.verdict.before is not None
    assert case.proof.verdict.after is not None
    assert case.proof.verdict.after == pytest.approx(case.proof.verdict.before, abs=0.15)


def test_answers_of_another_guard_are_not_compared(store: OpenStore, settings: Settings) -> None:
    """A guard that sees nothing would look like a fix."""
    nominated(store, settings)
    fixed(store, "v10")
    after = week_after(WEEK, UTC)
    seqs = store.write(partial(put_calls, calls=a_week(random.Random(2), after, "v10", 0.0)))

    def reread(connection: Any) -> None:
        guard = columns(GuardReading)
        mine = guard.c.call_seq.in_(seqs)
        connection.execute(update(guard).where(mine).values(version="another"))

    store.write(reread)
    case = look(store, settings, after.until_ms)
    assert case.proof is not None
    assert case.proof.verdict.verdict == "too_early"
    assert case.proof.not_comparable > 300
    assert "another rubric version or critic" in case.proof.verdict.sentence


def test_a_look_is_taken_once_a_day(store: OpenStore, settings: Settings) -> None:
    nominated(store, settings)
    fixed(store, None)
    now_ms = WEEK.until_ms + 2 * DAY_MS
    assert follow_cases(store, settings, {}, now_ms) == 1
    assert follow_cases(store, settings, {}, now_ms + DAY_MS - 1) == 0
    assert follow_cases(store, settings, {}, now_ms + DAY_MS) == 1


def test_a_fix_began_when_its_version_was_first_used(store: OpenStore, settings: Settings) -> None:
    case = nominated(store, settings)
    after = week_after(WEEK, UTC)
    later = a_week(random.Random(3), after, "v10", 0.0)
    store.write(partial(put_calls, calls=later))
    first_ms = min(call["started_at_ms"] for call in later if call["prompt"] == "faq")
    with store.read() as connection:
        assert first_used_ms(connection, 1, case, "faq@v10", None) == first_ms // HOUR_MS * HOUR_MS
        assert first_used_ms(connection, 1, case, "faq@v9", None) is None, "it was there before: a rollback"
        assert first_used_ms(connection, 1, case, "faq@v12", None) is None, "nobody has used it yet"


def outcomes(source: np.random.Generator, n: int, rate: float, people: int = 80) -> Outcomes:
    bad = source.random(n) < rate
    y = np.where(bad, source.uniform(0.5, 0.95, n), source.beta(0.4, 20, n))
    return Outcomes(y, source.integers(0, people, n), np.zeros(n, dtype=np.int64))


def test_daily_looks_at_no_fix_never_say_fixed() -> None:
    """An interval of 95 % looked at daily errs in 20 %; a confidence sequence holds at all looks at once."""
    said_fixed = 0
    for seed in range(60):
        source = np.random.default_rng(seed)
        before, rest = outcomes(source, 60, 0.4), outcomes(source, 800, 0.06)
        since = outcomes(source, 30 * 12, 0.4)
        for day in range(1, 31):
            after = Outcomes(since.y[: 12 * day], since.people[: 12 * day], since.stratum[: 12 * day])
            said_fixed += judge(Sides(before, after, rest, rest), day).verdict == "fixed"
    assert said_fixed == 0


def test_one_persons_good_days_prove_nothing() -> None:
    source = np.random.default_rng(3)
    before, rest = outcomes(source, 200, 0.6), outcomes(source, 800, 0.06)
    one = Outcomes(np.full(300, 0.01), np.full(300, 7), np.zeros(300, dtype=np.int64))
    assert judge(Sides(before, one, rest, rest), 20).verdict == "too_early"


def test_what_all_calls_did_is_taken_off() -> None:
    """When everything goes half as badly, a quiet season is no fix, and no other verdict either."""
    source = np.random.default_rng(5)
    before, rest_before = outcomes(source, 400, 0.6), outcomes(source, 2000, 0.4)
    after, rest_after = outcomes(source, 400, 0.4), outcomes(source, 2000, 0.2)
    assert judge(Sides(before, after, rest_before, rest_after), 7).verdict != "fixed"
    assert judge(Sides(before, after, rest_before, rest_before), 7).verdict == "fixed"


def test_another_mix_of_inputs_is_no_fix() -> None:
    """Half the German questions are gone, and they were the ones that failed."""
    source = np.random.default_rng(8)

    def mixed(german: int, english: int) -> Outcomes:
        one, two = outcomes(source, german, 0.7), outcomes(source, english, 0.05)
        strata = np.repeat([1, 2], [german, english])
        return Outcomes(np.concatenate([one.y, two.y]), np.concatenate([one.people, two.people]), strata)

    before, after, rest = mixed(400, 400), mixed(60, 740), outcomes(source, 2000, 0.05)
    verdict = judge(Sides(before, after, rest, rest), 7)
    assert verdict.verdict != "fixed"
    assert verdict.before is not None
    assert verdict.before < float(before.y.mean()) - 0.1, "before is weighed to the mix of after"


def test_the_number_needed_is_about_right() -> None:
    """With so many more calls as were said, most fixes are proven; with a quarter of them, few."""
    proven = {0.25: 0, 1.5: 0}
    for seed in range(40):
        source = np.random.default_rng(seed)
        before, rest = outcomes(source, 80, 0.45), outcomes(source, 1500, 0.06)
        first = judge(Sides(before, outcomes(source, 0, 0.06), rest, rest), 0.5)
        assert first.calls_needed is not None
        for share in proven:
            after = outcomes(source, round(first.calls_needed * share), 0.06)
            proven[share] += judge(Sides(before, after, rest, rest), 5).verdict == "fixed"
    assert proven[1.5] >= 34
    assert proven[0.25] <= 12


def test_the_sequence_is_as_wide_as_its_source_says() -> None:
    """Robbins' mixture at its tightest: sqrt((-2 log a + log(-2 log a) + 1) * variance), nearly."""
    bits = -2 * np.log(ALPHA)
    for half in (0.05, 0.2):
        variance = half**2 / (bits + np.log(bits) + 1)
        assert sequence_radius(variance, half) == pytest.approx(half, rel=0.05)
    assert sequence_radius(0.01, 0.2) > 1.96 * 0.1


def test_hours_of_one_week_do_not_come_back(store: OpenStore, settings: Settings) -> None:
    span = Condition("started_at", "within", (WEEK.since_ms, WEEK.since_ms + HOUR_MS))
    trouble = Trouble(span, WEEK, "others", WEEK.until_ms)
    frame = frame_of(quiet_calls(random.Random(1), WEEK.since_ms, 200), WEEK)
    with pytest.raises(NothingComesBack):
        gather(trouble, [WEEK], [], lambda _week: frame, lambda _b: lambda s: (s * 0.0, [""] * len(s)), 0)


def test_the_half_that_found_the_case_is_no_proof() -> None:
    """The finders' calls under the condition are all bad, the others' all fine: nothing was wrong."""
    source = random.Random(4)
    calls = quiet_calls(source, WEEK.since_ms, 1500)
    frame = frame_of(calls, WEEK)
    trouble = Trouble(Condition("prompt", "=", "draft"), WEEK, "others", WEEK.until_ms)
    y = np.where(frame.held_back, 0.0, 1.0)
    people = [call["user_id"] for call in calls]

    def read(seqs: Any) -> tuple[Any, list[str]]:
        return y[seqs - 1], [people[seq - 1] for seq in seqs.tolist()]

    seen = gather(trouble, [WEEK], [], lambda _week: frame, lambda _before: read, WEEK.until_ms)
    assert len(seen.sides.before) > 100
    assert seen.sides.before.y.max() == 0.0
    assert seen.sides.rest_before.y.max() == 0.0


def test_a_signal_counts_within_a_day_on_both_sides(store: OpenStore, settings: Settings) -> None:
    """Calls before a fix had weeks to get a thumb; those since it had not."""
    nominated(store, settings)
    with store.read() as connection:
        seqs = connection.execute(select(columns(Call).c.seq)).scalars().all()
    late = [
        {
            "project_id": 1,
            "id": f"late-{seq}",
            "call_seq": seq,
            "kind": "thumbs_down",
            "at_ms": WEEK.until_ms + 10 * DAY_MS,
            "received_at_ms": WEEK.until_ms + 10 * DAY_MS,
        }
        for seq in seqs
    ]
    store.write(lambda connection: connection.execute(insert(columns(Signal)), late))
    fixed(store, "v10")
    after = week_after(WEEK, UTC)
    store.write(partial(put_calls, calls=a_week(random.Random(2), after, "v10", 0.5)))
    case = look(store, settings, after.until_ms)
    assert case.proof is not None
    assert case.proof.verdict.verdict == "no_change"
