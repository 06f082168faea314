"""What log and lake have of before: candles, gaps, how often levels of a kind held.

One thread asks, one question after another, with the lowest priority where the system has one for a thread, so that
the recorder goes first. A question has `TIME_S`, after which DuckDB is interrupted; at most `MOST_WAITING` wait, and
one more is refused. An answer has at most `MOST_ROWS` rows.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from spymaster.clock import NS_PER_SECOND, utc_text
from spymaster.engines.profile import Profile
from spymaster.errors import UsageError
from spymaster.events import FUTURES_TRADES, STOCKS_TRADES
from spymaster.lake.layout import Within
from spymaster.query.lake import Lake
from spymaster.signals.datasets.report import wilson

TIME_S: Final = 10.0
MOST_WAITING: Final = 4
MOST_ROWS: Final = 3_000
MOST_ALERTS: Final = 200
STEPS_S: Final = (1, 5, 15, 60, 300, 900, 3_600)
MOST_SPAN_S: Final = 7 * 86_400  # of candles: an hour of a busy open is 100 MB of trades
LEAST_TOUCHES: Final = 20  # of a kind; fewer say too little for a share
_NICE: Final = 10
_Answer = TypeVar("_Answer")


class BusyError(UsageError):
    """Too many questions wait. Nothing was read."""


class TooLongError(UsageError):
    """The answer took too long. Nothing was changed."""


class History:
    """Asks log and lake, in a thread of its own."""

    def __init__(self, data_root: Path, wal_root: Path) -> None:
        """Open nothing yet.

        Args:
            data_root: the lake.
            wal_root: its log.
        """
        self._data_root, self._wal_root = data_root, wal_root
        self._thread = ThreadPoolExecutor(1, "history", initializer=_step_back)
        self._lake: Lake | None = None
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Questions that wait, or are being answered."""
        return self._waiting

    async def ask(self, read: Callable[[Lake], _Answer]) -> _Answer:
        """Return an answer.

        Args:
            read: called in the thread.

        Raises:
            BusyError: too many wait.
            TooLongError: it took too long.
            SpymasterError: log or lake cannot be read.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError(
                f"{MOST_WAITING} questions about history are being answered. Nothing was read. Next: ask again in some "
                f"seconds"
            )
        self._waiting += 1
        answer = asyncio.get_running_loop().run_in_executor(self._thread, self._read, read)
        answer.add_done_callback(self._answered)
        try:
            return await asyncio.wait_for(asyncio.shield(answer), TIME_S * (MOST_WAITING + 1))
        except TimeoutError:
            raise _too_long() from None

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not answer.cancelled():
            answer.exception()  # whoever asked may have gone

    def _read(self, read: Callable[[Lake], _Answer]) -> _Answer:
        if self._lake is None:
            self._lake = Lake(self._data_root, self._wal_root)
            self._lake.execute("set threads = 1")
            self._lake.execute("set memory_limit = '512MB'")
        timer = threading.Timer(TIME_S, self._lake.connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            return read(self._lake)
        except duckdb.InterruptException:
            raise _too_long() from None
        except duckdb.OutOfMemoryException:
            raise UsageError(
                "it needs more memory than there is for it. Nothing was kept. Next: ask for less"
            ) from None
        finally:
            timer.cancel()

    def close(self) -> None:
        """Answer no more."""
        lake = self._lake
        if lake is not None:
            with suppress(duckdb.Error):
                lake.connection.interrupt()
            self._thread.submit(lake.close)
        self._thread.shutdown(wait=False, cancel_futures=False)


def _too_long() -> TooLongError:
    return TooLongError(
        f"it took longer than {TIME_S:.0f} s. Nothing was kept. Next: ask for less, or use spymaster sql"
    )


def _step_back() -> None:
    """Let the recorder go first. On Linux a thread has a priority of its own, which those that it starts have too."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def candles(
    profile: Profile, contract: str | None, step_s: int, from_ns: int, to_ns: int
) -> Callable[[Lake], list[list[Any]]]:
    """Return what reads candles: [second, open, high, low, close, volume, bought, sold], oldest first.

    Args:
        profile: whose market.
        contract: of the future; None is any of its root, of which there is one in most recordings.
        step_s: of `STEPS_S`.
        from_ns: the first event time.
        to_ns: the last, exclusive.
    """
    is_stock = profile.book.ratio_s is not None
    schema = STOCKS_TRADES if is_stock else FUTURES_TRADES
    symbol = profile.market.underlying if is_stock else profile.book.symbol
    within = Within(symbol, utc_text(from_ns)[:13], utc_text(max(to_ns - 1, from_ns))[:13])
    step_ns = step_s * NS_PER_SECOND
    stamp, price = duckdb.ColumnExpression("ts_event_ns"), duckdb.ColumnExpression("price")
    begin, end = duckdb.ConstantExpression(from_ns), duckdb.ConstantExpression(to_ns)
    mine = (stamp >= begin) & (stamp < end) & price.isnotnull()
    if contract is not None and not is_stock:
        mine &= duckdb.ColumnExpression("contract") == duckdb.ConstantExpression(contract)
    order = "order by ts_event_ns, ts_recv_ns, capture_id, capture_seq"
    sums = (
        f"ts_event_ns // {step_ns} * {step_s} as second, first(price {order}), max(price), min(price), "
        f"last(price {order}), sum(size), sum(size) filter (aggressor > 0), sum(size) filter (aggressor < 0)"
    )

    def read(lake: Lake) -> list[list[Any]]:
        def found() -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = (
                lake.table(schema, within).filter(mine).aggregate(sums).order("second").limit(MOST_ROWS).fetchall()
            )
            return rows

        return [
            [int(second), *prices, *(int(each or 0) for each in counts)]
            for second, *rest in lake.retry(found)
            for prices, counts in [(rest[:4], rest[4:])]
        ]

    return read


def gaps(from_ns: int, to_ns: int) -> Callable[[Lake], list[dict[str, Any]]]:
    """Return what reads the gaps that touch a span, newest first, as `Watch.desk` has them.

    Args:
        from_ns: the span's begin.
        to_ns: its end, exclusive.
    """
    query = (
        "select gap_id::varchar as gap_id, of_schema || '/' || of_symbol as stream, cause, start_ns, end_ns, rows, "
        "detail, 'open' as state from system_gaps "
        "where coalesce(start_ns, end_ns, ts_event_ns) < ? and coalesce(end_ns, start_ns + 1, ts_event_ns + 1) > ? "
        "qualify row_number() over (partition by gap_id order by ts_recv_ns desc, capture_seq desc) = 1 "
        "order by coalesce(start_ns, end_ns, ts_event_ns) desc limit ?"
    )

    def read(lake: Lake) -> list[dict[str, Any]]:
        return _documents(lake.execute(query, [to_ns, from_ns, MOST_ROWS]))

    return read


def alerts(before_ns: int) -> Callable[[Lake], list[dict[str, Any]]]:
    """Return what reads the newest alerts recorded before a time, newest first.

    Args:
        before_ns: our clock, when they were given.
    """
    query = (
        "select alert_id::varchar as alert_id, ts_event_ns, ts_recv_ns as at_ns, kind, state, subject, text, "
        "level_price, signal, value from system_alerts where ts_recv_ns < ? "
        "order by ts_recv_ns desc, capture_seq desc limit ?"
    )

    def read(lake: Lake) -> list[dict[str, Any]]:
        return _documents(lake.execute(query, [before_ns, MOST_ALERTS]))

    return read


def _documents(answer: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def held(profile: Profile) -> Callable[[Lake], dict[str, dict[str, Any]]]:
    """Return what reads how often levels of each kind held, of the touches in the lake's data sets.

    Args:
        profile: whose touches.
    """
    query = (
        "select kind, count(*) filter (outcome = 'REJECT'), count(*) filter (outcome = 'BREAK'), "
        "count(*) filter (outcome = 'NEITHER') "
        "from (select unnest(list_distinct(kinds)) as kind, outcome from touches "
        "where underlying = ? and profile = ? and data_whole and outcome in ('REJECT', 'BREAK', 'NEITHER')) "
        "group by kind order by kind"
    )

    def read(lake: Lake) -> dict[str, dict[str, Any]]:
        rows = lake.execute(query, [profile.market.underlying, profile.name]).fetchall()
        return {kind: hold_rate(*counts) for kind, *counts in rows}

    return read


def hold_rate(kept: int, broke: int, neither: int) -> dict[str, Any]:
    """Return how often levels held, with the interval of Wilson's score at 95 %.

    Args:
        kept: touches that held.
        broke: that broke.
        neither: that did neither in the horizon; they count in `n`, and for neither side.
    """
    n = kept + broke + neither
    found: dict[str, Any] = {"held": kept, "broke": broke, "neither": neither, "n": n}
    if n < LEAST_TOUCHES:
        return found
    share = wilson(kept, n)
    return {**found, "low": round(share.low, 3), "high": round(share.high, 3)}
