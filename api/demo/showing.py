"""The demo from start to report: a server of its own, a week of traffic, every call read, what was found.

Flow: `show` -> `api.background` -> `api.demo.traffic` -> `api.demo.sending` -> wait for critic and outliers
(GET /v1/report) -> `api.reporting.report_text` -> `api.demo.repair`. Its database is its own; run again, the
demo doubles nothing.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from api.background import background
from api.demo.repair import proof_of, repair
from api.demo.sending import send
from api.demo.traffic import CALLS, FIXED_WEEKS_BEFORE, Traffic, demo_traffic, first_call_id
from api.doors import ServerTrouble, ask, running_server
from api.errors import ApiError
from api.reporting import report_text
from ingest.settings import Settings
from outliers.weeks import Week, last_ended, week_before

#: How long critic and outliers may go without any progress.
STALLED_S = 90.0
POLL_S = 0.4

#: How an application says it; the texts of the demo went the same way.
SDK_LINE = (
    'lowlight.record(response, input=messages, latency_ms=812.5, prompt=("faq", "v3"), user_id=user.id)'
)


class DemoFailed(ApiError):
    """It cannot start, or sending or scoring did not come to an end; the message says where it stopped."""


def show(
    settings: Settings, folder: Path, *, calls: int = CALLS, seed: int = 1, hold: Callable[[], None]
) -> None:
    """Run the demo; `hold` is called once the report is printed and the server is still up.

    Raises:
        ApiError, IngestError: something failed; the message is one line.
    """
    started = time.monotonic()
    address = running_server(settings)
    if address is not None:
        raise DemoFailed(f"This demo is up already: {address}. Look there, or end that one first.")
    click.echo("Crumbline is an invented product that helps small bakeries. This is its last week.")
    with background(settings, log_path=folder / "server.log") as address:
        traffic = _traffic(address, settings, calls, seed)
        items = len(traffic.calls) + len(traffic.signals) + len(traffic.early)
        with _progress("Sending calls and signals through the SDK", items) as advanced:
            sent = send(address, traffic, advanced)
        report = _settled(address, len(traffic.calls), folder / "server.log")
        click.echo(
            f"{len(traffic.calls):,} calls, {items - len(traffic.calls):,} signals"
            + (f" ({sent.duplicates:,} of them were here already)" if sent.duplicates else "")
            + f", ready after {time.monotonic() - started:.0f} s."
        )
        click.echo()
        for line in report_text.lines(report, address):
            click.echo(line)
        repaired = _weeks_before(settings, FIXED_WEEKS_BEFORE)
        repair(address, repaired)
        click.echo()
        click.echo(f"Look at it:       {click.style(address, bold=True, underline=True)}")
        click.echo(f"Your own calls:   {SDK_LINE}")
        proof = proof_of(address, repaired)
        if proof is not None:
            click.echo(f"A fix, proven:    {address}/cases/{repaired.id}")
            click.echo(f"                  {proof}")
        hold()


def _traffic(address: str, settings: Settings, calls: int, seed: int) -> Traffic:
    """Return the last ended week's traffic; the thin week before is left out where it is full already."""
    now_ms = time.time_ns() // 1_000_000
    week = last_ended(now_ms, settings.zone)
    before = first_call_id(week_before(week, settings.zone).id)
    return demo_traffic(
        week.id,
        week.since_ms,
        now_ms,
        seed=seed,
        calls=calls,
        with_week_before=not _has_call(address, before),
    )


def _weeks_before(settings: Settings, n: int) -> Week:
    """Return the week that lies so many before the last ended one."""
    week = last_ended(time.time_ns() // 1_000_000, settings.zone)
    for _ in range(n):
        week = week_before(week, settings.zone)
    return week


def _has_call(address: str, call_id: str) -> bool:
    try:
        ask(f"{address}/v1/calls/{call_id}")
    except ServerTrouble as error:
        if error.status != 404:
            raise
        return False
    return True


def _settled(address: str, calls: int, log: Path) -> dict[str, Any]:
    """Wait until every call is scored and every week computed; return the report."""
    before: dict[str, Any] = {}
    moved_at, shown = time.monotonic(), 0
    with _progress("Reading every call with the local critic", calls) as advanced:
        while True:
            progress: dict[str, Any] = ask(f"{address}/v1/report/progress")
            read = calls if progress["settled"] else min(calls - 1, _calls_read(progress, calls))
            if read > shown:
                advanced(read - shown)
                shown = read
            if progress["settled"]:
                break
            if progress != before:
                before, moved_at = progress, time.monotonic()
            if time.monotonic() - moved_at > STALLED_S:
                raise DemoFailed(
                    f"Nothing has moved for {STALLED_S:.0f} s: {progress['waiting_calls']} calls wait to be "
                    f"read, {progress['due_scores']} scores are due. {log} says why."
                )
            time.sleep(POLL_S)
    report: dict[str, Any] = ask(f"{address}/v1/report")
    return report


def _calls_read(progress: dict[str, Any], calls: int) -> int:
    """Return about how many calls have all their answers."""
    met = calls - progress["waiting_calls"]
    rows = progress["answers"] + progress["due_scores"]
    return max(0, round(met * progress["answers"] / rows)) if rows else 0


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and one plain line elsewhere."""
    if not sys.stdout.isatty():
        click.echo(f"{label} ...")
        yield lambda _n: None
        return
    with click.progressbar(length=max(1, length), label=f"{label:<42}") as bar:
        yield bar.update
