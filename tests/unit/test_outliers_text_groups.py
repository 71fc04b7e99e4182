"""Groups by text: words that a held-back half confirms, and silence where words mean nothing."""

import random
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from ingest.settings import Settings
from ingest.store import OpenStore
from outliers.cohorts.candidates import holds
from outliers.cohorts.findings import Finding
from outliers.cohorts.text_columns import CHARS, add_words, condition_on
from outliers.conditions import Condition
from outliers.experience.refresh import refresh_experience
from outliers.frame import week_calls
from outliers.weekly import compute_week
from outliers.weeks import week_before, week_by_id
from tests.rows import put_calls, quiet_calls

ZONE = ZoneInfo("UTC")
WEEK = week_by_id("2026-W46", ZONE)
TOPICS = (
    "How do I export the monthly report of my team?",
    "The invoice of last month shows the wrong amount, please correct it.",
    "Which ovens can bake four trays of bread at once?",
    "Please change the delivery address of the basket.",
    "Can I plan the holiday shifts of two bakeries together?",
)
PARCELS = (
    "My parcel from Lisbon has not come.",
    "Where is the parcel that I ordered?",
    "The parcel was broken when it came from Lisbon.",
)


def a_week(seed: int, since_ms: int, n: int, struck: float) -> list[dict]:
    """An ordinary week; one question in twenty-five is about a parcel, and `struck` of those go wrong."""
    source = random.Random(seed)
    calls = []
    for call in quiet_calls(source, since_ms, n):
        about_parcels = source.random() < 0.04
        asked = source.choice(PARCELS if about_parcels else TOPICS)
        call |= {"text": {"input": f"{asked} Ticket {source.randrange(10**7)}."}}
        if about_parcels and source.random() < struck:
            call |= {"p_fail": 0.9, "kind": "off_topic"}
        calls.append(call)
    return calls


def found_in(store: OpenStore, settings: Settings, *weeks: list[dict]) -> list[Finding]:
    for calls in weeks:
        store.write(partial(put_calls, calls=calls))
    refresh_experience(store, settings)
    return compute_week(store, settings, 1, WEEK, WEEK.until_ms).bad


def by_text(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.condition.field == "input_text"]


def test_a_topic_that_went_wrong_is_found_by_its_words(store: OpenStore, settings: Settings) -> None:
    [group] = by_text(found_in(store, settings, a_week(1, WEEK.since_ms, 2_000, 0.8)))
    assert "parcel" in str(group.condition.value).split()
    assert group.condition.as_json()["op"] == "has"
    assert Condition.from_json(group.condition.as_json()) == group.condition
    assert group.n > 50
    assert group.rate_in > 0.5
    assert group.p_value < 1e-3
    assert "“parcel”" in group.sentence
    assert group.case_sentence.startswith("Answers missed the question for inputs with “parcel”")
    calls = week_calls(store, 1, WEEK)
    assert not holds(group.condition, calls).any(), "a frame knows no texts by itself"
    add_words(store, 1, calls, group.condition)
    assert holds(group.condition, calls).sum() == group.n


def test_a_topic_that_always_goes_wrong_is_no_news(store: OpenStore, settings: Settings) -> None:
    before = a_week(3, week_before(WEEK, ZONE).since_ms, 2_000, 0.8)
    assert by_text(found_in(store, settings, before, a_week(4, WEEK.since_ms, 2_000, 0.8))) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_quiet_week_has_no_group(store: OpenStore, settings: Settings, seed: int) -> None:
    assert by_text(found_in(store, settings, a_week(seed, WEEK.since_ms, 1_500, 0.0))) == []


def test_a_word_is_found_whole_in_any_case_and_near_the_end(store: OpenStore) -> None:
    texts = [
        "Das gibt ÄRGER.",
        "ärger? ja",
        "nur Ärgernis",
        "100%_sure thing",
        "100x_sure thing",
        "parcel " + "x" * CHARS,
        '[{"role": "user", "content": "Parcel?"}]',
        None,
    ]
    calls = [
        {"started_at_ms": WEEK.since_ms + i, "text": {"input": text}, "latency_ms": 5}
        for i, text in enumerate(texts)
    ]
    store.write(partial(put_calls, calls=calls))
    frame = week_calls(store, 1, WEEK)
    held = {}
    for words in ("ärger", "_sure", "parcel", "ärger parcel"):
        condition = condition_on(words.split())
        add_words(store, 1, frame, condition)
        add_words(store, 1, frame, condition)
        held[words] = [i for i, inside in enumerate(holds(condition, frame).tolist()) if inside]
    assert held == {"ärger": [0, 1], "_sure": [3], "parcel": [6], "ärger parcel": [0, 1, 6]}
