"""A case worked on in a real browser, from its nomination to its proof: plain forms, no script needed."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from ingest.intake import Intake
from ingest.tables import DEFAULT_PROJECT
from ingest.wire import calls_of
from outliers.experience.refresh import now_ms
from outliers.process import run_once
from outliers.weeks import last_ended, week_of
from tests.browser.conftest import Site
from tests.browser.rows import DAY_MS, HOSTILE

WEEK = last_ended(now_ms(), ZoneInfo("UTC"))
CLOSED = week_of(now_ms() - 4 * 7 * DAY_MS, ZoneInfo("UTC")).id
SATURDAY_MS = WEEK.since_ms + 5 * DAY_MS


def _compute(site: Site) -> None:
    """Do what the server's child process does all the time."""
    run_once(site.app.state.settings, site.app.state.store)


def _state(page: Page) -> Any:
    return expect(page.locator(".state"))


def _section(page: Page, name: str) -> Any:
    return page.locator("section", has=page.get_by_role("heading", name=name, exact=True))


def test_from_the_first_screen_to_the_proof_of_the_fix(case_site: Site, page: Page) -> None:
    """What a team does with a case, by hand: take on, cause, fix, look again, closed by its calls."""
    page.goto(case_site.url)
    page.get_by_role("link", name="Work on the case").click()
    expect(page).to_have_url(f"{case_site.url}/cases/{WEEK.id}")
    assert "summary@v2" in page.locator("h1").inner_text()
    _state(page).to_contain_text("Nobody has taken it on yet.")

    next_step = _section(page, "What to do next")
    next_step.get_by_label("Your name").fill("Ada Ǆ")
    next_step.get_by_role("button", name="Take it on").click()
    _state(page).to_contain_text("Taken on by Ada Ǆ; why it happened is not written down yet.")

    next_step.get_by_label("Root cause").fill(f"The template lost a brace.\n{HOSTILE}")
    assert next_step.get_by_label("Your name").input_value() == "Ada Ǆ", "who they are is kept"
    next_step.get_by_role("button", name="Write it down").click()
    _state(page).to_contain_text("Its root cause is known; a fix is not out yet.")
    assert HOSTILE.split("\u202e")[0] in _section(page, "Root cause").locator(".told").inner_text()

    next_step.get_by_label("Prompt version").fill("v3")
    next_step.get_by_label("Live since").fill(
        f"{datetime.fromtimestamp(SATURDAY_MS / 1000, UTC):%Y-%m-%dT%H:%M}"
    )
    next_step.get_by_label("Link to the change").fill("javascript:alert(1)")
    next_step.get_by_role("button", name="The fix is out").click()
    wrong = next_step.locator(".field-wrong")
    expect(wrong).to_have_text("A link begins with https:// or http://")
    link = next_step.get_by_label("Link to the change")
    expect(link).to_be_focused()
    assert link.get_attribute("aria-invalid") == "true"
    assert next_step.get_by_label("Prompt version").input_value() == "v3", "nothing that was written is lost"
    link.fill("https://git.example/pr/7")
    next_step.get_by_role("button", name="The fix is out").click()
    _state(page).to_contain_text("A fix is out")

    _compute(case_site)
    page.reload()
    expect(page.locator(".verdict-says")).to_contain_text("Too early: 0 calls since the fix, about")

    answered = [_answered(i) for i in range(90)]
    Intake(case_site.app.state.store, case_site.app.state.settings).accept_calls(
        DEFAULT_PROJECT, calls_of(answered)
    )
    next_step.get_by_role("button", name="Look at its calls now").click()
    _compute(case_site)
    page.reload()
    expect(page.locator(".verdict-says")).to_contain_text(re.compile(r"^Fixed: \d+ % bad before, "))
    _state(page).to_contain_text("Closed. Fixed:")
    assert page.locator(".step-done").count() == 5
    told = [one.split("\n")[0] for one in page.locator(".history li div").all_inner_texts()]
    assert told == [
        "nominated by lowlight",
        "taken on by Ada Ǆ",
        "root cause by Ada Ǆ",
        "fix by Ada Ǆ",
        "verdict by lowlight",
        "closed by lowlight",
    ]

    page.goto(f"{case_site.url}/cases")
    assert "3 cases: 1 with a fix out, 2 closed." in page.locator("h1").inner_text()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/cases/{WEEK.id}")


def _answered(i: int) -> dict[str, Any]:
    return {
        "id": f"fixed-{i}",
        "started_at": (SATURDAY_MS + i * 600_000) / 1000,
        "latency_ms": 500 + i,
        "first_token_ms": 120,
        "provider": "aurora",
        "model": "aurora-2",
        "prompt": {"name": "summary", "version": "v3"},
        "input": [{"role": "user", "content": f"Please sum up report {i}."}],
        "output": "The report says that all went well, and names what is left to do.",
        "usage": {"input_tokens": 400, "output_tokens": 30},
        "user_id": f"user-{i % 70}",
    }


def test_another_cohort_or_a_call_becomes_the_case_and_a_note_is_one_key_away(
    case_site: Site, page: Page
) -> None:
    page.goto(f"{case_site.url}/calls/slow-90")
    page.get_by_role("link", name="What else went wrong like this?").click()
    page.wait_for_url("**/calls/slow-90/alike")
    page.get_by_role("button", name="Make this the case").click()
    page.wait_for_url(f"**/cases/{WEEK.id}")
    assert page.locator(".seed .said").first.inner_text() == "What are your hours?"
    _state(page).to_contain_text("Taken on")

    page.keyboard.press("n")
    page.keyboard.type("Read three, all long.")
    page.get_by_role("button", name="Add the note").click()
    expect(page.locator(".history")).to_contain_text("Read three, all long.")

    page.get_by_role("link", name="All cohorts of the week").click()
    cohort = page.locator(".cohort", has_text="summary@v2").first
    cohort.get_by_role("button", name="Make it the case").click()
    page.wait_for_url(f"**/cases/{WEEK.id}")
    assert "summary@v2" in page.locator("h1").inner_text()
    page.goto(f"{case_site.url}/cohorts")
    assert page.locator(".cohort", has_text="the case").count() == 1

    page.goto(f"{case_site.url}/cases/{WEEK.id}")
    page.get_by_text("Start from a call").click()
    page.get_by_label("Id of a call of this week").fill("nobody")
    page.get_by_role("button", name="Make it the case").last.click()
    expect(page.locator(".field-wrong")).to_have_text("No call has the id 'nobody'.")
    assert page.get_by_label("Id of a call of this week").input_value() == "nobody"


@pytest.fixture
def plain(browser: Browser) -> Iterator[Page]:
    """A browser that runs no script at all."""
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_a_case_is_closed_and_opened_again_without_a_script(case_site: Site, plain: Page) -> None:
    plain.goto(f"{case_site.url}/cases/{WEEK.id}")
    _section(plain, "What to do next").get_by_role("button", name="Take it on").click()
    fix = _section(plain, "Fix")
    fix.get_by_text("Enter one").click()
    fix.get_by_label("Release").fill("2.1")
    fix.get_by_role("button", name="The fix is out").click()
    fix.get_by_text("Close the case by hand").click()
    fix.get_by_role("button", name="Close it").click()
    expect(fix.locator(".field-wrong")).to_contain_text("The fix is not proven")
    fix.get_by_label("Why").first.fill("Read twenty of them.")
    fix.get_by_role("button", name="Close it").click()
    _state(plain).to_contain_text("Read twenty of them.")
    fix.get_by_text("Open it again").first.click()
    fix.get_by_label("Why").fill("It is back.")
    fix.get_by_role("button", name="Open it again").click()
    _state(plain).to_contain_text("Open again. It is back.")
    assert _section(plain, "Fix").get_by_text("None is out.").count() == 1
    owner = _section(plain, "Owner")
    for name, shown in (("bo", "bo"), ("", "Nobody takes care of it.")):
        owner.locator("summary").click()
        owner.get_by_label("Who takes care of it").fill(name)
        owner.get_by_role("button", name="Keep it").click()
        expect(owner.locator("p").first).to_have_text(shown)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"Origin": "{site}", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "{site}", "Content-Type": "text/plain"}, 415),
        ({"Origin": "{site}"}, 303),
    ],
)
def test_a_form_is_taken_from_our_own_page_only(site: Site, headers: dict[str, str], status: int) -> None:
    """A form of any web page can be sent here without asking; its Origin tells."""
    sent = {name: value.replace("{site}", site.url) for name, value in headers.items()}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    before = httpx.get(f"{site.url}/v1/cases/{CLOSED}").json()
    # even the one that is taken changes nothing that is shown
    said = httpx.post(f"{site.url}/cases/{CLOSED}/look", content="by=", headers=form | sent)
    assert said.status_code == status, said.text
    if status == 303:
        assert said.headers["location"] == f"/cases/{CLOSED}#proof"
    assert httpx.get(f"{site.url}/v1/cases/{CLOSED}").json() == before


@pytest.mark.parametrize(
    ("action", "body", "status", "words"),
    [
        ("root_cause", "root_cause=", 422, "Write something here."),
        ("root_cause", "root_cause=" + "x" * 10_001, 422, "This is too long"),
        ("fixed", "at=tomorrow", 422, "Write a time as 2026-11-20 14:00."),
        ("fixed", "at=2100-01-01T00:00", 409, "The fix lies in the future"),
        ("pick", "rank=99", 422, "no cohort of rank 99"),
        ("reopen", "because=", 409, "is open"),
        ("elsewhere", "", 404, "Nothing about a case is called"),
    ],
)
def test_what_cannot_be_done_is_said_on_the_page(
    site: Site, action: str, body: str, status: int, words: str
) -> None:
    before = httpx.get(f"{site.url}/v1/cases/{WEEK.id}").json()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": site.url}
    said = httpx.post(f"{site.url}/cases/{WEEK.id}/{action}", content=body, headers=headers)
    assert (said.status_code, said.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert words in said.text
    assert httpx.get(f"{site.url}/v1/cases/{WEEK.id}").json() == before
    back = httpx.get(f"{site.url}/cases/{WEEK.id}/{action}")
    assert back.status_code == (404 if status == 404 else 303)


def test_a_year_of_cases_reads_as_a_history(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/cases")
    weeks = page.locator(".case-week a").all_inner_texts()
    assert len(weeks) == 3
    rows = page.locator(".case-row").all_inner_texts()
    assert "nominated" in rows[0]
    assert "closed" in rows[1]
    assert "Fixed: 71 % bad before, 3 % in the 212 calls of 90 people since." in rows[1]
    assert "no change seen" in rows[2]
    assert page.locator(".case-quiet").all_inner_texts() == [
        "2 weeks without a case",
        "1 week without a case",
    ]
    page.goto(f"{site.url}/cases?limit=1")
    page.get_by_role("link", name="Earlier cases").click()
    assert page.locator(".case-week a").all_inner_texts()[:1] == weeks[1:2]


def test_a_closed_case_tells_its_whole_story_in_hostile_words(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/cases/{CLOSED}")
    assert "owned" not in page.title()
    assert page.locator(".verdict-says").inner_text().startswith("Fixed: 71 % bad before")
    assert "71 %" in page.locator("#proof .figures").inner_text()
    assert "7 calls since the fix were judged by other means" in page.locator("#proof").inner_text()
    told = page.locator(".history-words").all_inner_texts()
    assert HOSTILE in [one.strip() for one in told]
    assert page.locator("main script, main img").count() == 0
    change = _section(page, "Fix").get_by_role("link")
    assert change.get_attribute("href") == f"https://git.example/{HOSTILE}"


def test_the_trend_is_a_chart_and_a_table(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/cases/{WEEK.id}")
    trend = _section(page, "Since when")
    days = httpx.get(f"{site.url}/v1/cohorts").json()["bad"][0]["days"]
    before = httpx.get(f"{site.url}/v1/cohorts").json()["bad"][0]["weeks_before"]
    assert trend.locator("svg .trend-day").count() == sum(day["n"] > 0 for day in days)
    trend.locator("summary").click()
    assert trend.locator("tbody tr").count() == len(days) + len(before)
    assert str(days[0]["n"]) in trend.locator("tbody tr").nth(len(before)).inner_text()
