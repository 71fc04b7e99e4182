"""A case from its nomination to its end, by HTTP and in the terminal, on a real server and without one."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2 as httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from api.cli.case import command
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.tables import Call, Slice, columns
from outliers.cohorts.findings import findings_of
from outliers.experience.refresh import now_ms, refresh_experience
from outliers.weekly import compute_weeks
from outliers.weeks import last_ended
from tests.conftest import short_waits
from tests.rows import put_calls, quiet_calls
from tests.warm import background

WEEK = last_ended(now_ms(), ZoneInfo("UTC"))


def two_troubles() -> list[dict[str, Any]]:
    """Return a week in which faq@v7 answers in the wrong language and draft is cut short."""
    source = random.Random(1)
    calls = quiet_calls(source, WEEK.since_ms, 1600)
    for call in calls:
        if call["prompt_version"] == "v7" and source.random() < 0.5:
            call |= {"p_fail": source.uniform(0.8, 0.99), "kind": "wrong_language"}
        if call["prompt"] == "draft" and source.random() < 0.5:
            call |= {"p_fail": source.uniform(0.8, 0.99), "kind": "truncated"}
    return calls


@pytest.fixture(scope="module")
def case_file(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Path:
    """A database with a nominated case; copy it, do not open it."""
    path = tmp_path_factory.mktemp("cases") / "case.db"
    shutil.copyfile(migrated_file, path)
    settings = short_waits(path)
    store = OpenStore(settings.database_url)
    store.write(partial(put_calls, calls=two_troubles()))
    refresh_experience(store, settings)
    compute_weeks(store, settings, now_ms())
    store.close()
    return path


@pytest.fixture
def case_settings(case_file: Path, tmp_path: Path) -> Settings:
    path = tmp_path / "lowlight.db"
    shutil.copyfile(case_file, path)
    return short_waits(path)


@pytest.fixture
def cases_url(case_settings: Settings, tmp_path: Path) -> Iterator[str]:
    with background(case_settings, log_path=tmp_path / "server.log") as address:
        yield f"{address}/v1/cases"


def post(url: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer = httpx.post(url, json=body)
    assert answer.status_code == status, answer.text
    said: dict[str, Any] = answer.json()
    return said


def terminal(settings: Settings, *said: str) -> dict[str, Any]:
    """Run `lowlight case`, and return its JSON."""
    run = CliRunner().invoke(command, [*said, "--json", "--database-url", settings.database_url])
    assert run.exit_code == 0, f"{run.output} {run.exception!r}"
    shown: dict[str, Any] = json.loads(run.output)
    return shown


def test_a_case_is_worked_on_by_http_and_its_history_tells_it(
    cases_url: str, case_settings: Settings
) -> None:
    url = f"{cases_url}/{WEEK.id}"
    nominated = httpx.get(url).json()
    assert nominated["status"] == "nominated"
    assert [event["what"] for event in nominated["history"]] == ["nominated"]

    picked = post(f"{url}/pick", {"by": "ada"})
    assert picked["status"] == "picked"
    for _twice in range(2):
        post(f"{url}/root_cause", {"by": "ada", "root_cause": "The system prompt lost its language line."})
        post(f"{url}/owner", {"by": "ada", "owner": "bo"})
        noted = post(f"{url}/note", {"by": "bo", "note": "Seen in staging, too \x00"})
    assert [event["what"] for event in noted["history"]] == [
        "nominated",
        "picked",
        "root_cause",
        "owner",
        "note",
    ]
    assert (noted["status"], noted["owner"]) == ("root_cause", "bo")
    assert noted["history"][-1]["words"] == "Seen in staging, too \N{REPLACEMENT CHARACTER}"

    early = post(f"{url}/verified", {"by": "bo"}, 409)
    assert "no fix yet" in early["error"]["message"]
    fix = {"by": "bo", "prompt_version": "v8", "link": "https://git.example/pr/7"}
    fixed = post(f"{url}/fixed", fix)
    assert post(f"{url}/fixed", fix)["fix"] == fixed["fix"], "sent twice it is one fix"
    assert fixed["status"] == "fixed"
    assert (fixed["fix"]["prompt_version"], fixed["fix"]["by"]) == ("v8", "bo")

    unproven = post(f"{url}/verified", {"by": "bo"}, 409)
    assert "because" in unproven["error"]["message"]
    closed = post(f"{url}/verified", {"by": "bo", "because": "Read twenty of them."})
    assert closed["status"] == "verified"
    assert "Read twenty of them." in closed["history"][-1]["words"]
    another = {"call_id": closed["cohort"]["examples"][3]}
    assert post(f"{url}/pick", another, 409)["error"]["code"] == "cannot_do"
    assert post(f"{url}/reopen", {"because": "It is back."})["status"] == "reopened"

    listed = httpx.get(cases_url).json()["cases"]
    assert [case["week"] for case in listed] == [WEEK.id]
    shown = CliRunner().invoke(command, ["show", WEEK.id, "--database-url", case_settings.database_url])
    assert "reopened" in shown.output
    assert "It is back." in shown.output


def test_another_cohort_or_a_call_of_it_can_be_picked(case_settings: Settings) -> None:
    nominated = terminal(case_settings, "show", WEEK.id)
    with closing(OpenStore(case_settings.database_url)) as store, store.read() as connection:
        found = findings_of(connection, 1, WEEK.id, "bad")
    [other] = [one for one in found if one.condition.as_json() != nominated["cohort"]["condition"]]
    picked = terminal(case_settings, "pick", WEEK.id, "--rank", str(other.rank))
    assert picked["cohort"]["condition"] == other.condition.as_json()
    assert picked["status"] == "picked"

    theirs = nominated["cohort"]["examples"][3]
    of_call = terminal(case_settings, "pick", WEEK.id, "--call-id", theirs)
    assert of_call["cohort"]["condition"] == nominated["cohort"]["condition"]
    assert of_call["cohort"]["examples"][0] == of_call["seed"]["id"] == theirs
    again = terminal(case_settings, "pick", WEEK.id, "--call-id", theirs)
    assert again["history"] == of_call["history"], "twice is once"

    with closing(OpenStore(case_settings.database_url)) as store, store.read() as connection:
        call, slices = columns(Call), columns(Slice)
        summary = select(call.c.id).join(slices, slices.c.id == call.c.slice_id)
        alone = connection.execute(summary.where(slices.c.prompt == "summary").limit(1)).scalar_one()
    of_prompt = terminal(case_settings, "pick", WEEK.id, "--call-id", alone)
    assert of_prompt["cohort"]["condition"]["value"] == "summary@v1", "no cohort holds it"
    assert of_prompt["seed"]["id"] == alone
    assert of_prompt["sentence"].startswith("A call went badly for prompt summary@v1: ")


@pytest.mark.parametrize(
    ("action", "body", "status", "field", "words"),
    [
        ("pick", {"rank": 99}, 422, "rank", "no cohort of rank 99"),
        ("pick", {"call_id": "nobody"}, 422, "call_id", "No call has the id"),
        ("pick", {"rank": 1, "call_id": "call-1"}, 422, None, "not both"),
        ("root_cause", {}, 422, "root_cause", "root_cause is missing."),
        ("root_cause", {"root_cause": "   "}, 422, "root_cause", "must not be empty"),
        ("fixed", {"promt_version": "v8"}, 422, "promt_version", "is nothing that is taken"),
        ("fixed", {"at": "yesterday"}, 422, "at", "send ISO 8601"),
        ("fixed", {"at": "2100-01-01T00:00:00Z"}, 409, "at", "future"),
        ("fixed", {"at": "2001-01-01T00:00:00Z"}, 409, "at", "older than the first bad call"),
        ("fixed", {"link": "javascript:alert(1)"}, 422, "link", "https://"),
        ("note", {"note": "x" * 10_001}, 422, "note", "more than 10000 characters"),
        ("reopen", {}, 409, None, "is open"),
        ("look", {}, 409, None, "no fix yet"),
    ],
)
def test_what_cannot_be_done_names_the_field_and_changes_nothing(
    service_cases: str, action: str, body: dict[str, Any], status: int, field: str | None, words: str
) -> None:
    before = httpx.get(f"{service_cases}/{WEEK.id}").json()
    error = post(f"{service_cases}/{WEEK.id}/{action}", body, status)["error"]
    assert error.get("field") == field
    assert words in error["message"]
    assert httpx.get(f"{service_cases}/{WEEK.id}").json() == before


@pytest.fixture(scope="module")
def service_cases(case_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all that changes nothing."""
    path = tmp_path_factory.mktemp("refusing") / "lowlight.db"
    shutil.copyfile(case_file, path)
    with background(short_waits(path), log_path=path.with_suffix(".log")) as address:
        yield f"{address}/v1/cases"


def test_a_week_without_a_case_and_a_week_that_is_none(service_cases: str) -> None:
    assert post(f"{service_cases}/2020-W05/note", {"note": "?"}, 404)["error"]["code"] == "no_case"
    assert post(f"{service_cases}/2020-W99/note", {"note": "?"}, 422)["error"]["field"] == "week"
    form = httpx.post(f"{service_cases}/{WEEK.id}/note", data={"note": "from a form"})
    assert form.status_code == 415


def test_the_terminal_works_without_a_server(case_settings: Settings) -> None:
    """The store is opened by the command itself, under the server's own lock."""
    assert terminal(case_settings, "pick", WEEK.id, "--by", "ada")["status"] == "picked"
    words = "The system prompt lost its language line."
    assert terminal(case_settings, "root-cause", WEEK.id, words)["root_cause"] == words
    assert terminal(case_settings, "owner", WEEK.id, "bo")["owner"] == "bo"
    fixed = terminal(case_settings, "fixed", WEEK.id, "--release", "2.1")
    assert fixed["fix"]["release"] == "2.1"
    listed = terminal(case_settings, "list")["cases"]
    assert [case["status"] for case in listed] == ["fixed"]
    closed = terminal(case_settings, "verify", WEEK.id, "--because", "Read them.")
    assert closed["status"] == "verified"
    run = CliRunner().invoke(
        command, ["fixed", WEEK.id, "--at", "soon", "--database-url", case_settings.database_url]
    )
    assert run.exit_code != 0
    assert "at" in str(run.exception)


@pytest.mark.parametrize(
    ("body", "status", "code", "field", "words"),
    [
        (b"x", 400, "bad_json", None, "not JSON"),
        (b"", 422, "invalid", None, "send a JSON object"),
        (b"[]", 422, "invalid", None, "The body must be an object."),
        (b"{}", 422, "invalid", "note", "note is missing."),
        (b'{"note": 5}', 422, "invalid", "note", "note must be a string."),
        (b'{"note": "n", "bye": 1}', 422, "invalid", "bye", "bye is nothing that is taken here"),
    ],
)
def test_a_body_that_is_none_is_told_by_field_and_remedy(
    service_cases: str, body: bytes, status: int, code: str, field: str | None, words: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{service_cases}/{WEEK.id}/note", content=body, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("field")) == (status, code, field)
    assert words in error["message"]
