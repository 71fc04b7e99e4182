"""Anchors: labelled calls scored again on an occasion of their own, and what the page says of them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from api.cli import main
from api.routes import rescore
from dashboards.drawing.render import Frame, render
from dashboards.filters import WindowQuery
from dashboards.pages import rubric as rubric_page
from ingest.intake import Intake
from ingest.settings import Settings
from ingest.store import OpenStore
from ingest.wire import parse_labels
from tests.providers.loopback import running
from tests.providers.openai_decisions import KEY, DecisionsProvider
from tests.service.critic_runs import OPENAI, judge, scores, send, with_critics, write_rubric

LABELLED, CALLS = 12, 15
ASKED = ("rescore", "--rubric", "tone", "--anchors")


@pytest.fixture
def provider() -> Iterator[DecisionsProvider]:
    with running(DecisionsProvider()) as served:
        served.judge = lambda _request, _question: 6.0
        yield served


@pytest.fixture
def critics(settings: Settings, tmp_path: Path, provider: DecisionsProvider) -> Settings:
    write_rubric(tmp_path / "rubrics", "tone")
    return with_critics(settings, tmp_path / "rubrics", provider, critic=f"{OPENAI},local")


def lowlight(settings: Settings, provider: DecisionsProvider, *arguments: str) -> Result:
    env = {
        "LOWLIGHT_DATABASE_URL": settings.database_url,
        "LOWLIGHT_RUBRICS_DIR": str(settings.rubrics_dir),
        "LOWLIGHT_CRITIC": settings.critic,
        "LOWLIGHT_EGRESS": "*",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": provider.url,
    }
    return CliRunner().invoke(main, arguments, env=env)


def page_of(settings: Settings) -> rubric_page.RubricPage:
    store = OpenStore(settings.database_url)
    with store.read() as connection:
        page = rubric_page.build(connection, settings, "tone", WindowQuery(), datetime.now(UTC))
    store.close()
    assert page is not None
    return page


def judged(settings: Settings) -> list[Any]:
    store = OpenStore(settings.database_url)
    judge(settings, store)
    found = scores(store)
    store.close()
    return found


def test_a_model_that_moved_behind_its_name_shows_on_the_anchors_and_in_no_average(
    critics: Settings, provider: DecisionsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OpenStore(critics.database_url)
    send(store, critics, *({"user_id": f"u{i}"} for i in range(CALLS)))
    judge(critics, store)
    store.close()
    nobody = lowlight(critics, provider, *ASKED, "--yes")
    assert nobody.exit_code == 1
    assert "Nobody has labelled a kept call under tone: send levels with POST /v1/labels" in nobody.stderr

    store = OpenStore(critics.database_url)
    labels = ",".join(
        f'{{"call_id": "call-{i}", "rubric": "tone", "level": 5, "labeller": "ann"}}' for i in range(LABELLED)
    )
    Intake(store, critics).accept_labels(1, parse_labels(f'{{"labels": [{labels}]}}'.encode()))
    store.close()

    for date, level in (("2026-11-01", 6.0), ("2026-11-08", 4.5)):
        monkeypatch.setattr(rescore, "_today", lambda _now_ms, date=date: date)
        provider.judge = lambda _request, _question, level=level: level
        made = lowlight(critics, provider, *ASKED, "--yes")
        assert f"{LABELLED} answers are due." in made.stdout, made.output
        again = lowlight(critics, provider, *ASKED, "--yes")
        assert "Nothing to do" in again.stdout, "once a day"
        rows = judged(critics)
    by_occasion = {row["occasion"]: row["score"] for row in rows}
    assert by_occasion == {
        "": pytest.approx(6.0),
        "anchor/2026-11-01": pytest.approx(6.0),
        "anchor/2026-11-08": pytest.approx(4.5),
    }
    assert {row["critic"] for row in rows} == {OPENAI}, "nobody answers in a critic's place"

    page = page_of(critics)
    assert page.drifts.data is not None
    (drift,) = page.drifts.data
    first, second = drift.runs
    assert (first.date, first.scored, first.shift.value, first.drifted) == (
        "2026-11-01",
        LABELLED,
        None,
        False,
    )
    assert (second.n, second.missing) == (LABELLED, 0)
    assert second.shift.value == pytest.approx(-1.5)
    assert second.drifted
    assert (second.moved, second.mae) == (1.0, pytest.approx(0.5))
    assert page.uses.data is not None
    assert [use.mean.value for use in page.uses.data if use.mean] == [pytest.approx(6.0)]
    said = render("rubric.html", page, Frame("rubrics", "http://h", "", critics.zone))
    assert "beyond chance" in said
    assert "The same calls under the same version" in said


def test_an_anchor_that_waits_beside_a_production_row_is_asked_by_itself(
    critics: Settings, provider: DecisionsProvider
) -> None:
    """Leased together, the two would have been one question asked twice in one request."""
    store = OpenStore(critics.database_url)
    send(store, critics, {"user_id": "u"})
    judge(critics, store)
    store.write(
        lambda connection: (
            connection.execute(
                text(
                    "insert into score (call_seq, rubric, rubric_blob, view_blob, critic, occasion, status,"
                    " attempts, not_before_ms, created_at_ms) select call_seq, rubric, rubric_blob,"
                    " view_blob, critic, 'anchor/2026-11-01', 'pending', 0, 0, 0 from score"
                )
            ).rowcount
        )
    )
    waits_again = (
        "update score set status='pending', score=null, finished_at_ms=null, p1=null, p2=null, p3=null,"
    )
    waits_again += " p4=null, p5=null, p6=null, p7=null, not_before_ms=0 where occasion = ''"
    store.write(lambda connection: connection.execute(text(waits_again)).rowcount)
    judge(critics, store)
    assert [row["status"] for row in scores(store)] == ["scored", "scored"]
    assert [len(request.questions) for request in provider.requests] == [1, 1, 1]
    store.close()


def test_since_is_needed_for_anything_but_anchors(critics: Settings, provider: DecisionsProvider) -> None:
    missing = lowlight(critics, provider, "rescore", "--rubric", "tone")
    assert missing.exit_code == 2
    assert "--since" in missing.stderr
    assert "--anchors" in missing.stderr
