"""The pages in a real browser: what they say, hostile texts, keys, colours, widths, failures."""

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx2 as httpx
import lowlight
import openai
import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Page
from sqlalchemy import Connection, text

from api.routes import pages
from dashboards import panels
from dashboards.drawing.render import as_json
from dashboards.filters import (
    CallsQuery,
    CasesQuery,
    LatencyQuery,
    WeekCostsQuery,
    WeekQuery,
    WindowQuery,
    WorstQuery,
)
from dashboards.pages import (
    alike,
    call,
    calls,
    case,
    cases,
    cohorts,
    costs,
    latency,
    rubric,
    rubrics,
    this_week,
    worst,
)
from outliers.experience.refresh import now_ms
from outliers.weeks import last_ended, week_of
from tests.browser.conftest import Site
from tests.browser.rows import HOSTILE, HOSTILE_ID

CALL = f"/calls/{quote(HOSTILE_ID, safe='')}"
CASE = last_ended(now_ms(), ZoneInfo("UTC")).id
CLOSED = week_of(now_ms() - 4 * 7 * 86_400_000, ZoneInfo("UTC")).id
PAGES = (
    "/",
    "/worst",
    "/worst?per=user",
    "/worst?per=session",
    "/calls",
    "/calls/slow-90",
    CALL,
    "/latency",
    "/rubrics",
    "/rubrics/tone",
    "/cases",
    "/cohorts",
    "/changes",
    "/critic",
    "/costs",
    "/costs?by=prompt_version",
    "/words",
    "/worst?by=latency&per=user",
    f"/cases/{CASE}",
    f"/cases/{CLOSED}",
    "/cases/2020-W05",
    "/calls/slow-90/alike",
    f"{CALL}/alike",
)


@pytest.mark.parametrize("path", [*PAGES, "/calls/unheard-of", "/calls?promt=x"])
def test_a_page_opens_in_one_piece(site: Site, page: Page, path: str) -> None:
    """One headline, landmarks, no failed panel; the fixture fails on any console error or violation."""
    page.goto(site.url + path)
    assert page.locator("h1").count() == 1
    assert page.locator("main, header.masthead, footer, nav[aria-label=Pages]").count() == 4
    assert page.locator(".wrong").all_inner_texts() == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


class _Inline(HTMLParser):
    """Collects what the policy would have to forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note styles, handlers, and scripts without an address."""
        names = [name for name, _value in attrs]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_anything_inline(site: Site, path: str) -> None:
    """The policy forbids inline styles, scripts and handlers; we do not lean on it."""
    answer = httpx.get(site.url + path)
    policy = answer.headers["content-security-policy"]
    assert "'unsafe" not in policy
    assert "default-src 'none'" in policy
    reader = _Inline()
    reader.feed(answer.text)
    assert reader.found == []


def test_the_first_screen_answers_in_order(site: Site, page: Page) -> None:
    page.goto(site.url)
    headline = page.locator("h1").inner_text()
    assert "summary@v2" in headline
    titles = page.locator("h2").all_inner_texts()
    wanted = [
        "What changed since the week before",
        "Who had it worst",
        "Where the tail is",
        "So far this week",
    ]
    assert [title for title in titles if title in wanted] == wanted
    assert page.locator(".next a").count() > 1, "the worst call, and others to read next"


def test_the_tail_that_a_p95_hides_is_named_with_links(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/latency")
    said = page.locator(".far-out li", has_text="llama-13b").inner_text()
    assert "2 of 150 answered calls took longer than 10× the median" in said
    assert "131 s, 104 s" in said
    page.locator(".far-out a", has_text="131 s").click()
    assert page.url.endswith("/calls/slow-90")
    needs = page.goto(f"{site.url}/latency").text()
    assert "needs n ≥ 368" in needs, "a p99 of 150 calls has no interval, and says so"


def test_hostile_texts_are_shown_as_text(site: Site, page: Page) -> None:
    for path in PAGES:
        page.goto(site.url + path)
        assert "owned" not in page.title()
        assert page.locator("img, main script, iframe").count() == 0
    page.goto(site.url + CALL)
    shown = page.locator(".output pre.text").evaluate("element => element.textContent")
    assert shown == HOSTILE
    assert page.locator(".message-user pre.text").evaluate("element => element.textContent") == HOSTILE
    assert "{{ 7*7 }}" in page.locator("main").inner_text()
    assert "49" not in page.locator(".output").inner_text()
    page.goto(f"{site.url}/calls?q={quote('<script>')}")
    assert page.locator(".rows .row").count() == 1
    assert page.locator("#search").input_value() == "<script>"


def test_ungraded_is_a_word_and_never_a_number(site: Site, page: Page) -> None:
    page.goto(site.url + CALL)
    assert "ungraded: accuracy" in page.locator(".not-scored").inner_text()
    assert "no model read the text" in page.locator(".not-scored").inner_text()
    tone = page.locator(".score", has_text="tone")
    assert tone.locator("svg.levels rect").count() == 7
    assert "2.0 of 7" in tone.inner_text()
    page.goto(f"{site.url}/rubrics")
    accuracy = page.locator(".rubric", has_text="accuracy")
    assert "no score" in accuracy.inner_text()
    assert "ungraded 100 %" in accuracy.inner_text()


@pytest.mark.parametrize("path", ["/rubrics", "/rubrics/tone"])
def test_a_mean_of_the_local_critic_says_that_no_model_read(site: Site, page: Page, path: str) -> None:
    page.goto(site.url + path)
    local = page.locator(".use", has_text="scored call").filter(has_text="local").first
    assert "No model read the texts" in local.inner_text()


def test_a_rubric_stands_beside_people_and_shows_where_critics_disagree(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/rubrics/tone")
    beside = page.locator("section", has=page.get_by_role("heading", name="Beside people"))
    row = beside.locator("tr", has_text="openai:gpt-6-luna")
    assert row.locator("td").first.inner_text() == "60"
    assert "a constant is off" in beside.inner_text()
    apart = page.locator(
        "section", has=page.get_by_role("heading", name="Calls that critics see differently")
    )
    assert apart.locator("tbody tr").count() == 6, "every twelfth of sixty, and the hostile one"
    apart.locator("tbody a").first.click()
    assert page.locator(".score", has_text="tone").count() >= 1


def test_a_score_has_a_page_with_its_levels_its_model_and_its_cost(site: Site, page: Page) -> None:
    page.goto(site.url + CALL)
    page.locator(".score", has_text="tone").locator("h3 a").click()
    assert "Tone: 2.0 of 7 by local" in page.locator("h1").inner_text()
    page.get_by_role("link", name="openai:gpt-6-luna, version").click()
    assert "Tone: 5.7 of 7 by openai:gpt-6-luna" in page.locator("h1").inner_text()
    record = page.locator("dl.record").inner_text()
    assert "gpt-6-luna-2026-10-01" in record
    assert "$0.00031" in record
    assert page.locator("svg.levels rect").count() == 7
    assert page.evaluate("document.title") != "owned"
    twin = page.request.get(page.url.replace("?", ".json?")).json()
    assert (twin["score"]["critic"], twin["score"]["input_tokens"]) == ("openai:gpt-6-luna", 420)
    missing = page.goto(f"{site.url}{CALL}/scores/kindness")
    assert missing is not None
    assert missing.status == 404


def test_keys_move_open_search_and_explain(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/calls")
    links = page.locator("[data-row] .row-said a").evaluate_all("all => all.map(one => one.href)")
    focused = "document.activeElement.href"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate(focused) == links[1]
    page.keyboard.press("k")
    assert page.evaluate(focused) == links[0]
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(links[1])
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("/")
    page.keyboard.type("j?")
    assert page.locator("#search").input_value() == "j?"
    page.goto(site.url)
    with page.expect_navigation():
        page.keyboard.press("[")
    assert "week=" in page.url


def test_a_refused_address_is_told_in_one_sentence_with_a_way_back(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/worst?by=luck")
    said = page.locator("h1").inner_text()
    assert said == "by must be 'experience', 'score', 'signal' or 'latency'."
    page.get_by_role("link", name="take out its filters").click()
    assert page.url == f"{site.url}/worst"


def test_filters_stand_in_the_address_and_survive_a_reload(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/calls")
    page.fill(".filters input[name=prompt]", "summary")
    page.select_option(".filters select", "failed")
    page.click(".filters button")
    assert page.url == f"{site.url}/calls?prompt=summary&outcome=failed"
    rows = page.locator(".row").all_inner_texts()
    assert len(rows) == 50
    assert all("failed overloaded" in row for row in rows)
    page.reload()
    assert page.locator(".filters input[name=prompt]").input_value() == "summary"
    assert page.locator(".filters select").input_value() == "failed"
    assert page.locator(".row").all_inner_texts() == rows
    page.get_by_role("link", name="Older calls").click()
    assert "prompt=summary&outcome=failed" in page.url
    assert set(page.locator(".row").all_inner_texts()).isdisjoint(rows)


_CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def test_every_text_can_be_read_in_light_and_in_dark(site: Site, browser: Browser) -> None:
    papers = {}
    context = browser.new_context()
    opened = context.new_page()
    for path in PAGES:
        opened.goto(site.url + path)
        for scheme in SCHEMES:
            opened.emulate_media(color_scheme=scheme)
            seen = opened.evaluate(_CONTRASTS)
            assert seen["low"] == [], f"{scheme} {path}"
            papers[scheme] = seen["paper"]
    context.close()
    assert papers["light"] != papers["dark"]


def test_a_phone_never_scrolls_sideways(site: Site, empty_site: Site, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    opened = context.new_page()
    for url in [site.url + path for path in PAGES] + [f"{empty_site.url}/", f"{empty_site.url}/worst"]:
        opened.goto(url)
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360, url
        wide = opened.locator(".scroll").evaluate_all(
            "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
        )
        assert wide == [], f"{url}: a table scrolls sideways"
        names = opened.locator("tbody th").evaluate_all("all => all.map(one => one.clientWidth)")
        assert all(width >= 100 for width in names), f"{url}: a row's name stands one letter a line"
    context.close()


@pytest.mark.parametrize(
    "path",
    ["/", "/worst", "/calls", "/latency", "/costs", "/rubrics", "/cases", "/cohorts", f"/cases/{CASE}"],
)
def test_an_empty_page_says_how_to_fill_it(empty_site: Site, page: Page, path: str) -> None:
    page.goto(empty_site.url + path)
    assert f"curl {empty_site.url}/v1/calls" in page.locator(".fill").inner_text()
    assert "lowlight.record(" in page.locator(".fill").inner_text()


@pytest.fixture
def sdk() -> Iterator[Any]:
    """The SDK as an application imports it, put back afterwards."""
    yield lowlight
    lowlight.shutdown(5)


def test_what_an_empty_page_says_works(fresh_site: Site, page: Page, sdk: Any) -> None:
    """The command and the code are followed to the letter; then the page is empty no more."""
    page.goto(fresh_site.url)
    command, code = (block.evaluate("e => e.textContent") for block in page.locator(".fill pre").all())
    _curl, url, _header, kind, _data, body = shlex.split(command)
    sent = httpx.post(url, headers=dict([kind.split(": ")]), content=body).json()
    assert (sent["accepted"], sent["rejected"]) == (1, [])
    client = openai.OpenAI(api_key="unused")
    answered = {"choices": [{"message": {"content": "Yes."}}]}
    exec(code, {"client": client, "response": answered, "messages": "Is it open?"})
    assert sdk.flush(10)
    kept = httpx.get(f"{fresh_site.url}/v1/calls").json()["calls"]
    assert sorted(line["asked"] for line in kept) == ["Is it open?", "Where is my parcel?"]


#: Every address of a page, as its route has it -> one that the rows answer. A new page stands here too.
_ONE_OF_EACH = {
    "/": "/",
    "/cases": "/cases?limit=3",
    "/cases/{week}": f"/cases/{CASE}",
    "/cohorts": "/cohorts",
    "/changes": f"/changes?week={CASE}",
    "/worst": "/worst?per=user&by=signal",
    "/calls": "/calls?prompt=summary&outcome=failed",
    "/calls/{call_id:path}": CALL,
    "/calls/{call_id:path}/alike": f"{CALL}/alike",
    "/calls/{call_id:path}/scores/{rubric}": f"{CALL}/scores/tone?critic=openai:gpt-6-luna",
    "/users/{user_id:path}": "/users/user-7",
    "/sessions/{session_id:path}": "/sessions/session-17",
    "/latency": "/latency?group_by=model&measure=first_token",
    "/costs": f"/costs?week={CASE}&by=model",
    "/rubrics": "/rubrics",
    "/rubrics/{name}": "/rubrics/tone",
    "/critic": "/critic",
    "/words": "/words",
}


class _Head(HTMLParser):
    """Reads a page's first line and where it says that its JSON is."""

    def __init__(self) -> None:
        super().__init__()
        self.headline, self.twin, self._inside = "", "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the alternate address, and where the headline begins."""
        if tag == "link" and ("rel", "alternate") in attrs:
            self.twin = dict(attrs)["href"] or ""
        self._inside = self._inside or tag == "h1"

    def handle_endtag(self, tag: str) -> None:
        """Note where the headline ends."""
        self._inside = self._inside and tag != "h1"

    def handle_data(self, data: str) -> None:
        """Keep the headline's words."""
        self.headline += data if self._inside else ""


def test_every_page_names_its_twin_which_says_the_same(site: Site) -> None:
    """Whatever address a page has, filters and all, its JSON is one step away and begins alike."""
    plain = {"/static/{name:path}", "/favicon.ico"}
    paths = {route.path for route in pages.router.routes if isinstance(route, APIRoute)} - plain
    assert {path for path in paths if not path.endswith(".json")} == set(_ONE_OF_EACH)
    for path in _ONE_OF_EACH.values():
        answer = httpx.get(site.url + path)
        assert answer.status_code == 200, path
        head = _Head()
        head.feed(answer.text)
        twin = httpx.get(site.url + head.twin)
        assert (twin.status_code, twin.headers["content-type"]) == (200, "application/json"), head.twin
        assert head.twin.partition("?")[2] == path.partition("?")[2]
        said = twin.json()
        if "headline" in said:
            assert " ".join(head.headline.split()) == " ".join(said["headline"].split()), path


def test_twins_are_the_contexts_that_pages_show(site: Site) -> None:
    app = site.app
    settings = app.state.settings
    builds: dict[str, Any] = {
        "/.json": lambda c, now: this_week.build(c, settings, WeekQuery(), now),
        "/worst.json?per=user&limit=3": lambda c, now: worst.build(
            c, settings, WorstQuery(per="user", limit=3), now
        ),
        "/calls.json?prompt=faq": lambda c, now: calls.build(c, settings, CallsQuery(prompt="faq"), now),
        f"{CALL}.json": lambda c, now: call.build(c, settings, HOSTILE_ID, now),
        "/latency.json?group_by=provider": lambda c, now: latency.build(
            c, settings, LatencyQuery(group_by="provider"), now
        ),
        "/costs.json?by=model": lambda c, now: costs.build(c, settings, WeekCostsQuery(by="model"), now),
        "/cases.json": lambda c, now: cases.build(c, settings, CasesQuery(), now),
        f"/cases/{CASE}.json": lambda c, now: case.build(c, settings, CASE, now),
        f"/cohorts.json?week={CASE}": lambda c, now: cohorts.build(c, settings, WeekQuery(week=CASE), now),
        f"{CALL}/alike.json": lambda c, now: alike.build(c, settings, HOSTILE_ID, WindowQuery(), now),
        "/rubrics.json": lambda c, now: rubrics.build(c, settings, WindowQuery(), now),
        "/rubrics/tone.json": lambda c, now: rubric.build(c, settings, "tone", WindowQuery(), now),
    }
    for path, build in builds.items():
        answer = httpx.get(site.url + path)
        assert answer.headers["content-type"] == "application/json", path
        now = datetime.fromisoformat(answer.json()["dateline"]["data"]["now"])
        assert now.tzinfo == UTC
        with app.state.store.read() as connection:
            assert answer.content == as_json(build(connection, now)), path


def test_a_panel_that_fails_or_is_slow_leaves_the_rest(
    site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _fails(*_arguments: Any) -> Any:
        raise RuntimeError("no such thing")

    def _slow(connection: Connection, *_arguments: Any, **_named: Any) -> Any:
        endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
        return connection.execute(text(endless)).all()

    monkeypatch.setattr(this_week, "changes_of", _fails)
    monkeypatch.setattr(this_week, "latencies", _slow)
    monkeypatch.setattr(panels.panel, "__kwdefaults__", {"time_limit_s": 0.2})
    page.goto(site.url)
    wrong = page.locator(".wrong").all_inner_texts()
    assert len(wrong) == 2
    assert "“What changed” failed: RuntimeError: no such thing" in wrong[0]
    assert "“The tail” took longer than 0.2 s and was stopped" in wrong[1]
    assert "summary@v2" in page.locator("h1").inner_text()
    assert page.locator(".person").count() == 5
    twin = httpx.get(f"{site.url}/.json").json()
    assert twin["changes"]["data"] is None
    assert "no such thing" in twin["changes"]["error"]
