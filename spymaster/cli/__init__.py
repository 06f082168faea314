"""The command line: parse, call one function, print. Answers go to stdout, progress and errors to stderr."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer
import typer.exceptions

from spymaster.cli import (
    ask,
    datasets,
    explain,
    gamma,
    levels_report,
    look,
    machine,
    prove,
    record,
    refine,
    replay,
    simulate,
    top,
    watch,
)
from spymaster.cli.output import (
    CANNOT_PROCEED,
    COULD_NOT_RUN,
    INTERRUPTED,
    OK,
    CommandFailedError,
    error_line,
    failures,
    print_error,
)
from spymaster.errors import SpymasterError, StorageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Records market data and proves it.",
)
wal_app = typer.Typer(no_args_is_help=True, help="Look into the write-ahead log.")
catalog_app = typer.Typer(no_args_is_help=True, help="The lake's index.")
config_app = typer.Typer(no_args_is_help=True, help="Settings.")
zone_app = typer.Typer(no_args_is_help=True, help="Levels of your own.")
app.add_typer(wal_app, name="wal")
app.add_typer(catalog_app, name="catalog")
app.add_typer(config_app, name="config")
app.add_typer(zone_app, name="zone")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        print(f"spymaster {metadata.version('spymaster')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    pass


# In the order in which `--help` lists them.
app.command("run")(record.run)
app.command("backfill")(record.backfill)
app.command("recover")(record.recover_command)
app.command("compact")(refine.compact_command)
app.command("datasets")(datasets.datasets_command)
app.command("verify")(prove.verify_command)
app.command("status")(look.status_command)
app.command("top")(top.top_command)
app.command("signals")(watch.signals_command)
app.command("gamma")(gamma.gamma_command)
app.command("replay")(replay.replay_command)
app.command("explain")(explain.explain_command)
app.command("levels-report")(levels_report.levels_report_command)
app.command("sql")(ask.sql_command)
app.command("doctor")(machine.doctor_command)
app.command("archive")(refine.archive_command)
app.command("simulate-day")(simulate.simulate_day)
wal_app.command("ls")(look.wal_ls)
wal_app.command("verify")(prove.wal_verify)
wal_app.command("export")(prove.wal_export)
catalog_app.command("rebuild")(refine.catalog_rebuild)
zone_app.command("add")(watch.zone_set)
zone_app.command("remove")(watch.zone_remove)
zone_app.command("list")(watch.zone_list)
config_app.command("show")(machine.config_show)


def main() -> None:
    """Run the command line; an error a user can act on is one line and a non-zero exit."""
    arguments = sys.argv[1:]
    as_json = _asks_for_json(arguments)
    try:
        code = app(arguments, standalone_mode=False)
    except typer.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except typer.exceptions.TyperException as error:
        if reason := str(error).rstrip("."):  # no command at all is answered by the help
            print_error(f"{reason}. Nothing was started. Next: spymaster --help", as_json=as_json)
        sys.exit(COULD_NOT_RUN)
    except CommandFailedError as failed:
        print_error(error_line(failed.__cause__ or failed), as_json=as_json)
        sys.exit(failed.code)
    except failures() as error:
        print_error(error_line(error), as_json=as_json)
        refused = isinstance(error, SpymasterError) and not isinstance(error, StorageError)
        sys.exit(COULD_NOT_RUN if refused else CANNOT_PROCEED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else OK)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether errors are wanted as JSON: also where the other arguments do not read, so that no command has them."""
    return bool({"--json", "--format=json"} & {*arguments}) or ("--format", "json") in pairwise(arguments)
