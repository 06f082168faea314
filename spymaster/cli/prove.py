"""What reads every byte and judges it: `verify`, `wal verify`, and `wal export` of what a segment has that is sound."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import (
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
)

if TYPE_CHECKING:
    from spymaster.wal.audit import Audit


@failing_with(COULD_NOT_RUN)
def verify_command(
    date: Annotated[
        str | None, typer.Option(help="Only its Silver and Gold, and captures that touch this UTC date, YYYY-MM-DD.")
    ] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Prove that what was recorded is all there, and Silver what it gives. Exit 0 proven, 1 findings, 2 could not run.

    Example: spymaster verify --date 2025-12-22
    """
    from spymaster.proof.verify import verify

    loaded = load(data_root, wal_root)
    with progress("files", as_json=as_json) as advance:
        verdict = verify(loaded.wal_root, loaded.data_root, date, advance)
    whole = sum(proof.whole for proof in verdict.proofs)
    if as_json:
        print_json(
            {
                "proven": not verdict.findings,
                "findings": verdict.findings,
                "notes": verdict.notes,
                "files": verdict.files,
                "rows": verdict.rows,
                "silver": {
                    "audited": verdict.silver.audited,
                    "stale": verdict.silver.stale,
                    "rows_in": verdict.silver.rows_in,
                    "rows": verdict.silver.rows,
                    "redelivered_share": round(verdict.silver.redelivered_share, 6),
                },
                "gold": {"files": verdict.gold.files, "rows": verdict.gold.rows},
                "captures": [proof._asdict() for proof in verdict.proofs],
            }
        )
    else:
        for line in verdict.findings:
            print(f"finding: {line}")
        for line in verdict.notes:
            remark(f"note: {line}")
        for proof in verdict.proofs:
            if not proof.whole:
                print(f"capture {proof.capture_id}, {proof.stream}: proven to row {proof.rows}")
        gold = verdict.gold
        signals = f"{gold.rows:,} rows in {gold.files:,} parts of Gold; " if gold.files else ""
        print(
            f"{verdict.rows:,} rows in {verdict.files:,} parts read; {whole:,} streams of captures proven whole, "
            f"{len(verdict.proofs) - whole:,} proven to a row; {verdict.silver.audited:,} silver partitions audited, "
            f"{verdict.silver.stale:,} stale: {verdict.silver.rows:,} events of {verdict.silver.rows_in:,} rows, "
            f"{verdict.silver.redelivered_share:.2%} delivered again; {signals}{len(verdict.findings):,} findings."
        )
    return FINDINGS if verdict.findings else OK


@failing_with(COULD_NOT_RUN)
def wal_verify(
    path: Annotated[Path | None, typer.Argument(help="A segment or a folder of them; default: WAL_ROOT.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> int:
    """Check every byte of every segment, then decode it. Exit 0 sound or torn tails only, 1 damage, 2 could not run.

    Reads only, takes no lock; files in quarantine are read when they or their folder are named.

    Example: spymaster wal verify wal/futures_trades_ES.007.arrow
    """
    from spymaster.wal import audit

    form = chosen(form, as_json=as_json)
    found = audit.audit(path or load(data_root, wal_root).wal_root)
    damaged = [entry for entry in found if entry.verdict == "damaged"]
    if form is Format.JSON:
        print_json({"sound": not damaged, "segments": [_audit_document(entry) for entry in found]})
    else:
        _print_audits(found, form)
    return FINDINGS if damaged else OK


def _audit_document(entry: "Audit") -> dict[str, Any]:
    lists = {
        "islands": [island._asdict() for island in entry.islands],
        "missing": [hole._asdict() for hole in entry.missing],
    }
    return {**vars(entry), "path": str(entry.path), "stream": entry.stream and str(entry.stream), **lists}


def _print_audits(found: list["Audit"], form: Format | None) -> None:
    rows = [
        [entry.path.name, entry.stream, entry.state, Count(entry.rows), Count(entry.durable_rows),
         Count(entry.size_bytes), entry.verdict]
        for entry in found
    ]  # fmt: skip
    show_rows(["file", "stream", "state", "sound rows", "durable", "bytes", "verdict"], rows, form)
    for entry in found:
        if entry.problem is not None:
            print(f"{entry.path}: {entry.problem} at byte {entry.problem_at}")
        for line in entry.details:
            print(f"  {line}")
    counts = ", ".join(
        f"{sum(e.verdict == verdict for e in found)} {verdict}" for verdict in ("sound", "torn tail", "damaged")
    )
    print(f"{sum(entry.rows for entry in found):,} sound rows in {len(found)} segments: {counts}.")
    if any(entry.verdict == "damaged" for entry in found):
        print("Next: spymaster recover, which keeps the bytes and what reads of them")


@failing_with(COULD_NOT_RUN)
def wal_export(
    segment: Annotated[Path, typer.Argument(help="A file of the log or of its quarantine.")],
    target: Annotated[Path, typer.Option("--out", help="The new Arrow file; one that exists is refused.")],
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Write a segment's rows, up to the first damage, as an Arrow IPC file for pyarrow, polars or DuckDB.

    Exit 0 exported, 1 exported and acknowledged rows had to be left out, 2 nothing was written.

    Example: spymaster wal export wal/futures_trades_ES.arrow --out trades.arrow
    """
    from spymaster.wal import audit

    done = audit.export(segment, target)
    if as_json:
        print_json({**vars(done), "out": str(target), "audit": _audit_document(done.audit)})
    else:
        print(f"{target}: {done.rows:,} rows of {done.audit.stream}, {done.size_bytes:,} bytes.")
        if done.left_out_bytes:
            print(f"Left out: {done.left_out_bytes:,} bytes. {done.audit.problem or 'Appended meanwhile'}")
        for line in done.audit.details:
            print(f"  {line}")
    return FINDINGS if done.audit.verdict == "damaged" else OK
