"""Each capture's rows by their numbers: how many stand there, which are missing, and what explains that."""

from typing import Final, NamedTuple

import duckdb

from spymaster import events
from spymaster.proof.verdict import Proof, Verdict

_NOT_ACKNOWLEDGED: Final = "not_acknowledged"

# One row for each capture and stream: what stands in log and lake, beside what its begin and end rows say.
_AUDIT: Final = """
create view streams as
  select capture_id, schema, symbol, any_value(origin) as origin, bool_or(event <> 'before') as begun,
         max(rows) filter (event = 'end' and complete) as whole,
         max(rows) filter (event in ('end', 'before')) as at_least
  from declared group by all;
create view placed as
  select k.capture_id, k.schema, coalesce(own.symbol, wild.symbol, k.partition_value) as symbol, k.capture_seq
  from keys k
  left join streams own
    on own.capture_id = k.capture_id and own.schema = k.schema and own.symbol = k.partition_value
  left join streams wild on wild.capture_id = k.capture_id and wild.schema = k.schema and wild.symbol = 'ALL';
create view held as  -- grouped twice, because a distinct count does not go to temporary files
  select capture_id, schema, symbol, sum(times)::bigint as rows, count(*) as numbers, max(capture_seq) as last
  from (select capture_id, schema, symbol, capture_seq, count(*) as times from placed group by all)
  group by all;
create view audit as
  select capture_id, schema, symbol, coalesce(h.rows, 0) as rows, coalesce(h.numbers, 0) as numbers,
         coalesce(h.last, -1) as last, coalesce(s.begun, false) as begun, s.whole, s.at_least, s.origin
  from held h full join streams s using (capture_id, schema, symbol)
  where h.rows > 0 or s.at_least > 0;
"""


def audit_captures(connection: duckdb.DuckDBPyConnection, verdict: Verdict, wanted: set[int] | None) -> None:
    connection.execute(_AUDIT)
    _note_given_up(connection, verdict, wanted)
    audited = connection.execute("select * from audit order by all").fetchall()
    for capture_id, schema, symbol, rows, numbers, last, begun, whole, at_least, origin in audited:
        if wanted is not None and capture_id not in wanted:
            continue
        name = f"capture {capture_id} ({origin or 'no begin row'}), {schema}/{symbol}"
        verdict.rows += rows
        if not begun and events.SCHEMAS[schema].kind == "market":
            verdict.findings.append(f"{name}: {rows} rows of a capture that no begin row announces")
        if rows != numbers:
            verdict.findings.append(f"{name}: {rows - numbers} rows stand twice")
        expected = whole if whole is not None else at_least
        if expected is not None and last + 1 < expected:
            verdict.findings.append(f"{name}: its last {expected - last - 1} rows are missing")
        if whole is not None and last + 1 > whole:
            verdict.findings.append(f"{name}: {last + 1 - whole} rows more than its end row counts")
        holes = _holes(connection, capture_id, schema, symbol) if numbers != last + 1 else []
        excused = [hole.cause == _NOT_ACKNOWLEDGED for hole in holes]
        unexplained = sum(hole.last - hole.first + 1 for hole in holes if hole.cause is None)
        if unexplained:
            verdict.findings.append(f"{name}: {unexplained} rows are missing below row {last}")
        for hole in holes:
            line = f"rows {hole.first} to {hole.last} are missing"
            if hole.cause == _NOT_ACKNOWLEDGED:
                verdict.notes.append(f"{name}: {line}; a power cut took them before they were acknowledged")
            elif hole.cause is not None:
                verdict.findings.append(f"{name}: known gap: {line} ({hole.cause})")
        if all(excused) and (expected is None or expected <= last + 1):
            proven = holes[0].first if holes else numbers
            verdict.proofs.append(Proof(capture_id, f"{schema}/{symbol}", proven, whole is not None and not holes))


def _note_given_up(connection: duckdb.DuckDBPyConnection, verdict: Verdict, wanted: set[int] | None) -> None:
    """Name the rows that were delivered and never recorded: no hole in the numbers shows them."""
    for capture_id, detail in connection.execute("select distinct * from given_up order by all").fetchall():
        if wanted is None or capture_id in wanted:
            verdict.notes.append(f"capture {capture_id}: known gap: {detail}")


class _Hole(NamedTuple):
    """Missing rows `first` to `last`, and the cause that gap rows give for all of them, if they do."""

    first: int
    last: int
    cause: str | None


def _holes(connection: duckdb.DuckDBPyConnection, capture_id: int, schema: str, symbol: str) -> list[_Hole]:
    stream = [capture_id, schema, symbol]
    gaps = connection.execute(
        "select first, last, cause from gaps where capture_id = ? and schema = ? and symbol = ? order by all", stream
    ).fetchall()
    missing = connection.execute(
        "select before + 1, capture_seq - 1 from ("
        "select capture_seq, lag(capture_seq, 1, -1) over (order by capture_seq) as before from placed "
        "where capture_id = ? and schema = ? and symbol = ?) where capture_seq > before + 1 order by all",
        stream,
    ).fetchall()
    return [_Hole(first, last, _cause(first, last, gaps)) for first, last in missing]


def _cause(first: int, last: int, gaps: list[tuple[int, int, str]]) -> str | None:
    """Return the cause of gaps, ordered by their first rows, that together cover a hole; None if they do not."""
    reached, causes = first, set()
    for gap_first, gap_last, cause in gaps:
        if gap_first <= reached <= gap_last:
            reached = gap_last + 1
            causes.add(cause)
    if reached <= last:
        return None
    return ", ".join(sorted(causes))
