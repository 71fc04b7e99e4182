"""The latency page's charts and words, a user's and a session's page, and the facets of the calls' list."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Page

from dashboards.drawing.render import as_json
from dashboards.drawing.tail_charts import HEIGHT, WIDTH
from dashboards.filters import PersonQuery
from dashboards.pages import person
from ingest.intake import Intake
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import calls_of
from tests.browser.conftest import Site
from tests.browser.rows import HOSTILE
from tests.browser.test_pages import SCHEMES

USER = HOSTILE[:120]
_CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()
PAGES = (
    f"/users/{quote(USER, safe='')}",
    f"/sessions/{quote(USER, safe='')}",
    "/sessions/session-12",
    "/latency?group_by=hour",
    "/latency?group_by=model,environment&measure=first_token",
    "/calls?outcome=failed&status=scored",
)


@pytest.mark.parametrize("path", PAGES)
def test_each_opens_in_one_piece_and_shows_hostile_text_as_text(site: Site, page: Page, path: str) -> None:
    page.goto(site.url + path)
    assert page.locator("h1").count() == 1
    assert page.locator(".wrong").all_inner_texts() == []
    assert page.locator("img, main script, iframe, [style], [onerror]").count() == 0
    assert page.title() != "owned"
    twin = page.locator("footer a", has_text="This page as JSON").get_attribute("href")
    answer = httpx.get(site.url + (twin or ""))
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["headline"] == page.locator("h1").evaluate("element => element.textContent")


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page of 360 px."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    yield context.new_page()
    context.close()


def test_none_scrolls_a_phone_sideways(site: Site, phone: Page) -> None:
    for path in PAGES:
        phone.goto(site.url + path)
        for folded in phone.locator("main details > summary").all():
            if folded.is_visible():
                folded.click()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_every_text_can_be_read_in_light_and_in_dark(site: Site, browser: Browser) -> None:
    context = browser.new_context()
    opened = context.new_page()
    for path in PAGES:
        opened.goto(site.url + path)
        for scheme in SCHEMES:
            opened.emulate_media(color_scheme=scheme)
            assert opened.evaluate(_CONTRASTS)["low"] == [], f"{scheme} {path}"
    context.close()


def test_the_tail_curve_is_the_share_of_answered_calls_that_were_slower(site: Site, page: Page) -> None:
    """Read back from the picture's own JSON: 2 of 150 answered calls took longer than 100 s."""
    twin = httpx.get(f"{site.url}/latency.json?group_by=model").json()
    slow = next(group for group in twin["latencies"]["data"]["groups"] if group["group"] == "llama-13b")
    curve = [(point["value_ms"], point["slower"]) for point in slow["curve"]]
    assert curve == sorted(curve, key=lambda point: (point[0], -point[1])), "slower is ever rarer"
    last_usual = [slower for value, slower in curve if value < 10_000][-1]
    assert last_usual == pytest.approx(2 / 150)
    assert curve[-1][1] == pytest.approx(0)
    assert curve[-1][0] == pytest.approx(131_000, rel=0.03)

    page.goto(f"{site.url}/latency?group_by=model")
    lines = page.locator(".curves polyline")
    assert lines.count() == len([one for one in twin["latencies"]["data"]["groups"] if len(one["curve"]) > 1])
    for points in lines.evaluate_all("all => all.map(one => one.getAttribute('points'))"):
        places = [tuple(map(float, point.split(","))) for point in points.split()]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
        assert places == sorted(places), "a stair goes right and down"


def test_slow_hours_stand_beside_their_groups_usual_one(site: Site, page: Page) -> None:
    found = httpx.get(f"{site.url}/latency.json?group_by=model").json()["hours"]["data"]
    by_model = {row["group"]: row for row in found["rows"]}
    assert by_model["aurora-2"]["n"] == 400 == sum(hour["n"] for hour in by_model["aurora-2"]["hours"])
    assert found["step_hours"] > 1, "two or three calls an hour have no median: longer cells do"
    known = [hour for hour in by_model["aurora-2"]["hours"] if hour["times"] is not None]
    assert known
    assert all(0.5 < hour["times"] < 2 for hour in known), "nothing was slow for hours"
    page.goto(f"{site.url}/latency?group_by=model")
    assert page.locator(".hours .strip-name", has_text="llama-13b").count() == 1
    page.locator("summary", has_text="as a table").click()
    table = page.get_by_role("region", name="The slowest hour of each day")
    assert table.locator("tbody tr").count() >= 14


def test_causes_are_sentences_that_lead_to_calls(site: Site, page: Page) -> None:
    causes = httpx.get(f"{site.url}/v1/latency/causes").json()["weeks"][0]["tails"][0]
    page.goto(f"{site.url}/latency")
    said = page.locator(".cause").first
    assert said.inner_text().startswith("The slowest 5 %: ")
    assert causes["labels"][0]["words"] in said.inner_text()
    said.locator("a").first.click()
    assert page.url.endswith(quote(causes["labels"][0]["examples"][0], safe=""))


def test_an_empty_measure_says_which_field_to_send(fresh_site: Site, page: Page) -> None:
    _send(fresh_site, [{"id": "c", "model": "m", "input": "?", "output": "!", "latency_ms": 5}])
    page.goto(f"{fresh_site.url}/latency?measure=first_token")
    assert "first_token_ms" in page.locator(".lead").inner_text()


def test_a_users_page_ranks_their_weeks_by_the_worst_and_tells_what_they_did(site: Site, page: Page) -> None:
    row = httpx.get(f"{site.url}/v1/worst?per=user&limit=1").json()["rows"][0]
    page.goto(f"{site.url}/worst?per=user")
    page.locator(".worst-row a").first.click()
    assert page.url == f"{site.url}/users/{quote(row['who'], safe='')}"
    twin = httpx.get(f"{page.url}.json").json()
    assert max(week["p_bad"] for week in twin["weeks"]["data"]) == pytest.approx(row["p_bad"])
    calls = twin["calls"]["data"]["calls"]
    assert {call["user_id"] for call in calls} == {row["who"]}
    ranked = Counter(call["p_bad"] >= 0.5 for call in calls if call["p_bad"] is not None)
    assert sum(week["n_bad"] for week in twin["weeks"]["data"]) == ranked[True]
    downs = sum("thumbs_down" in call["signals"] for call in calls)
    assert sum(did["kind"] == "thumbs_down" for did in twin["did"]["data"]) == downs > 0
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{quote(twin['weeks']['data'][0]['call_id'])}")


def test_a_sessions_calls_stand_in_order_and_pages_go_back(fresh_site: Site) -> None:
    _send(
        fresh_site,
        [
            {"id": f"c{i}", "session_id": "a/b?.json", "input": f"question {i}", "output": "yes",
             "started_at": 1_780_000_000 + i}
            for i in range(5)
        ],
    )  # fmt: skip
    address = f"{fresh_site.url}/sessions/{quote('a/b?.json', safe='')}"
    newest = httpx.get(f"{address}.json?limit=3").json()
    assert newest["id"] == "a/b?.json"
    assert [call["id"] for call in newest["calls"]["data"]["calls"]] == ["c2", "c3", "c4"]
    cursor = newest["calls"]["data"]["next_cursor"]
    older = httpx.get(f"{address}.json?limit=3&cursor={cursor}").json()["calls"]["data"]
    assert ([call["id"] for call in older["calls"]], older["next_cursor"]) == (["c0", "c1"], None)
    page = httpx.get(f"{address}?limit=3").text
    assert page.index("question 2") < page.index("question 3") < page.index("question 4")
    wrong = httpx.get(f"{address}.json?cursor=next")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "cursor")


def test_a_person_that_no_call_names_is_a_404_that_says_so(site: Site) -> None:
    for path in ("/users/nobody", "/sessions/none.json"):
        answer = httpx.get(site.url + path)
        assert answer.status_code == 404
        assert "No call names the" in answer.text


def test_a_persons_twin_is_the_context_that_the_page_shows(site: Site) -> None:
    answer = httpx.get(f"{site.url}{PAGES[0]}.json?limit=2")
    now = datetime.fromisoformat(answer.json()["dateline"]["data"]["now"])
    assert now.tzinfo == UTC
    with site.app.state.store.read() as connection:
        built = person.build(connection, site.app.state.settings, "user", USER, PersonQuery(limit=2), now)
    assert answer.content == as_json(built)


def test_facets_count_what_their_links_show(site: Site, page: Page) -> None:
    """Each count is the length of the list that the link leads to; taking it out leads back."""
    twin = httpx.get(f"{site.url}/calls.json?limit=500").json()
    counted = {
        facet["name"]: {choice["value"]: choice["n"] for choice in facet["choices"]}
        for facet in twin["facets"]["data"]["facets"]
    }
    assert counted["outcome"]["failed"] > 0
    assert counted["signal"]["thumbs_down"] > 0
    assert counted["guard"] == {"rude": 1}
    assert set(counted["status"]) == {"scored", "ungraded"}
    for name, choices in counted.items():
        for value, n in list(choices.items())[:3]:
            listed = _all_calls(site, {name: value})
            assert len(listed) == n, f"{name}={value}"
    page.goto(f"{site.url}/calls")
    page.locator(".facets summary").click()
    page.locator(".facet", has_text="outcome").get_by_role("link", name="failed").click()
    assert page.url == f"{site.url}/calls?outcome=failed"
    page.locator(".facets summary").click()
    page.get_by_role("link", name="take out failed").click()
    assert page.url == f"{site.url}/calls"


def test_a_walk_that_runs_out_of_time_says_how_far_it_came_and_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time at all each answer looks at one chunk; together they find what one answer finds."""
    whole = [call["id"] for call in _all_calls(site, {"outcome": "failed"})]
    monkeypatch.setattr("dashboards.queries.calls.SEARCH_TIME_S", 0.0)
    monkeypatch.setattr("dashboards.queries.calls._CHUNK", 40)
    first = httpx.get(f"{site.url}/v1/calls?outcome=failed&limit=500").json()
    assert first["searched_back_to"] is not None
    assert len(first["calls"]) < len(whole)
    assert [call["id"] for call in _all_calls(site, {"outcome": "failed"})] == whole


def _all_calls(site: Site, asked: dict[str, str]) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = httpx.get(f"{site.url}/v1/calls", params={**asked, "limit": 500, "cursor": cursor})
        found += answer.json()["calls"]
        cursor = answer.json()["next_cursor"]
    return found


def _send(site: Site, calls: list[dict[str, Any]]) -> None:
    intake = Intake(site.app.state.store, site.app.state.settings)
    receipt = intake.accept_calls(DEFAULT_PROJECT, calls_of(calls))
    assert receipt.rejected == []
