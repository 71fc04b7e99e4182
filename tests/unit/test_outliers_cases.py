"""From a week of calls to its case: figures, sentences, nomination, and what a person has picked."""

import random
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert, select, update

from critic.tables import GuardReading
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Signal, columns
from outliers.casework.cases import Event, case_of, cases_of, events_of, leading_cohort, nominate, note_event
from outliers.cohorts.findings import Finding, findings_of
from outliers.conditions import Condition
from outliers.experience.refresh import refresh_experience
from outliers.freshness import freshness
from outliers.process import run_once
from outliers.settled import settled
from outliers.tables import WeekCase
from outliers.weekly import compute_weeks
from outliers.weeks import week_by_id
from outliers.worst import calls_by_seq
from tests.rows import HOUR_MS, put_calls, quiet_calls

UTC = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", UTC)
AFTER_MS = WEEK.until_ms + HOUR_MS
#: Tuesday 14:00 of the week
SINCE_MS = WEEK.since_ms + 38 * HOUR_MS


def troubled(seed: int, n: int = 1500) -> list[dict[str, Any]]:
    """Return a week in which prompt faq@v9, first used on Tuesday at 14:00, answers in the wrong language."""
    source = random.Random(seed)
    calls = quiet_calls(source, WEEK.since_ms, n)
    for call in calls:
        if call["prompt"] == "faq" and call["started_at_ms"] >= SINCE_MS and source.random() < 0.3:
            call["prompt_version"] = "v9"
            if source.random() < 0.9:
                call |= {"p_fail": source.uniform(0.8, 0.99), "kind": "wrong_language"}
    return calls


def run(store: OpenStore, settings: Settings, now_ms: int) -> None:
    refresh_experience(store, settings)
    compute_weeks(store, settings, now_ms)


def test_a_weeks_case_is_its_cohort_in_a_sentence(store: OpenStore, settings: Settings) -> None:
    sent = troubled(1)
    store.write(partial(put_calls, calls=sent))
    run(store, settings, AFTER_MS)
    hit = [call for call in sent if call["prompt_version"] == "v9"]
    wrong = [call for call in hit if call["kind"] == "wrong_language"]
    with store.read() as connection:
        [finding] = findings_of(connection, 1, WEEK.id, "bad")
        case = case_of(connection, 1, WEEK.id)
        seed = connection.execute(select(columns(WeekCase).c.seed_call_seq)).scalar_one()
    assert finding.condition == Condition("prompt_version", "=", "faq@v9")
    assert (finding.n, finding.what_failed, finding.n_what_failed) == (len(hit), "wrong_language", len(wrong))
    assert finding.users == len({call["user_id"] for call in wrong})
    assert finding.first_seen_at_ms == wrong[0]["started_at_ms"]
    assert finding.rate_low < finding.rate_in < finding.rate_high
    assert finding.lift_low < finding.lift < finding.lift_high
    assert finding.lift == pytest.approx(finding.rate_in / finding.rate_out)
    assert finding.sentence.startswith("prompt version = faq@v9 holds for ")
    assert case is not None
    assert (case.status, case.so_far, case.cohort) == ("nominated", False, finding)
    since = datetime.fromtimestamp(wrong[0]["started_at_ms"] / 1000, UTC)
    assert case.sentence == (
        f"Answers came in the wrong language for prompt faq@v9: {len(wrong)} of {len(hit)} calls, "
        f"{finding.users} users, since {since:%a %H:%M}"
    )
    ids = [f"call-{place}" for place, call in enumerate(sent, 1) if call in wrong]
    assert set(case.cohort.examples) <= set(ids)
    assert case.seed_call_id == case.cohort.examples[0] == f"call-{seed}"


def test_a_case_opens_on_a_call_that_failed_as_its_sentence_says(
    store: OpenStore, settings: Settings
) -> None:
    """Worse calls of the cohort that failed otherwise come after those that show what the sentence says."""
    sent = troubled(4)
    wrong = [call for call in sent if call["kind"] == "wrong_language" and call["prompt_version"] == "v9"]
    for call in wrong[:6]:
        call |= {"outcome": "failed", "error_type": "timeout", "p_fail": 0.0, "kind": None}
    for call in wrong[6:12]:
        call |= {"p_fail": 0.995, "kind": "repeated", "signals": ("thumbs_down", "escalate")}
    store.write(partial(put_calls, calls=sent))
    run(store, settings, AFTER_MS)
    with store.read() as connection:
        case = case_of(connection, 1, WEEK.id)
        cohort = [place for place, call in enumerate(sent, 1) if call["prompt_version"] == "v9"]
        worst = calls_by_seq(connection, cohort)
    assert case is not None
    assert case.cohort.what_failed == "wrong_language"
    showing = {f"call-{place}" for place, call in enumerate(sent, 1) if call["kind"] == "wrong_language"}
    worst_first = [call.id for call in worst if call.id in showing]
    assert worst[0].id not in showing
    assert list(case.cohort.examples) == worst_first[:10]
    assert case.seed_call_id == case.cohort.examples[0]


def test_a_case_counts_what_failed_among_its_bad_calls(store: OpenStore, settings: Settings) -> None:
    """A call that shows the failure and still was fine is in neither figure of the sentence."""
    sent = troubled(6)
    wrong = [call for call in sent if call["kind"] == "wrong_language" and call["prompt_version"] == "v9"]
    for call in wrong[:8]:
        call["p_fail"] = 0.3
    store.write(partial(put_calls, calls=sent))
    run(store, settings, AFTER_MS)
    with store.read() as connection:
        [cohort] = findings_of(connection, 1, WEEK.id, "bad")
    assert cohort.what_failed == "wrong_language"
    assert cohort.n_what_failed == cohort.n_in < len(wrong)


def test_a_running_week_is_shown_so_far_and_nominated_when_it_ends(
    store: OpenStore, settings: Settings
) -> None:
    store.write(partial(put_calls, calls=troubled(2)))
    run(store, settings, WEEK.until_ms - 1)
    with store.read() as connection:
        case = case_of(connection, 1, WEEK.id)
        assert cases_of(connection, 1) == []
        assert settled(connection, settings, WEEK.until_ms - 1)
        assert not settled(connection, settings, WEEK.until_ms), "the end of a week is work, too"
    assert case is not None
    assert (case.status, case.nominated_at_ms) == ("so_far", None)
    run(store, settings, WEEK.until_ms)
    with store.read() as connection:
        [nominated] = cases_of(connection, 1)
    assert nominated == replace(case, status="nominated", nominated_at_ms=WEEK.until_ms)


def test_a_case_that_a_person_has_picked_is_never_overwritten(store: OpenStore, settings: Settings) -> None:
    store.write(partial(put_calls, calls=troubled(3)))
    run(store, settings, AFTER_MS)
    theirs = {"status": "picked", "owner": "ada", "sentence": "Ada's words"}
    store.write(lambda connection: connection.execute(update(columns(WeekCase)).values(**theirs)))
    late = [
        {
            "project_id": 1,
            "id": f"late-{seq}",
            "call_seq": seq,
            "kind": "thumbs_up",
            "at_ms": AFTER_MS,
            "received_at_ms": AFTER_MS,
        }
        for seq in range(1, 1501)
    ]
    store.write(lambda connection: connection.execute(insert(columns(Signal)), late))
    run(store, settings, AFTER_MS + HOUR_MS)
    with store.read() as connection:
        case = case_of(connection, 1, WEEK.id)
    assert case is not None
    assert (case.status, case.owner, case.sentence) == ("picked", "ada", "Ada's words")


def test_a_nomination_follows_what_is_learned_late(store: OpenStore, settings: Settings) -> None:
    """The guard, fitted anew, reads every answer as fine: nothing stands apart any more."""
    store.write(partial(put_calls, calls=troubled(4)))
    run(store, settings, AFTER_MS)
    with store.read() as connection:
        assert case_of(connection, 1, WEEK.id) is not None

    def reread(connection: Any) -> None:
        readings = columns(GuardReading)
        fine = update(readings).values(p_fail=0.01, kind=None, changed=readings.c.changed + 10_000)
        connection.execute(fine)

    store.write(reread)
    run(store, settings, AFTER_MS + HOUR_MS)
    with store.read() as connection:
        assert case_of(connection, 1, WEEK.id) is None


def test_nominations_that_follow_late_scores_are_one_line_of_history(
    store: OpenStore, settings: Settings
) -> None:
    """Until a person acts; what they acted on stays as it was told."""
    store.write(partial(put_calls, calls=troubled(5)))
    run(store, settings, AFTER_MS)
    with store.read() as connection:
        [first] = findings_of(connection, 1, WEEK.id, "bad")

    def nominated(*sentences: str) -> list[tuple[str, int, str]]:
        for minute, sentence in enumerate(sentences, 1):
            leading = replace(first, case_sentence=sentence)
            now_ms = AFTER_MS + minute * 60_000
            store.write(partial(nominate, project_id=1, week_id=WEEK.id, leading=leading, now_ms=now_ms))
        with store.read() as connection:
            return [(e.what, e.at_ms, e.words) for e in events_of(connection, 1, [WEEK.id])]

    last = ("nominated", AFTER_MS + 120_000, "93 of 100 calls")
    assert nominated("90 of 97 calls", "93 of 100 calls", "93 of 100 calls") == [last]
    note = Event(WEEK.id, AFTER_MS + 200_000, "ada", "note", "The parcels again?")
    store.write(partial(note_event, project_id=1, event=note))
    assert nominated("95 of 108 calls") == [
        last,
        ("note", note.at_ms, note.words),
        ("nominated", AFTER_MS + 60_000, "95 of 108 calls"),
    ]


def test_a_quiet_week_has_no_case(store: OpenStore, settings: Settings) -> None:
    store.write(partial(put_calls, calls=quiet_calls(random.Random(77), WEEK.since_ms, 800)))
    run(store, settings, AFTER_MS)
    with store.read() as connection:
        assert findings_of(connection, 1, WEEK.id, "bad") == []
        assert case_of(connection, 1, WEEK.id) is None


def test_an_import_of_many_weeks_is_worked_off_newest_first(store: OpenStore, settings: Settings) -> None:
    for week in range(10):
        since_ms = WEEK.since_ms - week * 168 * HOUR_MS
        store.write(partial(put_calls, calls=[{"started_at_ms": since_ms, "user_id": "u1"}]))
    refresh_experience(store, settings)
    first = [found.week.id for found in compute_weeks(store, settings, AFTER_MS)]
    assert first == [f"2026-W{46 - week}" for week in range(8)]
    second = [found.week.id for found in compute_weeks(store, settings, AFTER_MS)]
    assert second == ["2026-W38", "2026-W37"]
    assert compute_weeks(store, settings, AFTER_MS) == []


def test_a_run_says_when_it_ran_and_that_it_has_caught_up(store: OpenStore, settings: Settings) -> None:
    with store.read() as connection:
        assert freshness(connection, 1).ran_at_ms is None
    store.write(partial(put_calls, calls=[{"started_at_ms": WEEK.since_ms}]))
    with store.read() as connection:
        assert freshness(connection, 1).calls_behind == 1
    assert run_once(settings, store) == 1
    with store.read() as connection:
        fresh = freshness(connection, 1)
    assert fresh.caught_up
    assert fresh.ran_at_ms is not None


def test_the_cohort_with_most_severity_times_users_leads() -> None:
    def cohort(rank: int, severity: float, users: int, n_in: int = 30) -> Finding:
        fields: dict[str, Any] = dict.fromkeys(Finding.__dataclass_fields__, 0)
        return Finding(**fields | {"rank": rank, "severity": severity, "users": users, "n_in": n_in})

    few_but_awful, many = cohort(1, 0.9, 10), cohort(2, 0.5, 40)
    assert leading_cohort([few_but_awful, many]) == many
    assert leading_cohort([few_but_awful, cohort(3, 0.5, 0, n_in=19)]) == cohort(3, 0.5, 0, n_in=19)
    assert leading_cohort([]) is None
