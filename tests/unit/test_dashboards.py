"""What pages are made of: how values read, where charts draw, which window is meant, how texts are split."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import text

from dashboards import words
from dashboards.drawing import charts, render
from dashboards.drawing.render import STATIC, glued, static_files
from dashboards.filters import CallsQuery, Window, WindowQuery, week_window, window_of
from dashboards.memory import remembered
from dashboards.pages.glossary import PARTS
from dashboards.texts import PASSAGE, PASSAGE_END, excerpt, messages_of, passage
from ingest.store import OpenStore
from outliers.experience.refresh import keep_progress
from outliers.weeks import week_by_id
from tests.rows import put_calls

UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
SUNDAY = datetime(2026, 11, 22, 14, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, "unknown"),
        (0, "0 ms"),
        (0.03, "< 0.1 ms"),
        (3.21, "3.2 ms"),
        (812.4, "812 ms"),
        (999.7, "1.00 s"),
        (2_410, "2.41 s"),
        (99_940, "99.9 s"),
        (104_000, "104 s"),
        (200_000, "3 min 20 s"),
        (7_200_000, "2 h"),
    ],
)
def test_durations_have_a_unit_and_unknown_is_no_zero(ms: float | None, said: str) -> None:
    assert words.duration(ms) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "unknown"),
        (0, "0 %"),
        (0.0004, "< 0.1 %"),
        (0.034, "3.4 %"),
        (0.58, "58 %"),
        (0.9996, "> 99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_share_that_is_not_nothing_never_reads_nothing(value: float | None, said: str) -> None:
    assert words.share(value) == said


@given(st.floats(0, 1e9, allow_nan=False))
def test_money_and_durations_always_read(value: float) -> None:
    assert words.money(value).startswith("$")
    assert re.match(r"(< )?\d", words.duration(value))


def test_unknown_is_a_word_for_every_kind_of_value() -> None:
    said = {show(None) for show in (words.duration, words.share, words.count, words.money, words.number)}
    assert said == {"unknown"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mistral mistral-large", "mistral-large"),
        ("together llama-2-13b", "together llama-2-13b"),
        ("aurora", "aurora"),
        ("", "no model"),
    ],
)
def test_a_service_whose_model_names_its_provider_goes_by_the_model(name: str, shown: str) -> None:
    assert words.group(name, "service") == shown
    assert words.group("mistral mistral", "prompt") == "mistral mistral"


def test_a_headline_keeps_numbers_beside_their_units_and_says_the_same() -> None:
    said = glued("<b> took 4.6 s & 12,000 ms: bad, 99 %, in 3 sessions")
    assert said == (
        '&lt;b&gt; took <span class="whole">4.6 s</span> &amp; <span class="whole">12,000 ms</span>: bad, '
        '<span class="whole">99 %</span>, in 3 sessions'
    )


def test_an_infinite_lift_is_said_by_its_lower_end() -> None:
    assert words.lift(2.3, 1.6, 2.7) == "2.3× (1.6× to 2.7×)"
    assert words.lift(math.inf, 27.9, 7_184.0) == "at least 27.9×"


@given(st.text(max_size=300), st.integers(8, 80))
def test_a_shortened_text_is_one_line_within_its_length(text: str, length: int) -> None:
    short = words.shorten(text, length)
    assert len(short) <= length
    assert len(short.splitlines()) <= 1


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=30))
def test_a_log_axis_holds_every_value_in_order(values: list[float]) -> None:
    axis = charts.log_axis(values)
    places = [axis.x(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 < place < 100 for place in places)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert len(axis.ticks) <= 14


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=8))
def test_a_stacked_bar_fills_its_width(shares: list[tuple[str, float]]) -> None:
    pieces = charts.stacked(shares)
    assert len(pieces) == sum(value > 0 for _name, value in shares)
    if pieces:
        assert math.isclose(sum(piece.width for piece in pieces), 100, abs_tol=0.02)
        assert pieces[0].x == 0


def test_without_a_window_the_last_ended_week_and_this_one_are_meant() -> None:
    window = window_of(WindowQuery(), UTC_ZONE, SUNDAY)
    assert window.since == datetime(2026, 11, 9, tzinfo=UTC)
    assert SUNDAY < window.until <= SUNDAY + timedelta(seconds=1)
    assert (window.previous_week, window.next_week, window.parameters) == ("2026-W46", "2026-W47", {})


def test_a_week_is_cut_in_the_settings_time_zone_and_leads_to_its_neighbours() -> None:
    window = window_of(WindowQuery(week="2026-W46"), BERLIN, SUNDAY)
    assert window.since == datetime(2026, 11, 8, 23, tzinfo=UTC)
    assert (window.previous_week, window.next_week) == ("2026-W45", "2026-W47")
    assert window.words(BERLIN) == "week 46 · 9 to 15 Nov 2026"
    running = window_of(WindowQuery(week="2026-W47"), BERLIN, SUNDAY)
    assert running.next_week is None


def test_a_time_without_a_zone_is_the_settings_own() -> None:
    asked = WindowQuery.model_validate({"since": "2026-11-09", "until": "2026-11-10T12:00:00Z"})
    window = window_of(asked, BERLIN, SUNDAY)
    assert window.since == datetime(2026, 11, 8, 23, tzinfo=UTC)
    assert window.until == datetime(2026, 11, 10, 12, tzinfo=UTC)


def test_an_until_long_ago_is_no_empty_window() -> None:
    window = window_of(WindowQuery.model_validate({"until": "2023-12-14T00:00:00Z"}), UTC_ZONE, SUNDAY)
    assert window.since == datetime(2023, 12, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    "sent",
    [
        {"week": "2026-W60"},
        {"week": "0001-W01"},
        {"week": "9999-W52"},
        {"since": "0001-01-01"},
        {"until": "9999-12-31T23:59:59Z"},
        {"week": "W46"},
        {"week": "2026-W46", "since": "2026-11-09"},
        {"prompts": "a"},
    ],
)
def test_a_query_that_means_nothing_is_refused(sent: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CallsQuery.model_validate(sent)


def test_an_empty_form_field_is_not_asked() -> None:
    assert CallsQuery.model_validate({"prompt": "", "min_latency_ms": "", "q": "a"}) == CallsQuery(q="a")


def test_messages_keep_their_roles_and_name_what_is_no_text() -> None:
    kept = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]},
    ]
    said = messages_of(json.dumps(kept), True)
    assert [message.role for message in said] == ["system", "user", "assistant"]
    assert said[1].text == "What is this?\n[image_url]"
    assert '"look"' in said[2].text
    assert excerpt(json.dumps(kept), True) == "What is this? [image_url]"


@given(st.text(max_size=200), st.booleans())
def test_any_kept_text_can_be_shown(kept: str, as_json: bool) -> None:
    """Also JSON that was cut in the middle, or that is no list of messages."""
    assert len(excerpt(kept, as_json)) <= 140
    assert all(isinstance(message.text, str) for message in messages_of(kept, as_json))


def test_what_was_read_is_remembered_until_the_next_ranking(store: OpenStore) -> None:
    read: list[int] = []

    def _read() -> int:
        read.append(1)
        return len(read)

    def _ask(key: str = "tail") -> int:
        with store.read() as connection:
            return remembered(connection, key, _read)

    assert (_ask(), _ask()) == (1, 2), "before the first ranking nothing is"
    store.write(partial(keep_progress, progress={"ran_at_ms": 1}))
    assert (_ask(), _ask(), _ask("other")) == (3, 3, 4)
    store.write(partial(keep_progress, progress={"ran_at_ms": 2}))
    assert (_ask(), _ask("other")) == (5, 6)


def test_a_window_is_remembered_through_rankings_while_its_calls_are_the_same(store: OpenStore) -> None:
    """A week that is over is read once, and again as soon as one of its calls comes late or is erased."""
    week = week_by_id("2026-W46", UTC_ZONE)
    asked = week_window(week, UTC_ZONE, SUNDAY)
    until_now = window_of(WindowQuery(), UTC_ZONE, SUNDAY)
    read: list[int] = []
    rankings = iter(range(1, 100))

    def _read() -> int:
        read.append(1)
        return len(read)

    def _ask(window: Window = asked) -> int:
        store.write(partial(keep_progress, progress={"ran_at_ms": next(rankings)}))
        with store.read() as connection:
            return remembered(connection, ("tail", window), _read, of_calls=(1, window))

    assert (_ask(), _ask()) == (1, 1)
    store.write(partial(put_calls, calls=[{"started_at_ms": week.until_ms}]))
    assert _ask() == 1, "a call of another week"
    store.write(partial(put_calls, calls=[{"started_at_ms": week.since_ms}]))
    assert (_ask(), _ask()) == (2, 2)
    store.write(lambda connection: connection.execute(text("delete from call where started_at_ms = :ms"),
                                                      {"ms": week.since_ms}).rowcount)  # fmt: skip
    assert (_ask(), _ask()) == (3, 3)
    assert (_ask(until_now), _ask(until_now)) == (4, 5), "it ends now"


def test_every_word_that_a_page_links_to_is_explained() -> None:
    templates = " ".join(path.read_text() for path in (STATIC.parent / "templates").glob("*.html"))
    linked = set(re.findall(r"/words#([\w-]+)", templates))
    explained = [term.id for _title, terms in PARTS for term in terms]
    assert linked
    assert linked <= set(explained)
    assert len(explained) == len(set(explained))


def test_nothing_on_the_pages_moves_and_nothing_comes_from_elsewhere() -> None:
    sheet = (STATIC / "lowlight.css").read_text()
    assert not re.search(r"animation|transition|@keyframes|@import|url\(", sheet)
    for name, (content, digest) in static_files().items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, name
        assert re.fullmatch(r"[0-9a-f]{12}", digest)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=400), max_size=40).map(" ".join))
def test_a_passage_keeps_the_end_where_a_cut_off_answer_shows(kept: str) -> None:
    whole = " ".join(kept.split())
    said = passage(kept, False)
    assert len(said) <= PASSAGE + 1
    if len(whole) <= PASSAGE:
        assert said == whole
    else:
        assert "…" in said
        assert whole.endswith(said.rpartition("… ")[2])
        assert said.endswith(whole.split()[-1][-PASSAGE_END:])


def test_answers_that_wait_are_shown_whether_or_not_they_say_why() -> None:
    """One that is tried again names its reason, one that was not tried yet has none."""
    rows = [
        SimpleNamespace(
            rubric=f"r{number}",
            status="pending",
            reason=reason,
            critic="c",
            shown=True,
            local=False,
            words=None,
        )
        for number, reason in enumerate([None, "time-out", None])
    ]
    parts = render._environment().get_template("call_parts.html").module
    said = re.sub(r"<[^>]*>|\s+", " ", str(parts.scores(rows, "/calls/x")))  # type: ignore[attr-defined]
    assert [group.split() for group in said.split("pending")[1:]] == [
        [":", "r0", ",", "r2", "c"],
        [":", "r1", "c:", "time-out"],
    ]
