"""Audits Silver against Bronze by another path than the compactor's: `silver_by_sql` says what a file has to hold.

The file's footer is read before the parts are listed, so that one that is not of these parts is *stale*: Bronze has
changed since. That is no loss as long as each of its rows is in Bronze, and this is what is audited then. A compactor
may replace a file while it is read, an archiver move a part; what was found then is dropped and the file read again.

The unproven repeats of a footer are not counted again: they depend on what other hours Bronze had at the time.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import events, paths
from spymaster.errors import LayoutError
from spymaster.lake import layout, silver
from spymaster.lake.layout import Tier, Token
from spymaster.paths import Partition
from spymaster.proof.silver_by_sql import Comparison, Difference, UnreadableError
from spymaster.proof.spill import spilling
from spymaster.proof.verdict import SilverVerdict

MAX_TRIES: Final = 10  # of a file that is replaced while it is read

Progress = Callable[[int], None]


def list_files(data_root: Path, date: str | None = None) -> dict[Path, Partition | None]:
    """Return the files of Silver, those of one UTC date if it is given; None for one that lies where none belongs."""
    files = {layout.path(data_root, Tier.SILVER, key): own for key, own in layout.silver_files(data_root).items()}
    return {path: own for path, own in files.items() if date is None or (own is not None and own.date == date)}


def audit_silver(
    data_root: Path, files: dict[Path, Partition | None], spoiled: Collection[str], progress: Progress
) -> SilverVerdict:
    """Compare files of Silver with their Bronze.

    Args:
        data_root: the lake.
        files: as `list_files` gave them.
        spoiled: parts that are gone or damaged, by their paths below `bronze/`.
        progress: called with the number of files done.

    Raises:
        duckdb.OutOfMemoryException: neither memory nor the disk for temporary files is enough.
    """
    verdict = SilverVerdict()
    harmed = {paths.parse_part(relative) for relative in spoiled}
    with spilling() as connection:
        connection.execute("set enable_external_file_cache = false")  # a name of Silver gets other files
        connection.execute("set asof_loop_join_threshold = 0")
        for number, (file, partition) in enumerate(files.items(), 1):
            _audit_until_still(_Audit(connection, data_root, file, partition, partition in harmed), verdict)
            progress(number)
    return verdict


def _audit_until_still(audit: "_Audit", verdict: SilverVerdict) -> None:
    for _ in range(MAX_TRIES):
        before = _state(audit.file)
        if before is None:
            return  # it was there a moment ago; without Silver nothing is wrong
        try:
            found = audit.run()
        except duckdb.IOException:
            if _is_still(audit, before):
                raise
            continue
        if _is_still(audit, before):
            verdict.findings += found.findings
            verdict.notes += found.notes
            verdict.audited += found.audited
            verdict.stale += found.stale
            verdict.rows_in += found.rows_in
            verdict.rows += found.rows
            return
    verdict.notes.append(f"{audit.place} was replaced each time that it was read. Next: spymaster verify")


def _is_still(audit: "_Audit", before: Token) -> bool:
    """Whether a file and the parts that it was compared with are where they were."""
    return _state(audit.file) == before and all(part.exists() for part in audit.parts)


def _state(file: Path) -> Token | None:
    try:
        return layout.token(file)
    except FileNotFoundError:
        return None


class _Audit:
    """The audit of one file.

    Attributes:
        file: of Silver.
        place: its path in the lake.
        parts: of Bronze that it was last compared with.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        data_root: Path,
        file: Path,
        partition: Partition | None,
        harmed: bool,
    ) -> None:
        self._connection, self._data_root, self._partition, self._harmed = connection, data_root, partition, harmed
        self.file, self.place = file, file.relative_to(data_root).as_posix()
        self.parts: list[Path] = []

    def run(self) -> SilverVerdict:
        """Audit the file as it is now."""
        if self._partition is None:
            return self._finding("lies where no Silver belongs, and was not read. Next: move it away")
        try:
            footer, illegible = silver.read_footer(self.file), None
        except LayoutError as error:
            footer, illegible = None, str(error)
        try:
            self.parts = silver.bronze_parts(self._data_root, self._partition)
        except LayoutError:
            self._harmed = True
        if self._harmed:
            return SilverVerdict(
                notes=[
                    f"{self.place} was not compared: parts of its Bronze are gone or damaged, and it may be all that "
                    f"is left of their rows. Next: keep it, and do not compact before these parts are back"
                ]
            )
        if not self.parts:
            return self._finding(
                "is all that is left of its rows: Bronze is gone. Next: keep it, and bring Bronze back from a backup"
            )
        if footer is None:  # or removed since
            return SilverVerdict(findings=[illegible] if illegible else [])
        try:
            _require_sound_pages(self.file)
            return self._compare(self._partition, footer)
        except UnreadableError as error:
            return self._wrong([f"it does not read ({error})"])

    def _finding(self, what: str, audited: int = 0) -> SilverVerdict:
        return SilverVerdict(findings=[f"{self.place} {what}"], audited=audited)

    def _stale(self, what: str, audited: int = 0) -> SilverVerdict:
        return SilverVerdict(notes=[f"{self.place} {what}. Next: spymaster compact"], audited=audited, stale=1)

    def _wrong(self, problems: list[str]) -> SilverVerdict:
        return self._finding(
            f"is not what its Bronze gives: {'; '.join(problems)}. Bronze has all of its events. "
            f"Next: move that file away, then spymaster compact --all",
            audited=1,
        )

    def _compare(self, partition: Partition, footer: silver.Footer) -> SilverVerdict:
        schema = events.SCHEMAS[partition.schema]
        comparison = Comparison(self._connection, schema, self.parts, self.file)
        if foreign := comparison.foreign_columns():
            return self._wrong([f"it has columns that no Silver has ({', '.join(foreign)})"])
        if footer.parts != silver.inputs_digest(schema, self.parts):
            if unknown := comparison.unknown_rows():
                return self._finding(
                    f"has {unknown:,} rows that Bronze has not, and was made of other parts than are there now. It may "
                    f"be all that is left of them. Next: keep a copy of it before the next spymaster compact"
                )
            return self._stale("was not compacted since its Bronze changed, which has each of its rows")
        known = schema is not events.OPTIONS_TRADES or footer.inputs == comparison.load_greeks(
            self._data_root, partition, footer.tolerance_ns
        )
        difference = comparison.run(enriched=known)
        problems = _problems(difference, footer.counts, comparison.rows_in, enriched=known)
        if problems:
            return self._wrong(problems)
        if not known:
            return self._stale("took greeks that have changed since, and all else is as its Bronze gives", audited=1)
        return SilverVerdict(audited=1, rows_in=comparison.rows_in, rows=difference.rows)


def _require_sound_pages(file: Path) -> None:
    """Compare every page with its checksum. DuckDB does not, and some flipped bits change no value for it.

    Raises:
        UnreadableError: one differs.
    """
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            for _ in opened.iter_batches(use_threads=False):
                pass
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(" ".join(str(error).split())) from error


def _problems(found: Difference, said: silver.Counts, rows_in: int, *, enriched: bool) -> list[str]:
    """Return in words how a file differs, and where its footer counts otherwise than was counted now."""
    problems = []
    if found.missing:
        problems.append(f"{found.missing:,} rows are missing")
    if found.surplus:
        problems.append(f"{found.surplus:,} rows do not belong in it")
    if found.differing:
        problems.append(f"{found.differing:,} rows differ in {', '.join(sorted(found.columns))}")
    if found.first is not None:
        problems.append(f"first that of capture {found.first[0]}, row {found.first[1]}")
    if found.misplaced:
        problems.append(f"{found.misplaced:,} rows are not in their order")
    removed = rows_in - found.rows
    counted = silver.Counts(rows_in, found.rows, removed, found.repeats, said.unproven, found.enriched)
    for name, one, other in zip(silver.Counts._fields, said, counted, strict=True):
        if one != other and (enriched or name != "enriched"):
            problems.append(f"its footer says {name} {one:,} where it is {other:,}")
    if not 0 <= said.unproven <= removed:
        problems.append(f"its footer says {said.unproven:,} unproven of {removed:,} that were removed")
    return problems
