"""`lowlight rubric test`: a golden set scored under the working tree's rubrics and those of a revision.

Flow: GOLDEN.jsonl -> `api.files.golden` -> a store of its own -> `critic.trust.trial` ->
`critic.trust.agreement` per version -> a table, and an exit code for CI. Nothing is written to the team's
database.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ingest.settings import Settings, load_settings
from rubrics import Rubric, load_rubrics
from rubrics.history import rubrics_at

BATCH = 1000
_SHIFTED = (("level", "level"), ("MAE", "mae"), ("rho", "rho"))


@dataclass(frozen=True)
class Tested:
    """One version of one rubric beside people; `agreement` is None where nothing could be compared."""

    rubric: str
    blob: str
    agreement: Any
    unscored: dict[str, int]


@click.command(name="test", epilog="Example: lowlight rubric test golden.jsonl --against origin/main")
@click.argument("golden", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--against", default="HEAD", show_default=True, help="Revision whose rubrics are the old ones.")
@click.option(
    "--critic", help="Who scores: one critic as in LOWLIGHT_CRITIC. Default: the first named there."
)
@click.option(
    "--rubrics",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of the rubric files, before LOWLIGHT_RUBRICS_DIR.",
)
@click.option("--mae-max", type=float, help="Fail where a new version is farther from people than this.")
@click.option(
    "--unscored-max",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Fail where a larger share of a rubric's labelled calls got no score.",
)
@click.option("--timeout", "timeout_s", default=1800.0, show_default=True, help="Longest wait, seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    golden: Path,
    against: str,
    critic: str | None,
    folder: Path | None,
    mae_max: float | None,
    unscored_max: float,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Score calls with people's labels under the rubrics as edited, and compare with those of a revision.

    GOLDEN has one call a line, fields as in POST /v1/calls, and "labels": {"tone": 6, "accuracy": [2, 3]}.
    Status 1 where a new version agrees with people less beyond chance, or a limit below is passed.
    """
    from api.files.golden import read_golden

    settings = load_settings(critic=critic)
    if not settings.critics:
        raise click.ClickException("No critic is configured; name one with --critic, for example local")
    settings = settings.model_copy(update={"critic": settings.critics[0]})
    folder = folder or settings.rubrics_dir
    labelled = read_golden(golden)
    new = [rubric for rubric in load_rubrics(folder) if rubric.name in labelled.rubrics]
    if not new:
        names = ", ".join(sorted(labelled.rubrics))
        raise click.ClickException(f"{folder} has none of the rubrics that {golden} labels: {names}")
    old = [rubric for rubric in rubrics_at(folder, against) if rubric.name in {one.name for one in new}]
    both = list({rubric.blob: rubric for rubric in (*old, *new)}.values())
    results, cost_usd = _scored(settings, labelled.calls, labelled.labels, both, timeout_s)
    verdicts = [_verdict(one, old, results, mae_max, unscored_max) for one in new]
    if as_json:
        shown = {"critic": settings.critic, "against": against, "cost_usd": cost_usd, "rubrics": verdicts}
        click.echo(json.dumps(shown))
    else:
        _print(settings.critic, against, verdicts, cost_usd)
    if any(verdict["failures"] for verdict in verdicts):
        raise SystemExit(1)


def _scored(
    settings: Settings,
    calls: Sequence[dict[str, Any]],
    labels: Sequence[dict[str, Any]],
    rubrics: Sequence[Rubric],
    timeout_s: float,
) -> tuple[dict[str, tuple[Tested, Any]], float | None]:
    """Return by version what came of it with the compared outputs, and the cost."""
    from api.schema import upgrade
    from critic.trust import trial
    from critic.trust.agreement import agreement
    from critic.trust.agreement import labelled as with_labels
    from ingest.intake import Intake
    from ingest.store import OpenStore
    from ingest.tables import DEFAULT_PROJECT
    from ingest.wire import calls_of, labels_of

    with tempfile.TemporaryDirectory(prefix="lowlight-trial-") as folder:
        settings = settings.model_copy(update={"database_url": f"sqlite:///{Path(folder) / 'trial.db'}"})
        upgrade(settings.database_url)
        store = OpenStore(settings.database_url)
        try:
            intake = Intake(store, settings)
            for start in range(0, len(calls), BATCH):
                intake.accept_calls(DEFAULT_PROJECT, calls_of(calls[start : start + BATCH]))
            for start in range(0, len(labels), BATCH):
                intake.accept_labels(DEFAULT_PROJECT, labels_of(labels[start : start + BATCH]))
            with click.progressbar(length=1000, label="Scoring", file=sys.stderr) as bar:

                def shown(left: trial.Left) -> None:
                    bar.update(int(1000 * left.done / max(1, left.of)) - bar.pos)

                trial.judge(settings, store, rubrics, timeout_s=timeout_s, progress=shown)
            results = {}
            with store.read() as connection:
                for rubric in rubrics:
                    compared = with_labels(
                        connection, DEFAULT_PROJECT, rubric.name, settings.critic, blob=rubric.blob
                    )
                    found = agreement(compared) if compared.said else None
                    without = trial.unscored(connection, rubric.blob, settings.critic)
                    results[rubric.blob] = (Tested(rubric.name, rubric.blob, found, without), compared)
                return results, trial.cost_usd(connection)
        except trial.TrialStopped as error:
            raise click.ClickException(f"The critic stopped: {error}") from error
        finally:
            store.close()


def _verdict(
    new: Rubric,
    old: Sequence[Rubric],
    results: dict[str, tuple[Tested, Any]],
    mae_max: float | None,
    unscored_max: float,
) -> dict[str, Any]:
    """Return one rubric's result as JSON, `failures` saying in words what fails the run."""
    from critic.trust.agreement import shift

    tested, compared = results[new.blob]
    before = next((results[rubric.blob] for rubric in old if rubric.name == new.name), None)
    unscored = sum(tested.unscored.values())
    asked = len(compared.said) + unscored
    failures = []
    moved = None
    if asked and unscored / asked > unscored_max:
        reason = next(iter(tested.unscored))
        failures.append(f"{unscored} of {asked} calls got no score: {reason}")
    if before is not None and before[0].blob != new.blob and compared.said and before[1].said:
        moved = shift(before[1], compared)
        if moved.worse:
            failures.append("agrees with people less than before, beyond chance")
    if mae_max is not None and tested.agreement is not None and tested.agreement.mae.value > mae_max:
        failures.append(f"is {tested.agreement.mae.value:.2f} levels from people; {mae_max:g} is allowed")
    return {
        "rubric": new.name,
        "now": _side(tested),
        "before": None if before is None else _side(before[0]),
        "shift": None if moved is None else asdict(moved),
        "failures": failures,
    }


def _side(tested: Tested) -> dict[str, Any]:
    found = None if tested.agreement is None else asdict(tested.agreement)
    return {"version": tested.blob, "agreement": found, "unscored": tested.unscored}


def _print(critic: str, against: str, verdicts: Sequence[dict[str, Any]], cost_usd: float | None) -> None:
    failed = [verdict["rubric"] for verdict in verdicts if verdict["failures"]]
    rubrics = f"{len(verdicts)} rubric{'' if len(verdicts) == 1 else 's'}"
    click.echo(
        f"{', '.join(failed)}: see below" if failed else f"{rubrics}: no version agrees less than before."
    )
    for verdict in verdicts:
        click.echo(f"\n{verdict['rubric']}  by {critic}")
        sides = [(f"{against}", verdict["before"]), ("now", verdict["now"])]
        if verdict["before"] is not None and verdict["before"]["version"] == verdict["now"]["version"]:
            sides = [("unchanged", verdict["now"])]
        for name, side in sides:
            click.echo(f"  {name:10} " + ("no such rubric" if side is None else _in_words(side)))
        if verdict["shift"] is not None:
            moved = verdict["shift"]
            figures = [f"{name} {_shown(moved[key], sign=True)}" for name, key in _SHIFTED]
            click.echo(f"  {'shift':10} {', '.join(figures)}; n {moved['n']}")
        for failure in verdict["failures"]:
            click.echo(f"  FAILS: {failure}")
    spent = "unknown (a price is not in the table)" if cost_usd is None else f"{cost_usd:.4f} USD"
    click.echo(f"\nCost: {spent}.")


def _in_words(side: dict[str, Any]) -> str:
    version, found = side["version"][:10], side["agreement"]
    if found is None:
        reason = next(iter(side["unscored"]), "no labelled call")
        return f"{version}  no score to compare: {reason}"
    alone = {name: _shown(found[name], interval=False) for name in found if name not in ("n", "groups")}
    return (
        f"{version}  MAE {_shown(found['mae'])} "
        f"(constant {alone['constant_mae']}, people {alone['ceiling_mae']}), rho {_shown(found['rho'])}, "
        f"QWK {alone['qwk']}, within one {alone['within_one']}, "
        f"bias {_shown(found['bias'], sign=True)}; n {found['n']}"
    )


def _shown(estimate: dict[str, float | None], *, sign: bool = False, interval: bool = True) -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    form = "+.2f" if sign else ".2f"
    if value is None:
        return "unknown"
    if not interval or low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
