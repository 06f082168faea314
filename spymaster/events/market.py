"""The market's events: what a vendor says happened. Prices in the currency or in points, sizes in lots or shares.

`symbol` (or `underlying`) is the root that the partition is named after; the instrument itself is `contract`,
`option_symbol` or, for stocks, the symbol. `seq` is the venue's counter: records of one packet share it, and it
proves no gap.
"""

import pyarrow as pa

from spymaster.events.schema import event_schema, field, optional

BOOK_LEVELS = 10

_AGGRESSOR = field("aggressor", pa.int8(), "+1 a buyer lifted the ask, -1 a seller hit the bid, 0 not known")
_CONDITIONS = optional("conditions", pa.list_(pa.int16()), "the vendor's condition codes")
_SEQ = optional("seq", pa.int64(), "the venue's counter; shared by records of one packet")
_TAPE = optional("tape", pa.int16(), "1 NYSE, 2 NYSE American and regional, 3 Nasdaq")
_PARTICIPANT_TIME = optional("participant_ts_ns", pa.int64(), "the exchange's time, UTC nanoseconds")
_TRF_TIME = optional("trf_ts_ns", pa.int64(), "the reporting facility's time, UTC nanoseconds; 0 as sent for none")
_CORRECTION = optional("correction", pa.int16(), "the vendor's correction code; 0 is an original print")
_VENUE_KEYS = [
    optional("contract", pa.string(), "the venue's raw symbol, e.g. ESZ5; null where no mapping named it"),
    optional("instrument_id", pa.int64(), "the venue's key of the instrument, valid for its UTC day"),
    optional("publisher_id", pa.int32(), "the vendor's key of dataset and venue"),
]
_VENUE_FLAGS = [
    optional("flags", pa.int16(), "bits: 128 last of event, 64 top, 32 snapshot, 8 bad ts_recv, 4 maybe bad book"),
    optional("ts_in_delta_ns", pa.int32(), "nanoseconds from the venue's sending to ts_recv_ns"),
]

_OPTION_TERMS = [
    optional("exp_date", pa.date32(), "of an option: expiration date; null where neither symbol nor definition says"),
    optional("strike", pa.float64(), "of an option: strike price; null for spreads"),
    optional("right", pa.string(), "of an option: C or P; null for spreads"),
]
_OPTION = [
    optional("option_symbol", pa.string(), "the vendor's symbol of the option; null where no mapping named it"),
    optional("contract", pa.string(), "the venue's raw symbol, where the venue is Databento's"),
    optional("instrument_id", pa.int64(), "the vendor's key of the instrument, valid for its UTC day"),
    optional("publisher_id", pa.int32(), "the vendor's key of dataset and venue"),
    optional("exp_date", pa.date32(), "expiration date; null where neither symbol nor definition says"),
    optional("strike", pa.float64(), "strike price; null for spreads"),
    optional("right", pa.string(), "C or P; null for spreads"),
]


def _book_side(side: str) -> list[pa.Field]:
    return [
        column
        for level in range(1, BOOK_LEVELS + 1)
        for column in (
            optional(f"{side}_px_{level}", pa.float64(), f"{side} price at level {level}, best first; null if empty"),
            optional(f"{side}_sz_{level}", pa.int32(), f"{side} size at level {level}, contracts"),
            optional(f"{side}_ct_{level}", pa.int32(), f"{side} orders at level {level}"),
        )
    ]


FUTURES_TRADES = event_schema(
    "futures.trades",
    [
        field("symbol", pa.string(), "root, e.g. ES"),
        *_VENUE_KEYS,
        optional("price", pa.float64(), "index points; null where the venue says undefined"),
        optional("size", pa.int32(), "contracts"),
        _AGGRESSOR,
        optional("exchange", pa.string(), "the venue, where the vendor names it"),
        _CONDITIONS,
        *_VENUE_FLAGS,
        _SEQ,
    ],
    identity=("contract", "price", "size", "seq", "aggressor", "publisher_id"),
)

FUTURES_MBP10 = event_schema(
    "futures.mbp10",
    [
        field("symbol", pa.string(), "root, e.g. ES"),
        *_VENUE_KEYS,
        optional("action", pa.string(), "A add, C cancel, M modify, R clear, T trade, F fill, N none"),
        optional("side", pa.string(), "B bid or buyer, A ask or seller, N neither"),
        optional("depth", pa.int16(), "the level that changed, 0 best"),
        optional("price", pa.float64(), "the change's price, index points"),
        optional("size", pa.int32(), "the change's size, contracts"),
        *_VENUE_FLAGS,
        field("is_snapshot", pa.bool_(), "from a snapshot, so that ts_event_ns may be days old"),
        _SEQ,
        *_book_side("bid"),
        *_book_side("ask"),
    ],
    identity=(
        "contract", "price", "size", "seq", "publisher_id", "action", "side", "depth",
        *(column.name for column in [*_book_side("bid"), *_book_side("ask")]),
    ),
)  # fmt: skip

STOCKS_TRADES = event_schema(
    "stocks.trades",
    [
        field("symbol", pa.string(), "ticker, e.g. SPY"),
        optional("instrument_id", pa.int64(), "the vendor's key of the instrument, valid for its UTC day"),
        optional("publisher_id", pa.int32(), "the vendor's key of dataset and venue"),
        optional("price", pa.float64(), "dollars"),
        optional("size", pa.int32(), "shares; as the vendor rounds it, null where it is no whole number of 32 bits"),
        optional("aggressor", pa.int8(), "+1 buyer, -1 seller, 0 not known; null where the vendor never says"),
        optional("exchange", pa.int16(), "the vendor's exchange code"),
        _CONDITIONS,
        optional("flags", pa.int16(), "the vendor's flag bits"),
        optional("ts_in_delta_ns", pa.int32(), "nanoseconds from the venue's sending to ts_recv_ns"),
        _SEQ,
        optional("trade_id", pa.string(), "the vendor's id of the trade"),
        _TAPE,
        optional("trf_id", pa.int32(), "the trade reporting facility's id; 0 as sent where none took part"),
        _PARTICIPANT_TIME,
        _TRF_TIME,
        _CORRECTION,
        optional("size_decimal", pa.string(), "shares as the vendor's decimal text, where it sends or size needs one"),
    ],
    identity=("symbol", "price", "size", "seq", "aggressor", "exchange", "publisher_id", "trade_id"),
)

STOCKS_QUOTES = event_schema(
    "stocks.quotes",
    [
        field("symbol", pa.string(), "ticker, e.g. SPY"),
        optional("bid_px", pa.float64(), "best bid, dollars"),
        optional("bid_sz", pa.int32(), "shares at the best bid"),
        optional("ask_px", pa.float64(), "best ask, dollars"),
        optional("ask_sz", pa.int32(), "shares at the best ask"),
        optional("bid_exch", pa.int16(), "the vendor's exchange code of the bid"),
        optional("ask_exch", pa.int16(), "the vendor's exchange code of the ask"),
        _CONDITIONS,
        _SEQ,
        _TAPE,
        _PARTICIPANT_TIME,
        _TRF_TIME,
        optional("indicators", pa.list_(pa.int16()), "the vendor's indicator codes"),
    ],
    identity=("symbol", "bid_px", "bid_sz", "seq", "ask_px", "ask_sz", "bid_exch", "ask_exch"),
)

OPTIONS_TRADES = event_schema(
    "options.trades",
    [
        field("underlying", pa.string(), "root of what the option is written on, e.g. SPY or ES"),
        *_OPTION,
        optional("price", pa.float64(), "premium per unit"),
        optional("size", pa.int32(), "contracts"),
        optional("opt_bid", pa.float64(), "the option's best bid at the trade"),
        optional("opt_ask", pa.float64(), "the option's best ask at the trade"),
        _AGGRESSOR,
        optional("exchange", pa.int16(), "the vendor's exchange code"),
        _CONDITIONS,
        optional("flags", pa.int16(), "the vendor's flag bits"),
        optional("ts_in_delta_ns", pa.int32(), "nanoseconds from the venue's sending to ts_recv_ns"),
        _SEQ,
        _PARTICIPANT_TIME,
        _CORRECTION,
    ],
    partition_by="underlying",
    identity=("option_symbol", "price", "size", "seq", "aggressor", "exchange", "publisher_id"),
)

OPTIONS_QUOTES = event_schema(
    "options.quotes",
    [
        field("underlying", pa.string(), "root of what the option is written on, e.g. SPY or ES"),
        *_OPTION,
        optional("bid_px", pa.float64(), "best bid, premium per unit; null if there is none, or 0 as sent"),
        optional("bid_sz", pa.int32(), "contracts at the best bid"),
        optional("bid_ct", pa.int32(), "orders at the best bid"),
        optional("bid_exch", pa.int32(), "who bids: Massive's exchange code, or Databento's publisher; 0 as sent"),
        optional("ask_px", pa.float64(), "best ask, premium per unit; null if there is none, or 0 as sent"),
        optional("ask_sz", pa.int32(), "contracts at the best ask"),
        optional("ask_ct", pa.int32(), "orders at the best ask"),
        optional("ask_exch", pa.int32(), "who asks, as bid_exch"),
        field(
            "sample_s",
            pa.int32(),
            "0 a change of the quote; 1 or 60 a sample of each so many seconds, as of ts_event_ns; -1 one at a trade",
        ),
        optional("action", pa.string(), "the change: A add, C cancel, M modify, R clear, T trade, N none"),
        optional("side", pa.string(), "of the change or, in a sample, the last trade: B bid or buyer, A ask or seller"),
        optional("price", pa.float64(), "the change's price, in a sample the last trade's"),
        optional("size", pa.int32(), "the change's size, in a sample the last trade's"),
        optional("trade_ts_ns", pa.int64(), "of a sample: when the last trade was, UTC nanoseconds"),
        *_VENUE_FLAGS,
        _SEQ,
    ],
    partition_by="underlying",
    identity=(
        "option_symbol", "bid_px", "bid_sz", "seq", "ask_px", "ask_sz", "bid_exch", "ask_exch", "publisher_id",
        "sample_s", "action", "side", "price", "size", "bid_ct", "ask_ct",
    ),
)  # fmt: skip

OPTIONS_GREEKS_SNAPSHOTS = event_schema(
    "options.greeks_snapshots",
    [
        field("underlying", pa.string(), "root of what the option is written on"),
        field("option_symbol", pa.string(), "the vendor's symbol of the option"),
        optional("delta", pa.float64(), "per $1 of the underlying"),
        optional("gamma", pa.float64(), "per $1 of the underlying"),
        optional("theta", pa.float64(), "per day"),
        optional("vega", pa.float64(), "per volatility point"),
        optional("implied_volatility", pa.float64(), "as a decimal"),
        optional("open_interest", pa.int64(), "contracts"),
        field("snapshot_id", pa.string(), "hash of what the vendor says of the option, its times included"),
        optional("exp_date", pa.date32(), "expiration date"),
        optional("strike", pa.float64(), "strike price"),
        optional("right", pa.string(), "C or P"),
        optional("bid", pa.float64(), "best bid, premium per unit"),
        optional("ask", pa.float64(), "best ask, premium per unit"),
        optional("bid_sz", pa.int32(), "contracts at the best bid"),
        optional("ask_sz", pa.int32(), "contracts at the best ask"),
        optional("underlying_price", pa.float64(), "of what the option is written on, dollars"),
        optional("underlying_ts_ns", pa.int64(), "when that price was, UTC nanoseconds"),
        optional("shares_per_contract", pa.int32(), "units a contract stands for; not 100 for an adjusted one"),
        optional("exercise_style", pa.string(), "american, european or bermudan"),
        optional("volume", pa.int64(), "contracts traded on the day"),
        optional("timeframe", pa.string(), "REAL-TIME or DELAYED: how old the vendor lets the quote be"),
    ],
    partition_by="underlying",
    hourly=False,
    # A page that is asked for again is another observation, also of what the vendor had not changed: when it came is
    # part of what it is. Who asks which greeks were known at a time needs each.
    identity=("option_symbol", None, None, None, "snapshot_id", "ts_recv_ns"),
)

REFERENCE_INSTRUMENTS = event_schema(
    "reference.instruments",
    [
        field("symbol", pa.string(), "root, e.g. ES"),
        *_VENUE_KEYS,
        field("record", pa.string(), "definition or mapping"),
        optional("action", pa.string(), "of a definition: A added, M modified, D deleted"),
        optional("instrument_class", pa.string(), "F future, S future spread, C call, P put, T option spread, K stock"),
        optional("asset", pa.string(), "the venue's product, e.g. ES"),
        optional("security_type", pa.string(), "the venue's type, e.g. FUT or OOF"),
        optional("cfi", pa.string(), "ISO 10962 code; the only place that tells European from American"),
        optional("exchange", pa.string(), "the venue's market, e.g. XCME"),
        optional("underlying", pa.string(), "raw symbol of what an option is written on"),
        optional("underlying_id", pa.int64(), "its instrument_id"),
        optional("strike", pa.float64(), "strike price"),
        optional("expiration_ns", pa.int64(), "UTC nanoseconds"),
        optional("activation_ns", pa.int64(), "UTC nanoseconds"),
        optional("min_price_increment", pa.float64(), "tick, in points"),
        optional("unit_of_measure_qty", pa.float64(), "units a contract stands for, 50 for ES"),
        optional("contract_multiplier", pa.int32(), "where the venue sets it"),
        optional("currency", pa.string(), "of the price"),
        optional("user_defined", pa.string(), "Y for a spread that a user defined"),
        optional("stype_in_symbol", pa.string(), "of a mapping: what was asked for"),
        optional("start_ns", pa.int64(), "of a mapping: valid from, UTC nanoseconds"),
        optional("end_ns", pa.int64(), "of a mapping: valid before, UTC nanoseconds"),
    ],
    hourly=False,
    identity=(
        "contract",
        None,
        None,
        None,
        "instrument_id",
        "publisher_id",
        "record",
        "action",
        "stype_in_symbol",
        "start_ns",
    ),
)  # fmt: skip

REFERENCE_STATISTICS = event_schema(
    "reference.statistics",
    [
        field("symbol", pa.string(), "root, e.g. ES"),
        *_VENUE_KEYS,
        *_OPTION_TERMS,
        optional("kind", pa.string(), "what it is, e.g. open_interest, settlement_price; null for a number not known"),
        field("kind_code", pa.int32(), "the vendor's number of the kind"),
        optional("price", pa.float64(), "its value, where that is a price, a volatility or a delta"),
        optional("quantity", pa.int64(), "its value, where that is a quantity"),
        optional("ref_ts_ns", pa.int64(), "of which time it speaks, UTC nanoseconds"),
        field("update_code", pa.int16(), "1 new or changed, 2 deleted, else as sent"),
        field("stat_flags", pa.int16(), "the venue's bits of the kind; 255 as sent where it gives none"),
        field("channel_id", pa.int32(), "the venue's channel"),
        optional("ts_in_delta_ns", pa.int32(), "nanoseconds from the venue's sending to ts_recv_ns"),
        _SEQ,
    ],
    hourly=False,
    identity=(
        "contract", "price", "quantity", "seq", "publisher_id", "kind_code", "ref_ts_ns", "update_code", "stat_flags",
        "channel_id",
    ),
)  # fmt: skip

REFERENCE_STATUS = event_schema(
    "reference.status",
    [
        field("symbol", pa.string(), "root, e.g. ES"),
        *_VENUE_KEYS,
        *_OPTION_TERMS,
        optional("action", pa.string(), "the new state, e.g. pre_open, trading, halt; null for a number not known"),
        field("action_code", pa.int32(), "the vendor's number of it"),
        optional("reason", pa.string(), "why, e.g. scheduled, market_event; null for a number not known"),
        field("reason_code", pa.int32(), "the vendor's number of it"),
        optional("trading_event", pa.string(), "what else it means, e.g. no_cancel; null for a number not known"),
        field("trading_event_code", pa.int32(), "the vendor's number of it"),
        optional("is_trading", pa.bool_(), "whether it trades; null where not said"),
        optional("is_quoting", pa.bool_(), "whether it may be quoted; null where not said"),
        optional("is_short_sell_restricted", pa.bool_(), "whether short sales are restricted; null where not said"),
    ],
    hourly=False,
    identity=(
        "contract", None, None, None, "publisher_id", "action_code", "reason_code", "trading_event_code", "is_trading",
        "is_quoting", "is_short_sell_restricted",
    ),
)  # fmt: skip
