"""GET /v1/*: filters, pages of lists, errors in one shape, and that OpenAPI describes what is answered."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest

from tests.browser.conftest import Site
from tests.browser.rows import HOSTILE, HOSTILE_ID


def _get(site: Site, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{site.url}/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/calls", "/worst"])
def test_a_list_read_in_pages_has_every_row_once(site: Site, path: str) -> None:
    name = "calls" if path == "/calls" else "rows"
    whole = _get(site, path, limit=500)[name]
    paged: list[Any] = []
    cursor = None
    while True:
        part = _get(site, path, limit=97, **({"cursor": cursor} if cursor else {}))
        paged += part[name]
        cursor = part["next_cursor"]
        if cursor is None:
            break
    assert paged[:500] == whole
    ids = [row["id"] if name == "calls" else row["call"]["id"] for row in paged]
    assert len(ids) == len(set(ids)) == 551


def test_filters_narrow_and_combine(site: Site) -> None:
    slow = _get(site, "/calls", model="llama-13b", min_latency_ms=100_000)["calls"]
    assert [line["id"] for line in slow] == ["slow-90", "slow-40"]
    bad = _get(site, "/calls", signal="thumbs_down", outcome="failed", version="v2", limit=500)["calls"]
    assert bad
    assert all(line["signals"] == ["thumbs_down"] and line["prompt_version"] == "v2" for line in bad)
    of_user = _get(site, "/calls", user=bad[0]["user_id"], limit=500)["calls"]
    assert {line["user_id"] for line in of_user} == {bad[0]["user_id"]}
    found = _get(site, "/calls", q="REPORT", session=bad[0]["session_id"])["calls"]
    assert found
    assert {line["session_id"] for line in found} == {bad[0]["session_id"]}
    assert _get(site, "/calls", q="100%_sure")["calls"] == [], "LIKE's wildcards are plain characters"


def test_a_window_is_half_open(site: Site) -> None:
    newest = _get(site, "/calls", limit=1)["calls"][0]["started_at"]
    at = datetime.fromisoformat(newest)
    assert at.tzinfo == UTC
    assert newest.endswith("Z")
    upto = _get(site, "/calls", since=(at - timedelta(seconds=1)).isoformat(), until=newest)["calls"]
    assert upto == []
    after = (at + timedelta(milliseconds=1)).isoformat()
    assert len(_get(site, "/calls", since=newest, until=after)["calls"]) == 1


def test_a_call_is_read_whole_whatever_its_id_is_made_of(site: Site) -> None:
    read = _get(site, f"/calls/{quote(HOSTILE_ID, safe='')}")
    assert read["call"]["id"] == HOSTILE_ID
    assert read["texts"]["output"] == [{"role": "", "text": HOSTILE}]
    assert read["call"]["cost_usd"] is None, "unknown is null, not zero"
    assert [(s["rubric"], s["status"], s["score"]) for s in read["scores"]] == [
        ("accuracy", "ungraded", None),
        ("tone", "scored", pytest.approx(2.02)),
        ("tone", "scored", pytest.approx(5.74)),
    ]
    assert sum(read["scores"][1]["probabilities"]) == pytest.approx(1)


def test_people_are_ranked_by_the_worst_that_happened_to_them(site: Site) -> None:
    rows = _get(site, "/worst", per="user", limit=20)["rows"]
    assert [row["p_bad"] for row in rows] == sorted((row["p_bad"] for row in rows), reverse=True)
    assert all(row["who"] == row["call"]["user_id"] and row["n_bad"] <= row["n"] for row in rows)


def test_the_worst_by_one_thing_alone_leaves_out_what_is_unknown(site: Site) -> None:
    slowest = _get(site, "/worst", by="latency", limit=2)["rows"]
    assert [(row["call"]["id"], row["value"]) for row in slowest] == [("slow-90", 131e3), ("slow-40", 104e3)]
    complained = _get(site, "/worst", by="signal", per="user", limit=500)["rows"]
    assert complained
    assert all("thumbs_down" in row["call"]["signals"] and row["value"] == 1 for row in complained)
    assert len({row["who"] for row in complained}) == len(complained)
    scored = _get(site, "/worst", by="score", limit=500)["rows"]
    assert [row["value"] > 0.7 for row in scored[:6]] == [True] * 5 + [False], "every twelfth of sixty"
    assert len(scored) == 200, "only calls that a critic scored"


def test_costs_say_what_is_unknown(site: Site) -> None:
    read = _get(site, "/costs", group_by="model")
    assert {group["group"] for group in read["groups"]} >= {"aurora-2", "llama-13b"}
    assert read["total"]["n"] == read["total"]["n_unknown"] == sum(group["n"] for group in read["groups"])
    assert (read["total"]["cost_usd"], read["total"]["cost_per_call_usd"]) == (None, None)
    assert read["total"]["output_tokens"] == 30 * 400, "of the calls that say"


def test_quantiles_come_with_n_and_interval_or_with_the_reason(site: Site) -> None:
    read = _get(site, "/latency", group_by="model")
    slow = next(group for group in read["groups"] if group["group"] == "llama-13b")
    by_q = {quantile["q"]: quantile for quantile in slow["quantiles"]}
    assert by_q[0.95]["status"] == "known"
    assert by_q[0.95]["low_ms"] <= by_q[0.95]["value_ms"] <= by_q[0.95]["high_ms"]
    assert (by_q[0.99]["status"], by_q[0.99]["needs_n"], by_q[0.99]["value_ms"]) == ("too_few", 368, None)
    assert (slow["far_out"]["n"], slow["far_out"]["n_answered"]) == (2, 150)


def test_latencies_by_several_fields_and_by_hour_add_up(site: Site) -> None:
    by_model = {group["group"]: group["n"] for group in _get(site, "/latency", group_by="model")["groups"]}
    by_hour = _get(site, "/latency", group_by="model,hour")["groups"]
    strip = _get(site, "/latency/hours", group_by="model")
    assert strip["step_hours"] == 1
    for row in strip["rows"]:
        assert row["n"] == by_model[row["group"]] == sum(cell["n"] for cell in row["cells"])
        assert row["n"] == sum(g["n"] for g in by_hour if g["group"].startswith(f"{row['group']} · "))
    refused = httpx.get(f"{site.url}/v1/latency/hours", params={"group_by": "hour"}).json()["error"]
    assert (refused["code"], refused["field"]) == ("bad_grouping", "group_by")


def test_causes_of_the_tail_are_kept_by_the_weekly_computation(site: Site) -> None:
    read = _get(site, "/latency/causes")
    assert read["spells"] == []
    tail = read["weeks"][0]["tails"][0]
    assert (tail["scope"], tail["words"]) == ("all", "the slowest 5 %")
    assert sum(label["share"] for label in tail["labels"]) == pytest.approx(1, abs=1e-3)
    slowest = tail["slowest"][0]
    assert slowest["latency_ms"] == max(one["latency_ms"] for one in tail["slowest"])
    assert (
        _get(site, f"/calls/{quote(slowest['id'], safe='')}")["call"]["latency_ms"] == slowest["latency_ms"]
    )


def test_what_else_went_wrong_like_the_cases_seed(site: Site) -> None:
    seed = _get(site, "/cases")["cases"][0]["seed"]["id"]
    found = _get(site, f"/calls/{quote(seed, safe='')}/alike", limit=5)
    assert len(found["calls"]) == 5
    assert seed not in [call["id"] for call in found["calls"]]
    assert all(call["p_bad"] >= 0.5 and 0 <= call["likeness"] <= 1 for call in found["calls"])
    assert found["n_bad"] >= found["n_failed_alike"] >= 0
    hostile = _get(site, f"/calls/{quote(HOSTILE_ID, safe='')}/alike", since="2001-01-01", until="2001-01-02")
    assert (hostile["calls"], hostile["n_bad"]) == ([], 0)
    missing = httpx.get(f"{site.url}/v1/calls/no-such-call/alike")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_such_call")


def test_the_case_names_its_condition_and_its_seed(site: Site) -> None:
    cases = _get(site, "/cases")["cases"]
    assert len(cases) >= 1
    case = cases[0]
    assert case["cohort"]["condition"]["value"] in ("summary@v2", "v2")
    assert case["cohort"]["rate_low"] <= case["cohort"]["rate_in"] <= case["cohort"]["rate_high"]
    assert _get(site, f"/cases/{case['week']}") == case
    assert case["seed"]["p_bad"] > 0.5


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/calls?limit=0", 422, "invalid", "limit"),
        ("/calls?limit=501", 422, "invalid", "limit"),
        ("/calls?promt=summary", 422, "invalid", "promt"),
        ("/calls?cursor=next", 422, "bad_cursor", "cursor"),
        ("/worst?cursor=1", 422, "bad_cursor", "cursor"),
        ("/worst?cursor=0.5_99999999999999999999", 422, "bad_cursor", "cursor"),
        ("/worst?by=signal&cursor=0.5_7", 422, "bad_cursor", "cursor"),
        ("/worst?per=model", 422, "invalid", "per"),
        ("/worst?by=luck", 422, "invalid", "by"),
        ("/costs?group_by=colour", 422, "invalid", "group_by"),
        ("/latency?since=yesterday", 422, "invalid", "since"),
        ("/latency?week=2026-W60", 422, "invalid", "week"),
        ("/latency?week=2026-W40&since=2026-01-01", 422, "invalid", None),
        ("/calls?since=2026-02-01&until=2026-01-01", 422, "invalid", None),
        ("/cases/2026-W99", 422, "invalid", "week"),
        ("/cases/2001-W01", 404, "no_case", None),
        ("/calls/unheard-of", 404, "no_such_call", None),
    ],
)
def test_errors_have_one_shape_and_name_the_field(
    site: Site, path: str, status: int, code: str, field: str | None
) -> None:
    answer = httpx.get(f"{site.url}/v1{path}", headers={"Accept": "text/html"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("field")) == (status, code, field)
    assert len(error["message"]) > 10


def test_openapi_describes_every_answer(site: Site) -> None:
    document = httpx.get(f"{site.url}/openapi.json").json()
    reads = {
        path: item["get"]
        for path, item in document["paths"].items()
        if "reading" in item.get("get", {}).get("tags", ())
    }
    assert len(reads) >= 8
    for path, read in reads.items():
        schema = read["responses"]["200"]["content"]["application/json"]["schema"]
        shape = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert shape["properties"], path
        assert shape["description"], path
        unexplained = [one["name"] for one in read.get("parameters", ()) if not one.get("description")]
        assert unexplained == [], path
