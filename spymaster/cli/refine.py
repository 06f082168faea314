"""What makes the lake better than it was recorded: `compact`, `archive`, `catalog rebuild`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spymaster import clock
from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import (
    CANNOT_PROCEED,
    COULD_NOT_RUN,
    FINDINGS,
    OK,
    Count,
    Format,
    failing_with,
    print_json,
    progress,
    remark,
    show_rows,
    warn,
)
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.compaction.compactor import Compacted


@failing_with(CANNOT_PROCEED)
def compact_command(
    date: Annotated[str | None, typer.Option(help="This UTC date, YYYY-MM-DD.")] = None,
    schema: Annotated[str | None, typer.Option(help="Only this schema, e.g. futures.trades.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every date.")] = False,
    data_root: DataRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> int:
    """Make Silver of Bronze: every event once, of what changed. Exit 0 done, 1 a partition was refused, 4 could not.

    Example: spymaster compact --date 2025-12-22
    """
    from spymaster.compaction import compactor
    from spymaster.events import MARKET_SCHEMAS
    from spymaster.lake.layout import schema_of_silver

    form = chosen(form, as_json=as_json)
    if (date is None) == (not every):
        raise UsageError("name one date, or all. Nothing was done. Next: spymaster compact --date YYYY-MM-DD, or --all")
    loaded = load(data_root, None)
    schemas = [schema_of_silver(schema)] if schema is not None else MARKET_SCHEMAS
    with compactor.lock(loaded.data_root), progress("partitions", as_json=form is Format.JSON) as advance:
        wanted = compactor.partitions(loaded.data_root, schemas, date, date)
        results = compactor.compact(
            loaded.data_root,
            wanted,
            progress=advance,
            tolerance_ns=round(loaded.greeks_tolerance_sec * clock.NS_PER_SECOND),
        )
    if form is Format.JSON:
        print_json({"partitions": [_compacted_document(result) for result in results]})
    else:
        _print_compacted(results, form)
    return FINDINGS if any(result.status == "refused" for result in results) else OK


def _compacted_document(result: "Compacted") -> dict[str, Any]:
    where = result.partition
    return {
        "schema": where.schema, "partition": f"{where.key}={where.value}", "date": where.date, "hour": where.hour,
        "status": result.status, "reason": result.reason, **(result.counts._asdict() if result.counts else {}),
        "parts": result.parts, "bytes_in": result.bytes_in, "bytes_out": result.bytes_out,
        "seconds": round(result.seconds, 3), "mb_per_s": round(result.mb_per_s, 1),
    }  # fmt: skip


def _print_compacted(results: list["Compacted"], form: Format | None) -> None:
    """Print a row for each schema and partition value, and a line for each that was refused."""
    from spymaster.events import OPTIONS_TRADES

    counted = ["rows in", "rows out", "redelivered", "repeats", "unproven", "enriched"]
    rows: list[list[object]] = []
    groups: dict[tuple[str, str], list[Compacted]] = {}
    for result in results:
        groups.setdefault((result.partition.schema, result.partition.value), []).append(result)
    for (name, value), own in groups.items():
        sums = [sum(counts) for counts in zip(*(result.counts for result in own if result.counts), strict=True)]
        new = sum(result.status == "compacted" for result in own)
        shown = sums if name == OPTIONS_TRADES.name else sums[:-1]
        counts = [*map(Count, shown), *[None] * (len(counted) - len(shown))]
        rows.append([name, value, Count(len(own)), Count(new), *counts])
    if rows:
        show_rows(["schema", "of", "partitions", "new", *counted], rows, form)
    for result in results:
        if result.reason is not None:
            remark(f"refused: {result.reason}")
    new = sum(result.status == "compacted" for result in results)
    print(f"{len(results):,} partitions, {new:,} of them new or changed.")


@failing_with(COULD_NOT_RUN)
def archive_command(
    before: Annotated[str, typer.Option(help="The first UTC date that stays, YYYY-MM-DD.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Move the Bronze parts of compacted hours from before a date to DATA_ROOT/archive.

    Everything reads them there as before; it may be a link to another disk. No daemon may run meanwhile.

    Exit 0 all moved or nothing to move, 1 some hours stayed, a line each, 2 could not run or all of them have to stay.

    Example: spymaster archive --before 2025-12-01
    """
    from spymaster.compaction.archiver import archive_before
    from spymaster.lake.locks import archive_locks

    loaded = load(data_root, wal_root)
    with archive_locks(loaded.wal_root, loaded.data_root), progress("partitions", as_json=as_json) as advance:
        done = archive_before(loaded.data_root, before, advance)
    if as_json:
        stayed = [{"partition": each.place, "reason": each.reason} for each in done.stayed]
        print_json({**vars(done), "stayed": stayed})
    else:
        for each in done.stayed:
            remark(f"stays: {each.place} {each.reason}")
        print(
            f"{done.parts:,} parts of {done.partitions:,} partitions archived: {done.rows:,} rows, "
            f"{done.size_bytes:,} bytes, read back and sound; {len(done.stayed):,} partitions stayed."
        )
    return FINDINGS if done.stayed else OK


def catalog_rebuild(data_root: DataRoot = None, wal_root: WalRoot = None, as_json: AsJson = False) -> None:
    """Make the index again from the files alone.

    Example: spymaster catalog rebuild
    """
    from spymaster.lake import catalog
    from spymaster.lake.locks import writer_locks

    loaded = load(data_root, wal_root)
    with writer_locks(loaded.wal_root, loaded.data_root):
        strangers = catalog.rebuild(loaded.data_root)
    if strangers is not None:
        warn(strangers)
    count = sum(totals.files for totals in catalog.read_totals(loaded.data_root).values())
    if as_json:
        print_json({"files": count})
    else:
        print(f"{count:,} parts are in the catalog.")
