"""The demo's invented week: the same every time, varied, and with its three troubles in it."""

import random
import re
from collections import Counter
from datetime import UTC, datetime
from functools import cache

import pytest

from api.demo.texts import LANGUAGES, Writer, written
from api.demo.traffic import DAY_MS, REPAIRED_MS, TROUBLES, Traffic, demo_traffic, fixed_week_ms
from ingest.wire import calls_of, signals_of

WEEK = "2026-W46"
SINCE_MS = int(datetime(2026, 11, 9, tzinfo=UTC).timestamp() * 1000)
NOW_MS = SINCE_MS + 10 * DAY_MS + 5_000_000


@cache
def week() -> Traffic:
    return demo_traffic(WEEK, SINCE_MS, NOW_MS)


def in_main_week(call_id: str) -> bool:
    return re.fullmatch(r"demo-2026-w46-\d+", call_id) is not None


def test_the_same_week_and_seed_give_the_same_traffic() -> None:
    again = demo_traffic(WEEK, SINCE_MS, NOW_MS)
    assert again == week()
    assert demo_traffic(WEEK, SINCE_MS, NOW_MS, seed=2).calls != week().calls


def test_a_later_run_in_the_same_week_only_adds_the_days_that_ended() -> None:
    early = demo_traffic(WEEK, SINCE_MS, SINCE_MS + 8 * DAY_MS)
    late = {call["id"]: call for call in week().calls}
    assert all(late[call["id"]] == call for call in early.calls)
    assert len(early.calls) < len(late)


def test_ids_are_unique_and_signals_name_calls() -> None:
    traffic = week()
    ids = [call["id"] for call in traffic.calls]
    signals = [*traffic.early, *traffic.signals]
    assert len(set(ids)) == len(ids)
    assert len({signal["id"] for signal in signals}) == len(signals)
    assert {signal["call_id"] for signal in signals} <= set(ids)


def test_everything_is_what_the_server_takes() -> None:
    traffic = week()
    as_sent = [
        {**call, "prompt": dict(zip(("name", "version"), call["prompt"], strict=True))}
        for call in traffic.calls
    ]
    calls, signals = calls_of(as_sent), signals_of([*traffic.early, *traffic.signals])
    assert (calls.rejected, calls.unknown_fields) == ([], set())
    assert (signals.rejected, signals.unknown_fields) == ([], set())


def test_nothing_happens_in_the_future_and_most_of_it_in_the_week() -> None:
    traffic = week()
    times = [datetime.fromisoformat(call["started_at"]).timestamp() * 1000 for call in traffic.calls]
    assert max(times) < NOW_MS
    in_week = sum(SINCE_MS <= at < SINCE_MS + 7 * DAY_MS for at in times)
    before = sum(at < SINCE_MS for at in times)
    assert 1_600 <= in_week <= 1_800
    assert 220 <= before <= 400


def test_outputs_are_varied() -> None:
    outputs = Counter(call["output"] for call in week().calls if call.get("output"))
    repeats = sum(n - 1 for n in outputs.values())
    assert repeats < 0.08 * len(week().calls)
    assert outputs.most_common(1)[0][1] < 15


def test_each_trouble_has_sixty_calls_in_the_week_and_all_else_is_rare() -> None:
    planted = Counter(kind for call_id, kind in week().planted.items() if in_main_week(call_id))
    for trouble in TROUBLES:
        assert planted[trouble] >= 60, planted
    flaws = sum(n for kind, n in planted.items() if kind not in TROUBLES)
    assert 0 < flaws < 0.03 * len(week().calls)


def test_the_troubles_sit_where_they_should() -> None:
    calls = {call["id"]: call for call in week().calls}
    rolled_out = datetime.fromtimestamp((SINCE_MS + 2 * DAY_MS) / 1000, UTC)
    for call_id, kind in week().planted.items():
        call = calls[call_id]
        if kind == "long_document":
            assert call["prompt"][0] == "doc-summary"
            assert call["usage"]["input_tokens"] > 9_800
            assert not call["output"].rstrip().endswith((".", "!", "?"))
        elif kind == "wrong_language":
            assert call["prompt"] == ("support-answer", "v12")
            assert datetime.fromisoformat(call["started_at"]) > rolled_out
        elif kind == "rude":
            assert call["prompt"][0] == "welcome-chat"
            assert "-w46-" in call["user_id"]  # somebody who joined in this week


def test_a_trouble_of_weeks_before_is_gone_with_the_next_version() -> None:
    drafts = [call for call in week().calls if call["prompt"][0] == "reply-draft" and "output" in call]
    for version, low, high in (("v6", 0.75, 1.0), ("v7", 0.0, 0.05)):
        of_it = [call["id"] for call in drafts if call["prompt"][1] == version]
        assert len(of_it) >= 50
        assert low <= sum(week().planted.get(one) == "repeated" for one in of_it) / len(of_it) <= high
    last = max(call["started_at"] for call in drafts if call["prompt"][1] == "v6")
    assert datetime.fromisoformat(last).timestamp() * 1000 < fixed_week_ms(SINCE_MS) + REPAIRED_MS


def test_people_of_the_week_before_are_known() -> None:
    known = {call["user_id"] for call in week().calls if re.search("-[ab]\\d", call["id"])}
    old = {
        call["user_id"]
        for call in week().calls
        if in_main_week(call["id"]) and "-w46-" not in call["user_id"]
    }
    assert old <= known


def test_thumbs_are_sparse_and_mostly_up() -> None:
    signals = Counter(signal["kind"] for signal in [*week().early, *week().signals])
    answered = sum("output" in call for call in week().calls)
    thumbs = signals["thumbs_up"] + signals["thumbs_down"]
    assert 0.10 <= thumbs / answered <= 0.20
    assert signals["thumbs_up"] > 1.5 * signals["thumbs_down"]
    assert week().early


def test_some_costs_and_all_outputs_of_failed_calls_are_unknown() -> None:
    by_model = {call["model"]: call.get("cost_usd") for call in week().calls if "output" in call}
    assert by_model["peregrine-large"] is None
    assert by_model["aurora-2"] is not None
    failed = [call for call in week().calls if "error" in call]
    assert 5 <= len(failed) <= 40
    assert all("output" not in call for call in failed)


def test_latency_has_a_tail_and_long_documents_are_in_it() -> None:
    latencies = sorted(call["latency_ms"] for call in week().calls)
    assert 600 < latencies[len(latencies) // 2] < 2_500
    slowest = [call for call in week().calls if "output" in call and call["latency_ms"] > 15_000]
    assert sum(call["usage"]["input_tokens"] > 9_800 for call in slowest) > 0.9 * len(slowest) > 30


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_slot_of_every_text_can_be_filled(language: str) -> None:
    """A typing error in a text would only show in the one week that picks it."""
    writer = Writer(random.Random(1), language, "Proof & Peel")
    slots = set(writer._slots())
    for topic in written(f"support.{language}")["topic"]:
        follow = [text for one in topic.get("follow", []) for part in (one["q"], *one["a"]) for text in part]
        for text in (*topic["questions"], *(one for part in topic["answer"] for one in part), *follow):
            assert set(re.findall(r"{(\w+)}", text)) <= slots, text
