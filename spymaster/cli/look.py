"""What asks and changes nothing: `status`, `sql`, `wal ls`."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from spymaster.cli import screen
from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import PIPED_WIDTH, Count, Format, print_json, remark, show_rows
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.query.status import Status

MAX_SHOWN_ROWS: Final = 1_000  # of an answer for people; --json gives all


def status_command(
    data_root: DataRoot = None, wal_root: WalRoot = None, form: AsFormat = None, as_json: AsJson = False
) -> None:
    """Show which rows are at risk, with this disk's sync times; bytes and rows per tier; and what is promised.

    Asks the running daemon. Where none answers, the rows that wait are counted in the log's files.

    Example: spymaster status --json
    """
    from spymaster.query.status import status

    form = chosen(form, as_json=as_json)
    loaded = load(data_root, wal_root)
    found = status(loaded.wal_root, loaded.data_root)
    if form is Format.JSON:
        print_json(found)
    else:
        _print_status(found, form)


def _print_status(found: "Status", form: Format | None) -> None:
    log, silver = found["wal"], found["silver"]
    rows: list[tuple[str, int, int | None, int]] = [("log", log["files"], log["rows"], log["bytes"])]
    for name, tier in [*found["bronze"].items(), ("all Bronze", found["bronze_total"])]:
        rows.append((name, tier["files"], tier["rows"], tier["bytes"]))
    rows.append(("Silver", silver["files"], None, silver["bytes"]))
    shown = [[name, *(None if count is None else Count(count) for count in counts)] for name, *counts in rows]
    show_rows(["tier", "files", "rows", "bytes"], shown, form)
    if found["daemon"] is not None:
        print("\nRows since the daemon began:")
        show_rows(screen.GAUGES, screen.gauge_rows(found["daemon"]), form)
    print()
    for line in screen.contract(found):
        print(line)
    for alarm in found["alarms"]:
        remark(f"ALARM: {alarm}")


def sql_command(
    query: Annotated[str, typer.Argument(help="DuckDB SQL; tables: futures_trades, bronze_futures_trades, ...")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> None:
    """Ask lake and log, also while a daemon records: futures_trades is the one table, each event once, newest included.

    Its tiers are bronze_futures_trades, as received, and silver_futures_trades, as compacted; so for every schema.

    Example: spymaster sql "select contract, count(*) from futures_trades group by all"
    """
    import duckdb
    from rich.console import Console
    from rich.table import Table

    from spymaster.query.lake import connect

    loaded = load(data_root, wal_root)
    try:
        with connect(loaded.data_root, loaded.wal_root) as lake:
            result = lake.execute(query)
            names = [column[0] for column in result.description or []]
            rows = result.fetchall()
    except duckdb.Error as error:
        raise UsageError(
            f"the query failed: {error}. Nothing was changed. Next: spymaster sql 'show tables'"
        ) from error
    if as_json:
        print_json({"columns": names, "rows": rows})
        return
    table = Table(*names)
    for row in rows[:MAX_SHOWN_ROWS]:
        table.add_row(*("" if value is None else str(value) for value in row))
    Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    if len(rows) > MAX_SHOWN_ROWS:
        remark(f"the first {MAX_SHOWN_ROWS:,} of {len(rows):,} rows; all with --json")


def wal_ls(
    data_root: DataRoot = None, wal_root: WalRoot = None, form: AsFormat = None, as_json: AsJson = False
) -> None:
    """List the segments of the log, each with its rows, its watermark and whether it is sound.

    Example: spymaster wal ls
    """
    from spymaster.query.status import segments

    form = chosen(form, as_json=as_json)
    found = segments(load(data_root, wal_root).wal_root)
    if form is Format.JSON:
        print_json(found)
        return
    rows = [
        [row["file"], row["stream"], row["state"], Count(row["rows"]), Count(row["durable_rows"]),
         Count(row["bytes"]), row["problem"]]
        for row in found
    ]  # fmt: skip
    show_rows(["file", "stream", "state", "rows", "durable", "bytes", "problem"], rows, form)
