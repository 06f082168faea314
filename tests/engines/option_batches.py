"""Rows of options by hand, as they stand in the log: what is not said is null."""

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from spymaster.engines.board import Spots
from spymaster.engines.ledger import SNAP_NS
from spymaster.events import (
    OPTIONS_GREEKS_SNAPSHOTS,
    OPTIONS_QUOTES,
    OPTIONS_TRADES,
    REFERENCE_INSTRUMENTS,
    REFERENCE_STATISTICS,
)

S = 1_000_000_000
NOON = 1_764_694_800 * S  # 2025-12-02 17:00 UTC
TODAY = date(2025, 12, 2)
CALL, PUT = "E1BZ5 C6900", "E1BZ5 P6900"


DAYS = {"E1BZ5": TODAY, "E2BZ5": date(2025, 12, 9), "ESZ5": date(2025, 12, 19)}


def terms(symbol: str) -> dict[str, Any]:
    """Return what a symbol of CME says, and the day it expires on."""
    day = DAYS.get(symbol.split(maxsplit=1)[0])
    right, strike = symbol.split()[1][0], float(symbol.split()[1][1:])
    return {"option_symbol": symbol, "contract": symbol, "right": right, "strike": strike, "exp_date": day}


def batch(schema: Any, rows: list[dict[str, Any]], first: int = 0) -> pa.RecordBatch:
    """Return rows as a batch; each has the times and keys that it does not say itself."""
    usual = [{"ts_event_ns": NOON, "capture_id": 7, "capture_seq": first + number} for number in range(len(rows))]
    return pa.RecordBatch.from_pylist([one | row for one, row in zip(usual, rows, strict=True)], schema=schema.log)


def trade(after_ms: float, symbol: str, price: float | None, size: int = 1, **more: Any) -> dict[str, Any]:
    at = NOON + round(after_ms * 1_000_000)
    return {"ts_event_ns": at, **terms(symbol), "price": price, "size": size, "aggressor": 0} | more


def quote(after_ms: float, symbol: str, bid: float | None, ask: float | None) -> dict[str, Any]:
    return {"ts_event_ns": NOON + round(after_ms * 1_000_000), **terms(symbol), "bid_px": bid, "ask_px": ask}


def statistic(symbol: str, kind: str, **more: Any) -> dict[str, Any]:
    return {**terms(symbol), "kind": kind, "update_code": 1} | more


def definition(symbol: str, expiration_ns: int, **more: Any) -> dict[str, Any]:
    one = terms(symbol)
    return {
        "contract": symbol, "strike": one["strike"], "instrument_class": one["right"], "expiration_ns": expiration_ns,
        "unit_of_measure_qty": 50.0, "underlying": "ESZ5",
    } | more  # fmt: skip


def greeks(symbol: str, after_ms: float = 0, **more: Any) -> dict[str, Any]:
    return {"ts_event_ns": NOON + round(after_ms * 1_000_000), **terms(symbol)} | more


SCHEMAS = {
    "trades": OPTIONS_TRADES,
    "quotes": OPTIONS_QUOTES,
    "greeks": OPTIONS_GREEKS_SNAPSHOTS,
    "definitions": REFERENCE_INSTRUMENTS,
    "statistics": REFERENCE_STATISTICS,
}


def batches(**rows: list[dict[str, Any]]) -> dict[str, list[pa.RecordBatch]]:
    """Return batches by schema, of `trades`, `quotes`, `greeks`, `definitions`, `statistics`."""
    return {SCHEMAS[name].name: [batch(SCHEMAS[name], some)] for name, some in rows.items()}


def spots(*told: tuple[float, float], included: bool = True) -> Spots:
    """Return prices of the underlying after so many milliseconds."""
    after, price = (np.array(column) for column in zip(*told, strict=True)) if told else (np.empty(0), np.empty(0))
    return Spots(NOON + np.rint(after * 1_000_000).astype(np.int64), price.astype(np.float64), included)


def snap(number: int) -> int:
    """Return the time of a snap after noon."""
    return NOON + number * SNAP_NS
