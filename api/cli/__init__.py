"""The command line `lowlight`: one module a command, each exposing `command`, loaded when it is asked for.

Flow: `main` -> `_COMMANDS` -> the module's command -> the packages below. What they raise on purpose becomes
one clear line on stderr and status 1; anything else is a bug and shows its traceback.
"""

import sys
from importlib import import_module
from typing import Any

import click

from api.errors import ApiError
from ingest.errors import IngestError

#: Command -> (its module, its line in `lowlight --help`). Nothing is imported before it is needed, so that
#: the help answers at once.
_COMMANDS = {
    "serve": ("api.cli.serve", "Run the server: intake, critic, web view."),
    "demo": ("api.cli.demo", "Show a week of an invented product, and its worst experience."),
    "import": ("api.cli.import_", "Bring in calls from a JSONL file through a mapping."),
    "report": ("api.cli.report", "Print this week's case, worst users and tail."),
    "case": ("api.cli.case", "Work on the week's case: pick, root cause, fix, proof."),
    "experience": ("api.cli.experience", "Fit what makes an experience bad to the users' own thumbs."),
    "rubric": ("api.cli.rubric", "Check, list, render, compare and test rubrics."),
    "critic": ("api.cli.critic", "Try a critic on one call; measure what attacks on it win."),
    "rescore": ("api.cli.rescore", "Score old calls under a rubric's version in force."),
    "db": ("api.cli.db", "Bring the database to this version's schema."),
    "backup": ("api.cli.backup", "Copy the database into a file, while the server goes on."),
    "restore": ("api.cli.restore", "Replace the database by such a file; the old one is kept."),
    "doctor": ("api.cli.doctor", "Check settings, disk, database and versions; say what to do."),
}

_OURS = frozenset(("api", "critic", "dashboards", "ingest", "outliers", "rubrics"))


class _LazyGroup(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[name][0]).command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_module, line) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ApiError, IngestError) as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            missing = (error.name or "?").partition(".")[0]
            if missing in _OURS:
                raise
            raise click.ClickException(
                f"The package {missing} is not installed, and this version needs it. Run `make` in the "
                "repository, or install lowlight-server again; `lowlight doctor` names what else is missing."
            ) from error
        except Exception as error:
            if _is_rubric_error(error):
                raise click.ClickException(str(error)) from error
            raise


def _is_rubric_error(error: Exception) -> bool:
    # Whoever raised one has loaded the module; the help must not.
    errors = sys.modules.get("rubrics.errors")
    return errors is not None and isinstance(error, errors.RubricError)


@click.group(
    cls=_LazyGroup,
    epilog="Example: lowlight demo   (then: lowlight serve, and one SDK call in your application)",
)
@click.version_option(package_name="lowlight-server", prog_name="lowlight")
def main() -> None:
    """Lowlight hands a team, every week, the worst experience its LLM feature gave somebody.

    Settings are environment variables, LOWLIGHT_PORT for one; the README lists them.
    """
