"""The report as a person reads it in twenty seconds.

Flow: `api.reporting.report.report_of` (or the same over HTTP) -> `lines` -> stdout.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import click

from api.terminal import plain
from dashboards.words import call_path, count, duration, many, share

INDENT = "  "


def lines(report: dict[str, Any], address: str | None = None) -> Iterator[str]:
    """Yield the report's lines; with an address, calls are named by the page that shows them."""
    report = plain(report)
    yield _heading(f"Week {report['week']['id']}", _span(report))
    yield ""
    if report["week"]["calls"]:
        yield from _case(report, address)
        yield from _also(report)
        yield from _people(report)
        yield from _tail(report)
        yield from _critic(report)
    else:
        yield from _elsewhere(report)
    yield from _progress(report, address)


def _span(report: dict[str, Any]) -> str:
    since = datetime.fromisoformat(report["week"]["since"])
    until = datetime.fromisoformat(report["week"]["until"]) - timedelta(seconds=1)
    failed = sum(group["failed"] for group in report["tail"]["all"])
    days = f"{since.day} {since:%b} to {until.day} {until:%b}"
    return f"{days}, {many(report['week']['calls'], 'call')}, {count(failed)} failed"


def _case(report: dict[str, Any], address: str | None) -> Iterator[str]:
    case = report["case"]
    yield _heading("The case" if case is None or case["status"] != "so_far" else "The case so far")
    if case is None:
        yield f"{INDENT}No group of calls stands apart from the rest this week."
    else:
        yield INDENT + click.style(case["sentence"] + ".", bold=True)
        yield f"{INDENT}Its worst call: {_call(case['seed_call_id'], address)}"
        if address is not None:
            yield f"{INDENT}Its page:       {address}/cases/{report['week']['id']}"
    yield ""


def _also(report: dict[str, Any]) -> Iterator[str]:
    case = report["case"]
    others = [
        one for one in report["findings"]["bad"] if case is None or one["condition"] != case["condition"]
    ]
    if others:
        yield _heading("Also set apart")
        for one in others[:4]:
            yield f"{INDENT}{one['case_sentence']}."
        yield ""


def _people(report: dict[str, Any]) -> Iterator[str]:
    if not report["worst_users"]:
        return
    yield _heading("Who had it worst")
    width = max(len(user["user_id"]) for user in report["worst_users"])
    for user in report["worst_users"]:
        prompt = user["prompt"] + (f"@{user['prompt_version']}" if user["prompt_version"] else "")
        why = user["why"].replace("_", " ")
        bad = f"{user['bad_calls']} of {many(user['calls'], 'call')} bad"
        yield f"{INDENT}{user['user_id']:<{width}}  {bad:<20}  {', '.join(filter(None, (why, prompt)))}"
    yield ""


def _tail(report: dict[str, Any]) -> Iterator[str]:
    tail = report["tail"]
    if not tail["all"]:
        return
    yield _heading("The tail")
    known = [one for one in tail["all"][0]["quantiles"] if one["status"] == "known"]
    said = [
        f"p{one['q'] * 100:g} {duration(one['value_ms'])}" for one in known if one["q"] in (0.5, 0.95, 0.99)
    ]
    if said:
        yield f"{INDENT}{', '.join(said)}"
    for finding in report["findings"]["tail"][:2]:
        yield f"{INDENT}{finding['sentence']}."
    for call in tail["slowest"]:
        tokens = "" if call["input_tokens"] is None else f", {count(call['input_tokens'])} tokens in"
        what = ", ".join(filter(None, (call["prompt"], call["model"])))
        yield f"{INDENT}{duration(call['latency_ms']):>8}  {what}{tokens}"
    yield ""


def _elsewhere(report: dict[str, Any]) -> Iterator[str]:
    newest = report["newest_week"]
    if newest is None:
        said = "No calls yet: `lowlight import` brings some in, and `lowlight demo` shows a full week."
    else:
        said = f"No calls in this week. The newest are of week {newest}: `lowlight report --week {newest}`"
    yield INDENT + said
    yield ""


def _critic(report: dict[str, Any]) -> Iterator[str]:
    critic = report["critic"]
    asked = sum(critic["by_status"].values())
    ungraded = critic["by_status"].get("ungraded", 0)
    if critic["critics"] == ["local"] and asked:
        yield "No model read these texts. The local critic sees failures that show, and how closely answers"
        yield f"follow their sources; {share(ungraded / asked)} of the levels asked for stay ungraded."


def _progress(report: dict[str, Any], address: str | None) -> Iterator[str]:
    """Say what is missing, if anything; a store that never held a call misses nothing."""
    progress = report["progress"]
    if progress["settled"] or report["newest_week"] is None:
        return
    waiting, scores = progress["waiting_calls"], progress["due_scores"]
    queue = [many(waiting, "call") if waiting else "", many(scores, "score") if scores else ""]
    queued = " and ".join(filter(None, queue))
    if queued and report["critic"]["critics"] == ["none"]:
        yield f"Not final: {queued} wait for a critic, and no critic is configured (LOWLIGHT_CRITIC)."
        return
    if queued:
        missing = f"{queued} {'waits' if waiting + scores == 1 else 'wait'} for the critic"
    elif progress["calls_behind"]:
        behind = progress["calls_behind"]
        missing = f"{many(behind, 'call')} {'is' if behind == 1 else 'are'} not ranked yet"
    else:
        missing = "the ranking has not caught up with what came last"
    remedy = "the server is at it" if address else "`lowlight serve` works it off"
    yield f"Not final: {missing}; {remedy}."


def _call(call_id: str, address: str | None) -> str:
    return f"{address}{call_path(call_id)}" if address else call_id


def _heading(text: str, rest: str = "") -> str:
    return click.style(text, fg="cyan") + (f"  {rest}" if rest else "")
