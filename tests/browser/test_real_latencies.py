"""The latency page on real timings, through `lowlight import`: a tail that no p95 shows."""

import json

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page

from api.cli import main
from tests.browser.conftest import Site
from tests.shared_data import data_folder


@pytest.mark.data
def test_two_waits_of_100_s_that_a_p95_hides_lead_the_latency_page(fresh_site: Site, page: Page) -> None:
    file = data_folder("traces_llmperf") / "traces_llmperf" / "requests.jsonl.gz"
    database_url = fresh_site.app.state.settings.database_url
    done = CliRunner().invoke(
        main, ["import", str(file), "--mapping", "llmperf", "--database-url", database_url]
    )
    assert done.exit_code == 0, done.output

    page.goto(f"{fresh_site.url}/latency")
    assert page.locator("h1").inner_text() == (
        "together llama-2-13b-chat: 2 of 149 answered calls took longer than 10× the median: 102 s, 101 s. "
        "Its p95, 1.94 s, hides them."
    )
    said = page.locator(".far-out li").first
    assert "together llama-2-13b-chat" in said.inner_text()
    assert "p95 1.94 s" in said.inner_text()
    said.locator("a", has_text="101 s").click()
    assert "together" in page.locator("main").inner_text()

    page.goto(f"{fresh_site.url}/v1/latency")
    first = json.loads(page.locator("body").inner_text())["groups"][0]
    assert (first["group"], first["far_out"]["n"], first["n_answered"]) == (
        "together llama-2-13b-chat",
        2,
        149,
    )
