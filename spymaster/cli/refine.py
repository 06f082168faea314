"""What makes the lake better than it was recorded: `compact`, `archive`, `catalog rebuild`."""

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

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
    from spymaster.compaction.differing import Difference

MAX_DIFFERENCES: Final = 100  # rows that are shown


@failing_with(CANNOT_PROCEED)
def compact_command(
    date: Annotated[str | None, typer.Option(help="This UTC date, YYYY-MM-DD.")] = None,
    schema: Annotated[str | None, typer.Option(help="Only this schema, e.g. futures.trades.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every date.")] = False,
    engine: Annotated[
        str | None, typer.Option(help="numpy, the faster and the default, or duckdb; the bytes are the same.")
    ] = None,
    show: Annotated[
        str | None, typer.Option(help="differing: also the removed rows that say something else than the kept one.")
    ] = None,
    data_root: DataRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> int:
    """Make Silver of Bronze: every event once, of what changed. Exit 0 done, 1 a partition was refused, 4 could not.

    Example: spymaster compact --date 2025-12-22
    """
    from spymaster.compaction import compactor
    from spymaster.compaction.engines import FASTER, Engine
    from spymaster.events import MARKET_SCHEMAS
    from spymaster.lake.layout import schema_of_silver

    form = chosen(form, as_json=as_json)
    if show not in (None, "differing"):
        raise UsageError(f"{show!r} cannot be shown. Nothing was done. Next: spymaster compact --all --show differing")
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
            engine=FASTER if engine is None else Engine.named(engine),
        )
        differences = _first_differences(loaded.data_root, results) if show else []
    if form is Format.JSON:
        document: dict[str, Any] = {"partitions": [_compacted_document(result) for result in results]}
        if show:
            document["differing"] = [_difference_document(each) for each in differences]
        print_json(document)
    else:
        _print_compacted(results, form)
        if show:
            _print_differences(differences, results, form)
    _warn_of_repeated_numbers(results)
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
    from spymaster.lake.silver import Counts

    rows: list[list[object]] = []
    groups: dict[tuple[str, str], list[Compacted]] = {}
    for result in results:
        groups.setdefault((result.partition.schema, result.partition.value), []).append(result)
    for (name, value), own in groups.items():
        new = sum(result.status == "compacted" for result in own)
        sums = {
            field: Count(sum(getattr(result.counts, field) for result in own if result.counts))
            for field in Counts._fields
        }
        counts = [None if field == "enriched" and name != OPTIONS_TRADES.name else sums[field] for field in sums]
        rows.append([name, value, Count(len(own)), Count(new), *counts])
    if rows:
        heads = [field.replace("_", " ") for field in Counts._fields]
        show_rows(["schema", "of", "partitions", "new", *heads], rows, form)
    for result in results:
        if result.reason is not None:
            remark(f"refused: {result.reason}")
    new = sum(result.status == "compacted" for result in results)
    print(f"{len(results):,} partitions, {new:,} of them new or changed.")


def _first_differences(data_root: Path, results: list["Compacted"]) -> list["Difference"]:
    """Return the first removed rows that say something else than the kept one, of each partition that counts some."""
    from spymaster.compaction.differing import differences

    some = (result.partition for result in results if result.counts is not None and result.counts.differing)
    return list(islice(chain.from_iterable(differences(data_root, own) for own in some), MAX_DIFFERENCES))


def _difference_document(own: "Difference") -> dict[str, Any]:
    where = own.partition
    return {
        "schema": where.schema, "partition": f"{where.key}={where.value}", "ts_event_ns": own.ts_event_ns,
        "capture_id": own.removed[0], "capture_seq": own.removed[1],
        "kept_capture_id": own.kept[0], "kept_capture_seq": own.kept[1],
        "values": {name: {"removed": removed, "kept": kept} for name, (removed, kept) in own.values.items()},
    }  # fmt: skip


def _print_differences(found: list["Difference"], results: list["Compacted"], form: Format | None) -> None:
    """Print a row for each value that a removed row gives otherwise."""
    rows: list[list[object]] = []
    for own in found:
        head = [own.partition.schema, own.partition.value, own.ts_event_ns, *own.removed, *own.kept]
        rows += [[*head, name, removed, kept] for name, (removed, kept) in own.values.items()]
    if rows:
        heads = ["schema", "of", "ts_event_ns", "capture_id", "capture_seq", "kept capture", "kept seq"]
        show_rows([*heads, "column", "removed says", "kept says"], rows, form)
    of = sum(result.counts.differing for result in results if result.counts is not None)
    print(f"{len(found):,} of {of:,} removed rows that say something else than the row that is kept.")


def _warn_of_repeated_numbers(results: list["Compacted"]) -> None:
    repeated = [own for own in results if own.status == "compacted" and own.counts and own.counts.repeated_numbers]
    if repeated:
        rows = sum(own.counts.repeated_numbers for own in repeated if own.counts)
        schemas = ", ".join(sorted({own.partition.schema for own in repeated}))
        warn(
            f"{schemas}: {rows:,} rows have a number that their vendor documents as unique and that their delivery "
            f"gave before. All of them are kept, in Bronze and in Silver. Next: ask the vendor which of them stand"
        )


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
