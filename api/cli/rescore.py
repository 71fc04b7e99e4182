"""`lowlight rescore`: ask about old calls what a rubric asks now.

Flow: options -> POST /v1/rescore of the running server, or the same in the store itself -> counts and cost, a
question, pages of work, and a bar until the critic has answered them.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ingest.settings import Settings, load_settings

if TYPE_CHECKING:
    from api.routes.rescore import RescorePage

Ask = Callable[[dict[str, Any]], "RescorePage"]

POLL_S = 1.0


@click.command(
    name="rescore", epilog="Example: lowlight rescore --rubric tone --since 2026-11-01 --where model=aurora-2"
)
@click.option("--rubric", required=True, help="The rubric, as it is in force now.")
@click.option("--since", type=click.DateTime(), help="Calls that started from then on (UTC).")
@click.option("--until", type=click.DateTime(), help="Calls that started before (UTC). Default: now.")
@click.option(
    "--where",
    "fields",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only such calls: provider, model, prompt, prompt_version, environment, release. Repeatable.",
)
@click.option("--critic", help="Who answers: one of LOWLIGHT_CRITIC. Default: the first.")
@click.option(
    "--batch",
    is_flag=True,
    help="Ask by the provider's batch endpoint: within a day, at its lower price (OpenAI chat, Anthropic).",
)
@click.option(
    "--anchors",
    is_flag=True,
    help="Score the calls that people labelled first once more, to see whether the critic has moved.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
@click.option("--dry-run", is_flag=True, help="Count calls and cost; make nothing.")
@click.option("--no-wait", is_flag=True, help="Return once the work is made; the server goes on with it.")
def command(
    rubric: str,
    since: datetime | None,
    until: datetime | None,
    fields: tuple[str, ...],
    critic: str | None,
    batch: bool,
    anchors: bool,
    yes: bool,
    dry_run: bool,
    no_wait: bool,
) -> None:
    """Score old calls under a rubric's version in force.

    New calls are scored by themselves. Counts and cost are told before anything is made. Broken off, the same
    command goes on where it stopped: an answer is never made twice.

    With --anchors it asks about labelled calls once more, at most once a day. Those answers enter no average;
    the rubric's page holds them against those of the first time.
    """
    if since is None and not anchors:
        raise click.UsageError("Missing option '--since': from when on calls are meant (or --anchors).")
    settings = load_settings()
    body = {
        "rubric": rubric,
        "critic": critic,
        "batch": batch,
        "anchors": anchors,
        "since": since.replace(tzinfo=UTC).isoformat() if since else None,
        # Fixed now, so that both passes mean the same calls.
        "until": (until.replace(tzinfo=UTC) if until else datetime.now(UTC)).isoformat(),
        "where": dict(_field(text) for text in fields),
    }
    with _asking(settings) as (ask, address):
        found = _all_pages(ask, {**body, "dry_run": True}, "Counting")
        if anchors and not found.calls:
            remedy = "send levels with POST /v1/labels; those calls are the anchors"
            raise click.ClickException(f"Nobody has labelled a kept call under {rubric}: {remedy}.")
        _tell(found, rubric, batch=batch)
        if not found.to_ask or dry_run:
            return
        if not yes:
            click.confirm("Go on?", abort=True)
        made = _all_pages(ask, {**body, "dry_run": False}, "Making work")
        click.echo(f"{made.made:,} answers are due.")
        if address is None:
            click.echo("No server runs for this database: start `lowlight serve`, and the critic answers.")
        elif not no_wait:
            _wait(ask, {**body, "dry_run": True}, made.made)


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--where")
    return name.strip(), value.strip()


@contextmanager
def _asking(settings: Settings) -> Iterator[tuple[Ask, str | None]]:
    """Yield what asks for a page, and the server's address; None where the store is opened here."""
    from api.doors import ask, running_server
    from api.routes.rescore import RescoreAsked, RescorePage, rescore

    address = running_server(settings)
    if address is not None:
        yield lambda body: RescorePage.model_validate(ask(f"{address}/v1/rescore", body)), address
        return
    from api.schema import upgrade
    from ingest.lock import ServerLock
    from ingest.store import OpenStore, sqlite_path

    path = sqlite_path(settings.database_url)
    if path is None:
        raise click.ClickException("Start `lowlight serve` on this database first; it does the work.")
    if not path.exists():
        raise click.ClickException(f"There is no database {path}; set LOWLIGHT_DATABASE_URL to yours.")
    with ServerLock(path):
        upgrade(settings.database_url)
        store = OpenStore(settings.database_url)
        try:
            yield lambda body: rescore(RescoreAsked.model_validate(body), store, settings), None
        finally:
            store.close()


def _all_pages(ask: Ask, body: dict[str, Any], what: str) -> "RescorePage":
    """Go through all pages and return them added up."""
    page = total = ask(body)
    with _counter(what) as shown:
        while page.next is not None:
            shown(total.calls)
            page = ask({**body, "after": page.next})
            total = page.model_copy(
                update={
                    name: getattr(total, name) + getattr(page, name)
                    for name in ("calls", "answered", "to_ask", "made")
                }
            )
    return total


@contextmanager
def _counter(what: str) -> Iterator[Callable[[int], None]]:
    """On a terminal, say how far it is on one line."""
    on_terminal = sys.stderr.isatty()

    def shown(calls: int) -> None:
        if on_terminal:
            click.echo(f"\r{what}: {calls:,} calls", nl=False, err=True)

    yield shown
    if on_terminal:
        click.echo("\r", nl=False, err=True)


def _tell(found: "RescorePage", rubric: str, *, batch: bool) -> None:
    what = f"{rubric} {found.version[:10]} by {found.critic}"
    if not found.to_ask:
        click.echo(f"Nothing to do: of {found.calls:,} calls each has an answer under {what}.")
        return
    click.echo(f"{found.to_ask:,} of {found.calls:,} calls have no answer under {what}.")
    if found.cost_usd_each is None:
        click.echo("What they will cost is unknown: no answer of this critic has a price yet.")
    elif found.cost_n or found.cost_usd_each:
        cost = found.to_ask * found.cost_usd_each
        click.echo(f"They will cost about {cost:.2f} USD, by the mean of the last {found.cost_n} answers.")
    else:
        click.echo("They cost nothing.")
    if batch:
        click.echo(_batch_told(found.batch_factor))


def _batch_told(factor: float | None) -> str:
    when = "By batch: the answers come within a day"
    if factor is None:
        return f"{when}; what a batch saves is unknown, as the price is (LOWLIGHT_PRICES)."
    if factor == 1.0:
        return f"{when}; the price table knows no lower price for a batch."
    return f"{when}, at {factor:g} of the price, which is in the figure above where there is one."


def _wait(ask: Ask, body: dict[str, Any], made: int) -> None:
    """Show a bar until nothing of this version waits. Ctrl-C ends the waiting, not the work."""
    told: str | None = None
    with click.progressbar(length=max(1, made), label="Scoring", file=sys.stderr) as bar:
        while True:
            # One page past the end reads no call: only what waits is asked for.
            page = ask({**body, "after": 2**62})
            if page.batches and page.batches != told:
                told = page.batches
                click.echo(f"\n{told}", err=True)
            waiting = page.waiting
            done = max(0, made - waiting)
            bar.update(done - bar.pos)
            if not waiting:
                return
            time.sleep(POLL_S)
