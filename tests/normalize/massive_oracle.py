"""A second reading of Massive's messages, by the `json` and `csv` modules. It shares nothing with ours."""

import csv
import datetime as dt
import json
import re
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
KINDS = {"T": "trades", "Q": "quotes"}
FRAME_FIELDS = {
    "stocks.trades": "sym:symbol:ticker x:exchange:i16 i:trade_id:text z:tape:i16 p:price:float s:size:exact "
    "ds:size_decimal:text c:conditions:codes t:ts_event_ns:ms q:seq:i64 trfi:trf_id:i32 trft:trf_ts_ns:ms "
    "pt:participant_ts_ns:ms",
    "stocks.quotes": "sym:symbol:ticker bx:bid_exch:i16 bp:bid_px:float bs:bid_sz:size ax:ask_exch:i16 "
    "ap:ask_px:float as:ask_sz:size c:conditions:code i:indicators:codes t:ts_event_ns:ms q:seq:i64 z:tape:i16 "
    "pt:participant_ts_ns:ms trft:trf_ts_ns:ms",
    "options.trades": "sym:option_symbol:option x:exchange:i16 p:price:float s:size:size c:conditions:codes "
    "t:ts_event_ns:ms q:seq:i64 pt:participant_ts_ns:ms",
    "options.quotes": "sym:option_symbol:option bx:bid_exch:i32 bp:bid_px:float bs:bid_sz:size ax:ask_exch:i32 "
    "ap:ask_px:float as:ask_sz:size t:ts_event_ns:ms q:seq:i64",
}
_RECORD = "sip_timestamp:ts_event_ns:ns participant_timestamp:participant_ts_ns:ns sequence_number:seq:i64 "
_TRADE = _RECORD + "conditions:conditions:codes price:price:float exchange:exchange:i16 correction:correction:i16 "
RECORD_FIELDS = {
    "stocks.trades": _TRADE + "ticker:symbol:ticker size:size:exact decimal_size:size_decimal:text id:trade_id:text "
    "tape:tape:i16 trf_id:trf_id:i32 trf_timestamp:trf_ts_ns:ns",
    "stocks.quotes": _RECORD + "ticker:symbol:ticker conditions:conditions:codes indicators:indicators:codes "
    "bid_exchange:bid_exch:i16 bid_price:bid_px:float bid_size:bid_sz:size ask_exchange:ask_exch:i16 "
    "ask_price:ask_px:float ask_size:ask_sz:size tape:tape:i16 trf_timestamp:trf_ts_ns:ns",
    "options.trades": _TRADE + "ticker:option_symbol:option size:size:size",
    "options.quotes": "sip_timestamp:ts_event_ns:ns sequence_number:seq:i64 ticker:option_symbol:option "
    "bid_exchange:bid_exch:i32 bid_price:bid_px:float bid_size:bid_sz:size ask_exchange:ask_exch:i32 "
    "ask_price:ask_px:float ask_size:ask_sz:size",
}
SNAPSHOT_FIELDS = (
    "details.ticker:option_symbol:option greeks.delta:delta:float greeks.gamma:gamma:float greeks.theta:theta:float "
    "greeks.vega:vega:float implied_volatility:implied_volatility:float open_interest:open_interest:size64 "
    "last_quote.bid:bid:float last_quote.ask:ask:float last_quote.bid_size:bid_sz:size last_quote.ask_size:ask_sz:size "
    "underlying_asset.price:underlying_price:float underlying_asset.last_updated:underlying_ts_ns:ns "
    "details.shares_per_contract:shares_per_contract:size details.exercise_style:exercise_style:text "
    "day.volume:volume:size64 time:ts_event_ns:ns timeframe:timeframe:text"
)
_BITS = {"i16": 15, "i32": 31, "i64": 63}


class BadError(Exception):
    """This message is not to become rows."""


def frame(data: bytes, cluster: str) -> tuple[list[tuple[str, Row]], int]:
    """Return a frame's rows with their schemas, and how many events are not recorded."""
    events = loads(data)
    demand(type(events) is list)
    rows, others = [], 0
    for event in events:
        demand(type(event) is dict and type(event.get("ev")) is str)
        if event["ev"] in KINDS:
            schema = f"{cluster}.{KINDS[event['ev']]}"
            rows.append((schema, row(event, FRAME_FIELDS[schema])))
        else:
            others += 1
    return rows, others


def page(data: bytes, schema: str, ticker: str, ts_local_ns: int | None) -> list[Row]:
    """Return the rows of a REST page."""
    decoded = loads(data)
    demand(type(decoded) is dict)
    demand(decoded.get("status") in ("OK", "DELAYED", None))
    results = decoded.get("results")
    results = [] if results is None else [results] if type(results) is dict else results
    demand(type(results) is list and all(type(result) is dict for result in results))
    if schema != "options.greeks_snapshots":
        return [row({"ticker": ticker} | result, RECORD_FIELDS[schema]) for result in results]
    return [row(flattened(result, ts_local_ns), SNAPSHOT_FIELDS) for result in results]


def line(data: bytes, names: list[str], schema: str) -> Row:
    """Return the row of a line of a day file."""
    try:
        text = data.decode()
        demand(text.endswith("\n"))
        text = text[:-1]
        (values,) = csv.reader([text[:-1] if text.endswith("\r") else text], strict=True)
    except (ValueError, csv.Error) as error:
        raise BadError from error
    demand(len(values) == len(names))
    wanted = {field.split(":")[0]: field.split(":")[2] for field in RECORD_FIELDS[schema].split()}
    sent = dict(zip(names, values, strict=True))
    made = row({n: csv_value(v, wanted[n]) for n, v in sent.items() if n in wanted}, RECORD_FIELDS[schema])
    if schema == "stocks.trades" and not sent.get("decimal_size") and not re.fullmatch(r"-?[0-9]*", sent["size"]):
        made["size_decimal"] = sent["size"]
    return made


def csv_value(text: str, how: str) -> Any:
    if not text:
        return None
    if how in ("ticker", "option", "text"):
        return text
    if how == "codes":
        return [csv_value(part, "i16") if part else demand(False) for part in text.split(",")]
    if re.fullmatch(r"-?[0-9]{1,30}", text):
        return int(text)
    demand(how in ("float", "size", "exact"))
    demand(re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?", text))
    return Decimal(text)


def loads(data: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise BadError(constant)

    try:
        text = data.decode()
        decoded = json.loads(text, parse_float=Decimal, parse_constant=refuse)
        json.dumps(decoded, default=str, ensure_ascii=False).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadError from error
    demand(not text.startswith("\ufeff"))
    return decoded


def flattened(result: Row, ts_local_ns: int | None) -> Row:
    flat = dict(result)
    for group in ("details", "greeks", "last_quote", "underlying_asset", "day"):
        nested = result.get(group)
        demand(nested is None or type(nested) is dict)
        flat |= {f"{group}.{key}": value for key, value in (nested or {}).items()}
    flat["time"] = flat.get("last_quote.last_updated") or flat.get("underlying_asset.last_updated") or ts_local_ns
    flat["timeframe"] = flat.get("last_quote.timeframe") or flat.get("underlying_asset.timeframe")
    return flat


def row(event: Row, fields: str) -> Row:
    made: Row = {}
    for key, column, how in (field.split(":") for field in fields.split()):
        sent = event.get(key)
        made[column] = None if sent is None else value(sent, how)
        if how in ("ticker", "option"):
            demand(sent is not None)
    if "size_decimal" in made and made["size_decimal"] is None:
        sent = event.get("s", event.get("size"))
        if sent is not None and not (type(sent) is int and abs(sent) < 2**31):
            made["size_decimal"] = str(sent)
    demand(made["ts_event_ns"])
    if "option_symbol" in made:
        made |= option(made["option_symbol"]) | ({"sample_s": 0} if "bid_px" in made else {})
    return made


def value(sent: Any, how: str) -> Any:
    if how in ("ticker", "option", "text"):
        demand(type(sent) is str)
        demand(how == "text" or (sent.startswith("O:") == (how == "option") and 1 <= len(sent.encode()) <= 64))
        return sent
    if how in ("codes", "code"):
        sent = [sent] if how == "code" and type(sent) is not list else sent
        demand(type(sent) is list)
        return [value(code, "i16") for code in sent]
    demand(type(sent) in (int, Decimal))
    if how == "float":
        try:
            number = float(sent)
        except OverflowError as error:
            raise BadError from error
        demand(abs(number) < float("inf"))
        return number
    if how in ("size", "exact", "size64"):
        limit = 2 ** (63 if how == "size64" else 31)
        fits = abs(sent) < limit and sent == int(sent)
        demand(fits or how == "exact")
        return int(sent) if fits else None
    demand(type(sent) is int)
    if how in ("ms", "ns"):
        unit = 1_000_000 if how == "ms" else 1
        demand(0 <= sent * unit < 2**63)
        return sent * unit
    demand(abs(sent) < 2 ** _BITS[how])
    return sent


def option(symbol: str) -> Row:
    """Read an OCC symbol from the right."""
    made = {"underlying": symbol, "exp_date": None, "strike": None, "right": None}
    tail = symbol[2:][-15:]
    root = symbol[2:][:-15].rstrip(" ")
    if root and re.fullmatch(r"[0-9]{6}[CP][0-9]{8}", tail) and "\n" not in root:
        try:
            date = dt.date(2000 + int(tail[:2]), int(tail[2:4]), int(tail[4:6]))
        except ValueError:
            return made
        made = {"underlying": root, "exp_date": date, "strike": int(tail[7:]) / 1000, "right": tail[6]}
    return made


def demand(sound: Any) -> None:
    if not sound:
        raise BadError
