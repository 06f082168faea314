"""Proves, or refutes, that what was recorded is all there: log, Bronze, catalog and Silver against each other.

Gold is audited by itself (`proof/gold.py`).

A capture is proven whole when its rows carry `capture_seq` 0 to n-1, each once, and its end row says n. Without an
end row, as after a crash, it is proven to the row before the first that is missing. It is always audited whole,
whatever dates it touches. Each segment, and each part made of one, names the last rows of the segment before it, so a
tail, a segment or a whole capture that vanished is missed even where no end row counts it. Reads only; takes no lock.

A daemon may record meanwhile, so the order of reading is the proof: end rows before the rows they count, the log
before the lake that its rows move to, the catalog and the archive's manifests before the parts they list, Bronze twice,
so that what comes meanwhile is not missed before what is seen, and begin rows, which come before the rows they
announce, last.
"""

from collections.abc import Callable
from pathlib import Path

from spymaster import paths
from spymaster.errors import UsageError
from spymaster.lake import catalog, lake_id
from spymaster.lake.layout import Tier
from spymaster.proof import captures, evidence, files, gold, silver
from spymaster.proof.spill import spilling
from spymaster.proof.verdict import Verdict


def verify(
    wal_root: Path, data_root: Path, date: str | None = None, progress: Callable[[int, int], None] | None = None
) -> Verdict:
    """Audit log and lake; with `date`, only its Silver and Gold, and captures with rows of that UTC date, these whole.

    Raises:
        UsageError: there is neither log nor lake, or `date` is not a calendar date.
        LayoutError: the lake is laid out otherwise, a later version wrote it, or the log is another lake's.
        OSError: a file cannot be read, and the medium is not why: what that keeps back is a finding.
        duckdb.OutOfMemoryException: neither memory nor the disk for temporary files is enough.
    """
    if date is not None:
        paths.check_date(date)
    lake_id.require_own_log(wal_root, data_root)
    compacted, signals = silver.list_files(data_root, date), gold.list_files(data_root, date)
    in_lake = Tier.BRONZE.of(data_root).is_dir() or (data_root / catalog.FILE_NAME).exists()
    recorded = in_lake or bool(evidence.segments(wal_root))
    if not recorded and not compacted and not signals:
        raise UsageError(
            f"there is no lake at {data_root} and no log at {wal_root}. Nothing was read. "
            f"Next: check DATA_ROOT and WAL_ROOT; spymaster config show"
        )
    verdict = Verdict()
    with spilling() as connection:
        evidence.create_tables(connection)
        evidence.load_system(connection, wal_root, data_root, "end")
        evidence.load_log(connection, wal_root, verdict)
        indexed = files.read_catalog(data_root, verdict)
        archived = files.audit_archive(data_root, verdict)
        found, later = files.list_twice(data_root)
        files.report_foreign(found, verdict)
        parts = found.parts
        known = archived | indexed
        absent = {relative: file for relative, file in known.items() if relative not in parts}
        wanted = None  # all captures
        if date is not None:
            parts, absent, wanted = evidence.keep_captures_of(connection, date, data_root, parts, absent, known)
        files.report_absent(absent, archived, verdict)
        files.audit_quarantine(wal_root, data_root, verdict)
        todo = len(parts) + len(compacted) + len(signals)
        spoiled = absent.keys() | parts.keys()
        parts = files.audit_files(data_root, parts, indexed, archived, verdict, progress, todo)
        spoiled -= parts.keys()
        known_to = evidence.declare_parts(connection, data_root, parts)
        evidence.load_bronze_keys(connection, data_root, parts)
        evidence.load_later_keys(connection, data_root, later, known_to)
        evidence.add_log_keys(connection)
        evidence.load_system(connection, wal_root, data_root, "begin")
        captures.audit_captures(connection, verdict, wanted)
    verdict.silver = silver.audit_silver(
        data_root, compacted, spoiled, lambda done: progress and progress(verdict.files + done, todo)
    )
    before = verdict.files + len(compacted)
    verdict.gold = gold.audit_gold(data_root, signals, lambda done: progress and progress(before + done, todo))
    verdict.findings += [*verdict.silver.findings, *verdict.gold.findings]
    verdict.notes += verdict.silver.notes
    return verdict
