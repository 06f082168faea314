"""The vocabulary: one Arrow schema per event type, its partition key, its identity columns, its units."""

from typing import Final

from spymaster.errors import UsageError
from spymaster.events.market import (
    BOOK_LEVELS,
    FUTURES_MBP10,
    FUTURES_TRADES,
    OPTIONS_GREEKS_SNAPSHOTS,
    OPTIONS_QUOTES,
    OPTIONS_TRADES,
    REFERENCE_INSTRUMENTS,
    REFERENCE_STATISTICS,
    REFERENCE_STATUS,
    STOCKS_QUOTES,
    STOCKS_TRADES,
)
from spymaster.events.schema import EventSchema, Stream
from spymaster.events.system import (
    SYSTEM_ALERTS,
    SYSTEM_CAPTURES,
    SYSTEM_GAPS,
    SYSTEM_SNAPS,
    SYSTEM_SYMBOL,
    SYSTEM_ZONES,
)

SCHEMAS: Final = {
    schema.name: schema
    for schema in (
        STOCKS_TRADES,
        STOCKS_QUOTES,
        FUTURES_TRADES,
        FUTURES_MBP10,
        OPTIONS_TRADES,
        OPTIONS_QUOTES,
        OPTIONS_GREEKS_SNAPSHOTS,
        REFERENCE_INSTRUMENTS,
        REFERENCE_STATISTICS,
        REFERENCE_STATUS,
        SYSTEM_CAPTURES,
        SYSTEM_GAPS,
        SYSTEM_SNAPS,
        SYSTEM_ZONES,
        SYSTEM_ALERTS,
    )
}

MARKET_SCHEMAS: Final = tuple(schema for schema in SCHEMAS.values() if schema.kind == "market")

# The names under which the seed documents know the Arrow schemas.
StockTradeV1: Final = STOCKS_TRADES.log
StockQuoteV1: Final = STOCKS_QUOTES.log
FuturesTradeV1: Final = FUTURES_TRADES.log
MBP10V1: Final = FUTURES_MBP10.log
OptionTradeV1: Final = OPTIONS_TRADES.log
OptionQuoteV1: Final = OPTIONS_QUOTES.log
GreeksSnapshotV1: Final = OPTIONS_GREEKS_SNAPSHOTS.log

_ALIASES: Final = {"options.greeks": "options.greeks_snapshots"}


def schema_named(name: str) -> EventSchema:
    """Return the schema of that name, with or without its version: `futures.trades` or `futures.trades.v1`.

    Raises:
        UsageError: there is none.
    """
    plain = name
    for schema in SCHEMAS.values():
        plain = plain.removesuffix(f".v{schema.version}")
    plain = _ALIASES.get(plain, plain)
    if plain not in SCHEMAS:
        raise UsageError(f"there is no schema {name!r}. Nothing was done. Next: use one of {', '.join(SCHEMAS)}")
    return SCHEMAS[plain]


__all__ = [
    "BOOK_LEVELS",
    "FUTURES_MBP10",
    "FUTURES_TRADES",
    "MARKET_SCHEMAS",
    "MBP10V1",
    "OPTIONS_GREEKS_SNAPSHOTS",
    "OPTIONS_QUOTES",
    "OPTIONS_TRADES",
    "REFERENCE_INSTRUMENTS",
    "REFERENCE_STATISTICS",
    "REFERENCE_STATUS",
    "SCHEMAS",
    "STOCKS_QUOTES",
    "STOCKS_TRADES",
    "SYSTEM_ALERTS",
    "SYSTEM_CAPTURES",
    "SYSTEM_GAPS",
    "SYSTEM_SNAPS",
    "SYSTEM_SYMBOL",
    "SYSTEM_ZONES",
    "EventSchema",
    "FuturesTradeV1",
    "GreeksSnapshotV1",
    "OptionQuoteV1",
    "OptionTradeV1",
    "StockQuoteV1",
    "StockTradeV1",
    "Stream",
    "schema_named",
]
