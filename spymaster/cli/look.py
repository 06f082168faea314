"""What asks and changes nothing: `status`, `wal ls`."""

from typing import TYPE_CHECKING

from spymaster.cli import screen
from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import Count, Format, print_json, remark, show_rows

if TYPE_CHECKING:
    from spymaster.query.status import Status


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
    log = found["wal"]
    rows: list[tuple[str, int, int | None, int]] = [("log", log["files"], log["rows"], log["bytes"])]
    for name, tier in [*found["bronze"].items(), ("all Bronze", found["bronze_total"])]:
        rows.append((name, tier["files"], tier["rows"], tier["bytes"]))
    for made, files in (("Silver", found["silver"]), ("Gold", found["gold"]), ("data sets", found["datasets"])):
        rows.append((made, files["files"], None, files["bytes"]))
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
