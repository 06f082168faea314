"""Massive (formerly Polygon.io): what its fields become. Pure.

The vendor sends one market in three forms: websocket frames (`frames`) with short keys and times in
milliseconds, REST pages (`pages`) and day files (`day_files`) with long names and nanoseconds. They share
these tables, and the rules by which `values` reads what stands in a field.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from spymaster.events import (
    OPTIONS_GREEKS_SNAPSHOTS,
    OPTIONS_QUOTES,
    OPTIONS_TRADES,
    REFERENCE_INSTRUMENTS,
    STOCKS_QUOTES,
    STOCKS_TRADES,
    EventSchema,
)

VERSION: Final = 1  # of what all three make of the same bytes, as they share tables and readers


class Field(NamedTuple):
    """What becomes of one field of the vendor's: our column, and how its value is read."""

    column: str
    unit: str


class Channel(NamedTuple):
    """One kind of event of the vendor's, by the names of its fields."""

    schema: EventSchema
    fields: Mapping[str, Field]


_TIME: Final = {"t": Field("ts_event_ns", "ms"), "q": Field("seq", "whole")}
_PARTICIPANT: Final = {"pt": Field("participant_ts_ns", "ms")}
# Websocket events by cluster and `ev`, their fields in the vendor's order, in which they decode fastest.
FRAMES: Final = {
    "stocks": {
        "T": Channel(
            STOCKS_TRADES,
            {
                "sym": Field("symbol", "ticker"),
                "x": Field("exchange", "whole"),
                "i": Field("trade_id", "text"),
                "z": Field("tape", "whole"),
                "p": Field("price", "price"),
                "s": Field("size", "size"),
                "c": Field("conditions", "codes"),
                **_TIME,
                "trfi": Field("trf_id", "whole"),
                "trft": Field("trf_ts_ns", "ms"),
                **_PARTICIPANT,
                "ds": Field("size_decimal", "text"),
            },
        ),
        "Q": Channel(
            STOCKS_QUOTES,
            {
                "sym": Field("symbol", "ticker"),
                "bx": Field("bid_exch", "whole"),
                "bp": Field("bid_px", "price"),
                "bs": Field("bid_sz", "size"),
                "ax": Field("ask_exch", "whole"),
                "ap": Field("ask_px", "price"),
                "as": Field("ask_sz", "size"),
                "c": Field("conditions", "code"),
                "i": Field("indicators", "codes"),
                **_TIME,
                "z": Field("tape", "whole"),
                **_PARTICIPANT,
                "trft": Field("trf_ts_ns", "ms"),
            },
        ),
    },
    "options": {
        "T": Channel(
            OPTIONS_TRADES,
            {
                "sym": Field("option_symbol", "option"),
                "x": Field("exchange", "whole"),
                "p": Field("price", "price"),
                "s": Field("size", "size"),
                "c": Field("conditions", "codes"),
                **_TIME,
                **_PARTICIPANT,
            },
        ),
        "Q": Channel(
            OPTIONS_QUOTES,
            {
                "sym": Field("option_symbol", "option"),
                "bx": Field("bid_exch", "whole"),
                "ax": Field("ask_exch", "whole"),
                "bp": Field("bid_px", "price"),
                "ap": Field("ask_px", "price"),
                "bs": Field("bid_sz", "size"),
                "as": Field("ask_sz", "size"),
                **_TIME,
            },
        ),
    },
}

_SIP_RECORD: Final = {
    "sip_timestamp": Field("ts_event_ns", "ns"),
    "sequence_number": Field("seq", "whole"),
}
_RECORD: Final = _SIP_RECORD | {
    "participant_timestamp": Field("participant_ts_ns", "ns"),
    "conditions": Field("conditions", "codes"),
}
_TRADE_RECORD: Final = _RECORD | {
    "price": Field("price", "price"),
    "size": Field("size", "size"),
    "exchange": Field("exchange", "whole"),
    "correction": Field("correction", "whole"),
}
_SIDES: Final = {
    "bid_exchange": Field("bid_exch", "whole"),
    "bid_price": Field("bid_px", "price"),
    "bid_size": Field("bid_sz", "size"),
    "ask_exchange": Field("ask_exch", "whole"),
    "ask_price": Field("ask_px", "price"),
    "ask_size": Field("ask_sz", "size"),
}
_TAPED_RECORD: Final = {"tape": Field("tape", "whole"), "trf_timestamp": Field("trf_ts_ns", "ns")}
# Trades and quotes of REST pages and, with a `ticker` in each, of day files.
RECORDS: Final = {
    STOCKS_TRADES.name: Channel(
        STOCKS_TRADES,
        _TRADE_RECORD
        | _TAPED_RECORD
        | {
            "ticker": Field("symbol", "ticker"),
            "id": Field("trade_id", "text"),
            "trf_id": Field("trf_id", "whole"),
            "decimal_size": Field("size_decimal", "text"),
        },
    ),
    STOCKS_QUOTES.name: Channel(
        STOCKS_QUOTES,
        _RECORD
        | _TAPED_RECORD
        | _SIDES
        | {"ticker": Field("symbol", "ticker"), "indicators": Field("indicators", "codes")},
    ),
    OPTIONS_TRADES.name: Channel(OPTIONS_TRADES, _TRADE_RECORD | {"ticker": Field("option_symbol", "option")}),
    OPTIONS_QUOTES.name: Channel(OPTIONS_QUOTES, _SIP_RECORD | _SIDES | {"ticker": Field("option_symbol", "option")}),
}
# An option of a chain snapshot, its nested objects flattened with dots.
SNAPSHOT: Final = Channel(
    OPTIONS_GREEKS_SNAPSHOTS,
    {
        "details.ticker": Field("option_symbol", "option"),
        "time": Field("ts_event_ns", "ns"),
        "greeks.delta": Field("delta", "price"),
        "greeks.gamma": Field("gamma", "price"),
        "greeks.theta": Field("theta", "price"),
        "greeks.vega": Field("vega", "price"),
        "implied_volatility": Field("implied_volatility", "price"),
        "open_interest": Field("open_interest", "size"),
        "id": Field("snapshot_id", "text"),
        "last_quote.bid": Field("bid", "price"),
        "last_quote.ask": Field("ask", "price"),
        "last_quote.bid_size": Field("bid_sz", "size"),
        "last_quote.ask_size": Field("ask_sz", "size"),
        "underlying_asset.price": Field("underlying_price", "price"),
        "underlying_asset.last_updated": Field("underlying_ts_ns", "ns"),
        "details.shares_per_contract": Field("shares_per_contract", "size"),
        "details.exercise_style": Field("exercise_style", "text"),
        "day.volume": Field("volume", "size"),
        "timeframe": Field("timeframe", "text"),
    },
)

# An option contract of the reference pages.
CONTRACT: Final = Channel(
    REFERENCE_INSTRUMENTS,
    {
        "ticker": Field("contract", "option"),
        "root": Field("symbol", "text"),
        "time": Field("ts_event_ns", "ns"),
        "record": Field("record", "text"),
        "class": Field("instrument_class", "text"),
        "cfi": Field("cfi", "text"),
        "primary_exchange": Field("exchange", "text"),
        "underlying_ticker": Field("underlying", "text"),
        "strike_price": Field("strike", "price"),
        "shares_per_contract": Field("unit_of_measure_qty", "price"),
    },
)
