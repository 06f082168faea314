"""Massive's REST pages, JSON as it came, to rows: trades, quotes, option-chain snapshots, option contracts. Pure.

A page is read whole or goes to quarantine whole. Times are nanoseconds, and whole numbers in the JSON or unreadable.

A chain snapshot says of each option what the vendor knew when asked. Its time is when its quote was last updated, as
that is what its greeks were computed from; where it has no quote, when the price of the underlying was; and where the
vendor gives neither, as to subscribers without quotes, when it came by our clock. What is missing or empty (`{}`) is
null, never 0. `snapshot_id` is a hash of what the vendor said of the option: the same whatever page it came on and
whenever it came. Expiration, strike and right are those of its symbol.

A reference page's option contracts become definitions. They have no time but that of their receipt, so that from a file
they are unreadable; and the vendor says on which date they expire, not when, so `expiration_ns` is null: the date is in
the symbol.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import pyarrow as pa

from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS, REFERENCE_INSTRUMENTS
from spymaster.events.encoding import MassivePages
from spymaster.normalize.massive.fields import CONTRACT, RECORDS, SNAPSHOT, VERSION
from spymaster.normalize.massive.values import UnreadableError, asked_for, batch_of, columns_of, odd_rows, option_root
from spymaster.normalize.normalizer import Message, Normalized, Rows, Unreadable
from spymaster.normalize.symbols import Asked

_CHANNELS: Final = RECORDS | {OPTIONS_GREEKS_SNAPSHOTS.name: SNAPSHOT, REFERENCE_INSTRUMENTS.name: CONTRACT}
_CLASSES: Final = {"call": "C", "put": "P"}
_SOUND: Final = ("OK", "DELAYED", None)
_NESTED: Final = ("details", "greeks", "last_quote", "underlying_asset", "day")


class _Page(msgspec.Struct):
    status: str | None = None
    results: dict[str, Any] | list[dict[str, Any]] | None = None  # of a single option, it alone


_decode_page: Final = msgspec.json.Decoder(_Page, float_hook=Decimal).decode


class PageNormalizer:
    """Turns the pages of one request and its continuations into rows.

    Nothing is ignored, as pages hold nothing else, and every row names its instrument.
    """

    version: int = VERSION

    def __init__(self, encoding: MassivePages, *, origin: str, simulated: bool = False) -> None:
        """Begin a request."""
        schema = encoding.schema.name
        self._channel = _CHANNELS[schema]
        self._ticker, self._asked = encoding.ticker, asked_for(encoding.symbol)
        self.source = "sim" if simulated else "massive.stocks" if schema.startswith("stocks.") else "massive.options"
        self.streams = {schema: encoding.symbol}
        self.ignored: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.unmapped = 0
        self._byte = 0

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn pages into rows.

        Args:
            messages: pages in order, each with our time of receipt; None where they were not received live.
        """
        done = Normalized([], [])
        for page, ts_local_ns in messages:
            try:
                done.batches.extend(self._rows(page, ts_local_ns))
            except UnreadableError as error:
                done.unreadable.append(Unreadable(page, str(error), self._byte))
            self._byte += len(page)
        return done

    def finish(self) -> None:
        """Do nothing: a page is whole or did not come."""

    def _rows(self, page: bytes, ts_local_ns: int | None) -> list[Rows]:
        results = _results(page)
        if not results:
            return []
        if self._channel is SNAPSHOT:
            events = [_snapshot(result, ts_local_ns) for result in results]
        elif self._channel is CONTRACT:
            events = [_contract(result, ts_local_ns, self._asked) for result in results]
        else:
            events = [{"ticker": self._ticker, **result} for result in results]
        columns = columns_of(events, self._channel)
        received = None if ts_local_ns is None else pa.array([ts_local_ns] * len(events), pa.int64())
        batch = batch_of(self._channel.schema, columns, self.source, received, self._asked)
        self.odd.update(odd_rows(self._channel.schema, batch))
        return [(self._channel.schema, batch)]


def _results(page: bytes) -> list[dict[str, Any]]:
    """Decode a page.

    Raises:
        UnreadableError: it is not a page of a chain, or says that the request failed.
    """
    try:
        page.decode()
        decoded = _decode_page(page)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
        raise UnreadableError(f"it is no page of results: {error}") from error
    if decoded.status not in _SOUND:
        raise UnreadableError(f"its status is {decoded.status[:20]!r}")
    if isinstance(decoded.results, dict):
        return [decoded.results]
    return decoded.results or []


def _snapshot(result: Mapping[str, Any], ts_local_ns: int | None) -> dict[str, Any]:
    """Flatten an option's snapshot and add what follows from it."""
    flat = {key: value for key, value in result.items() if key not in _NESTED}
    for group in _NESTED:
        nested = result.get(group)
        if nested is not None and type(nested) is not dict:
            raise UnreadableError(f"{group} is no object")
        flat |= {f"{group}.{key}": value for key, value in (nested or {}).items()}
    flat["timeframe"] = flat.get("last_quote.timeframe") or flat.get("underlying_asset.timeframe")
    flat["time"] = flat.get("last_quote.last_updated") or flat.get("underlying_asset.last_updated") or ts_local_ns
    # Encoding writes fractions as the text that came, so that the hash does not depend on how floats are printed.
    flat["id"] = hashlib.sha256(msgspec.json.encode(result, order="sorted")).hexdigest()[:32]
    return flat


def _contract(result: Mapping[str, Any], ts_local_ns: int | None, asked: Asked) -> dict[str, Any]:
    ticker, kind = result.get("ticker"), result.get("contract_type")
    return {
        **result,
        "root": option_root(ticker, asked) if type(ticker) is str else None,
        "class": _CLASSES.get(kind) if type(kind) is str else None,
        "record": "definition",
        "time": ts_local_ns,
    }
