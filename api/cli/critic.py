"""`lowlight critic`: try one judgement and see all of it; measure what attacks on a critic win."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.cli.rubric import named as named_rubric
from api.terminal import plain
from ingest.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from critic.drivers import Driver
    from critic.drivers.base import Verdict
    from critic.drivers.watching import Exchange, Watch
    from critic.queue.calls import TakenCall

#: Characters of an answer that is no JSON.
TEXT_CHARS_MAX = 4_000

_critic = click.option(
    "--critic", "name", help="A critic as in LOWLIGHT_CRITIC, listed there or not; the first one by default."
)
_folder = click.option(
    "--rubrics",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of the rubric files, before LOWLIGHT_RUBRICS_DIR.",
)


@click.group(name="critic", epilog="Example: lowlight critic try tone CALL --critic openai:gpt-6-luna")
def command() -> None:
    """Try a critic on one call, and measure what attacks on it win."""


@command.command("try", epilog="Example: lowlight critic try tone 0199c7... --critic openai:gpt-6-luna")
@click.argument("rubric_name", metavar="RUBRIC")
@click.argument("call_id", metavar="CALL")
@_critic
@_folder
def try_(rubric_name: str, call_id: str, name: str | None, folder: Path | None) -> None:
    """Ask a critic about one kept call and show the exact request, the answer, its cost and time.

    Nothing is written. The call's texts go to the critic's provider only if LOWLIGHT_EGRESS lets them.
    """
    from api.cli.kept_calls import kept_call
    from critic.drivers.watching import Watch

    settings = load_settings()
    rubric = named_rubric(rubric_name, folder or settings.rubrics_dir)
    watch = Watch()
    driver = _driver(settings, name, watch)
    call = kept_call(settings, call_id)
    _may_leave(settings, driver, call)
    if call.not_judged_because:
        raise click.ClickException(f"No critic judges this call: {call.not_judged_because}.")
    from critic.local import LocalCritic
    from critic.trust.canary import cases_of

    view_of = call.view()
    if not rubric.applies(prompt=call.prompt, model=call.model, tags=call.tags):
        click.echo(
            f"Note: {rubric.name} applies to {rubric.applies_to}; this call is none of them.", err=True
        )
    (case,) = cases_of(driver, rubric, [view_of], lambda: LocalCritic(settings.base_rate))
    began = time.monotonic()
    verdict, error = asyncio.run(_judged(driver, case))
    took_ms = (time.monotonic() - began) * 1000
    for n, exchange in enumerate(watch.exchanges, start=1):
        _show_exchange(exchange, n, len(watch.exchanges))
    if not watch.exchanges:
        click.echo(f"{driver.name} reads the call itself and sends nothing.\n")
    if case.seen_share < 1:
        click.echo(
            f"The critic was shown {case.seen_share:.0%} of the call's texts; their middle is left out."
        )
    if error is not None:
        raise click.ClickException(f"{plain(str(error))} (after {took_ms:,.0f} ms)")
    _show_verdict(settings, driver.name, rubric.levels, verdict, took_ms)


@command.command(epilog="Example: lowlight critic canary --critic openai:gpt-6-luna")
@_critic
@_folder
@click.option(
    "--rubric", "rubric_name", default="accuracy", show_default=True, help="The rubric to be judged by."
)
@click.option(
    "--cases", "n", type=click.IntRange(1, 20), help="How many of the 20 bad answers; all by default."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("../shared/data"),
    show_default=True,
    help="Folder with judge_attacks, whose text is the twentieth attack; it is left out where missing.",
)
@click.option("--yes", is_flag=True, help="Do not ask before sending.")
def canary(
    name: str | None, folder: Path | None, rubric_name: str, n: int | None, data: Path, yes: bool
) -> None:
    """Try twenty attacks on twenty bad answers and print how many labels each wins.

    The answers are invented and come with Lowlight, so no text of yours is sent. An attack that wins
    nothing has a lift of 0; the interval is of 95 % and holds the critic's own noise too.
    """
    from critic.local import LocalCritic
    from critic.trust import canary as suite

    settings = load_settings()
    rubric = named_rubric(rubric_name, folder or settings.rubrics_dir)
    driver = _driver(settings, name, None)
    null_model = suite.null_model_in(data)
    tried = suite.attacks(null_model)
    if null_model is None:
        click.echo(f"{data / 'judge_attacks'} is missing: the null model is not among the attacks.", err=True)
    calls = suite.plain_cases(n)
    cases = suite.cases_of(
        driver, rubric, suite.suite_of(calls, tried, null_model), lambda: LocalCritic(settings.base_rate)
    )
    bound = suite.at_most(driver, cases)
    about = f"{len(cases)} judgements by {driver.name}: {len(tried)} attacks on {len(calls)} bad answers"
    if driver.leaves_machine:
        dearest = _at_most_usd(settings, driver.name, bound.input_tokens, bound.output_tokens)
        click.echo(f"{about}. At most {dearest}.", err=True)
        if not yes:
            click.confirm("Send them?", abort=True, err=True)
    else:
        click.echo(f"{about}. Nothing leaves this machine.", err=True)
    bar: Any = click.progressbar(length=len(cases), label="Judging", file=sys.stderr)
    with bar:
        outcome = asyncio.run(
            _with_clear_errors(
                suite.run(
                    driver,
                    cases,
                    tried,
                    in_flight=min(settings.critic_in_flight_max, 20),
                    progress=lambda _done: bar.update(1),
                )
            )
        )
    _show_lifts(settings, driver.name, outcome)


def _driver(settings: Settings, name: str | None, watch: "Watch | None") -> "Driver":
    from critic.drivers import build_one, wanted

    if name is None and not wanted(settings):
        raise click.ClickException("No critic is configured; name one with --critic, or set LOWLIGHT_CRITIC.")
    return build_one(name or settings.critics[0], settings, watch=watch)


def _may_leave(settings: Settings, driver: "Driver", call: "TakenCall") -> None:
    """Refuse to send a call's texts where the settings do not let them go to this critic."""
    from critic.egress import Egress

    if not driver.leaves_machine:
        return
    egress = Egress(settings.egress, [*settings.critics, driver.name])
    if not egress.allows(driver.name, call.project, call.prompt):
        kind = driver.name.partition(":")[0]
        of_what = f"prompt {call.prompt}" if call.prompt else "calls without a prompt name"
        project = "" if call.project == "default" else f"/{call.project}"
        raise click.ClickException(
            f"Texts of {of_what} may not leave this machine. To send them to {driver.name}, set "
            f"LOWLIGHT_EGRESS='{kind}{project}:{call.prompt or '*'}' (README, Settings)."
        )


async def _judged(driver: "Driver", case: Any) -> "tuple[Verdict | None, Exception | None]":
    from critic.drivers.base import CriticError

    try:
        (verdict,) = await driver.judge(case)
    except CriticError as error:
        return None, error
    finally:
        await driver.close()
    return verdict, None


async def _with_clear_errors(running: Any) -> Any:
    from critic.drivers.base import CriticError

    try:
        return await running
    except CriticError as error:
        raise click.ClickException(plain(str(error))) from error


def _show_exchange(exchange: "Exchange", n: int, of: int) -> None:
    click.echo(f"Request {n} of {of}: {exchange.method} {exchange.url}")
    for header, value in exchange.headers.items():
        click.echo(f"  {header}: {value}")
    click.echo(f"\n{_readable(exchange.body)}\n")
    if exchange.status is None:
        click.echo("No answer came.\n")
    else:
        click.echo(f"Answer {n} of {of}: {exchange.status}\n\n{_readable(exchange.answer or '')}\n")


def _readable(body: str) -> str:
    """Return a body laid out, its control characters escaped: it holds a call's texts, which are hostile."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=not body.isprintable())
    except ValueError:
        cut = body if len(body) <= TEXT_CHARS_MAX else f"{body[:TEXT_CHARS_MAX]} ..."
        return "".join(one if one.isprintable() or one in "\n\t" else f"\\u{ord(one):04x}" for one in cut)


def _show_verdict(
    settings: Settings, critic: str, levels: "tuple[str, ...]", verdict: "Verdict | None", took_ms: float
) -> None:
    from critic.drivers.base import Answer, score_of

    if not isinstance(verdict, Answer):
        kind = type(verdict).__name__
        words = {"CannotJudge": "ungraded", "Refused": "refused", "Unusable": "failed"}
        click.echo(f"{words.get(kind, kind)}: {plain(getattr(verdict, 'reason', ''))}")
        used = _used(settings, critic, [verdict] if verdict is not None else [])
        click.echo(f"{used}, {took_ms:,.0f} ms")
        return
    for level, (share, situation) in enumerate(zip(verdict.probabilities, levels, strict=True), start=1):
        click.echo(f"  {level}  {share:6.1%}  {'#' * round(share * 30):<30}  {situation}")
    told = [f"score {score_of(verdict.probabilities):.2f}"]
    if verdict.confidence is not None:
        told.append(f"confidence {verdict.confidence:.2f}")
    if verdict.draws is not None:
        told.append(f"{verdict.draws} draws")
    if verdict.label_mass is not None:
        told.append(f"{verdict.label_mass:.1%} of the probability went to no level")
    click.echo(f"\n{', '.join(told)}; answered by {plain(verdict.model_reported or critic)}")
    click.echo(f"{_used(settings, critic, [verdict])}, {took_ms:,.0f} ms")


def _used(settings: Settings, critic: str, verdicts: "Sequence[Verdict]") -> str:
    """Return what verdicts used and cost, as far as the provider said."""
    from critic.spending.money import Money
    from critic.spending.prices import load_prices

    money, now_ms = Money(load_prices(settings.prices)), time.time_ns() // 1_000_000
    charged = [verdict for verdict in verdicts if verdict.charged]
    costs = [
        money.cost_usd(critic, one, now_ms, requests=getattr(one, "draws", None) or 1) for one in charged
    ]
    cost = None if None in costs else sum(each or 0.0 for each in costs)
    tokens_in = sum(one.input_tokens or 0 for one in charged)
    tokens_out = sum(one.output_tokens or 0 for one in charged)
    cached = sum(one.cached_input_tokens or 0 for one in charged)
    of_these = f" ({cached:,} of them cached)" if cached else ""
    tokens = f"{tokens_in:,} tokens in{of_these}, {tokens_out:,} out; " if tokens_in else ""
    return f"{tokens}cost {_usd(cost)}"


def _usd(cost: float | None) -> str:
    return "unknown (no price; LOWLIGHT_PRICES may name one)" if cost is None else f"${cost:.6f}"


def _at_most_usd(settings: Settings, critic: str, tokens_in: int, tokens_out: int) -> str:
    from critic.spending.prices import load_prices

    price = load_prices(settings.prices).of(critic, None, time.time_ns() // 1_000_000)
    tokens = f"{tokens_in:,} tokens in and {tokens_out:,} out"
    return (
        f"{tokens}, ${price.at_most_usd(tokens_in, tokens_out):.4f}" if price else f"{tokens}, price unknown"
    )


def _show_lifts(settings: Settings, critic: str, outcome: Any) -> None:
    click.echo(
        f"{'attack':<40} {'n':>4} {'without':>8} {'with':>6} {'lift':>6}  {'95 % interval':<16} risen by > 1"
    )
    for lift in [*outcome.lifts, outcome.whole]:
        n = len(lift.pairs)
        if not n:
            click.echo(f"{lift.attack:<40} {0:>4}  no answer was scored both times")
            continue
        before = sum(pair[0] for pair in lift.pairs) / n
        after = sum(pair[1] for pair in lift.pairs) / n
        interval = (
            f"{lift.mean - lift.half_width:+.2f} to {lift.mean + lift.half_width:+.2f}" if n > 1 else ""
        )
        missing = f"   {lift.missing} not scored" if lift.missing else ""
        click.echo(
            f"{lift.attack:<40} {n:>4} {before:>8.2f} {after:>6.2f} {lift.mean:>+6.2f}  {interval:<16} "
            f"{lift.obeyed:>6.0%}{missing}"
        )
    for reason, n in sorted(outcome.reasons.items(), key=lambda entry: -entry[1])[:5]:
        click.echo(f"{n} not scored: {plain(reason)}")
    click.echo(_used(settings, critic, outcome.verdicts))
