"""What the text of a symbol says: its root, and for an option what it is written on. Pure.

Spellings that come:
    CME      ESZ5   ESZ5-ESH6   ESM4 C4250   UD:1V: VT 2858150     month letter, year digit; right and strike
    OCC      SPY   251216C00680000   O:SPY251216C00680000          date, right, strike in thousandths, from the right
    ticker   SPY   BRK/B
    asked    ES.FUT   ES.OPT   ES.c.0                              the vendor's names for many instruments at once

What was asked for is nobody's contract: it gives the root, and the symbol stays unknown.

An odd symbol, `../../etc` say, is data: nothing here raises, and what cannot be read is its own root.

Why a strike is read from ES symbols only: other CME products scale the number (`6EM4 C1085` is a strike of 1.085),
and no strike is better than a wrong one. A definition record says it exactly, for any product, and what the option is
written on too: the table of roots below is for options that none has defined.

Why an adjusted option such as `SPY1  251216C00680000` keeps its own root: it delivers something else than 100 SPY.
"""

import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Final, NamedTuple

from spymaster.paths import MAX_SYMBOL_BYTES

UNMAPPED: Final = "UNMAPPED"

_CME_FUTURE = re.compile(r"(?P<root>[A-Z0-9]+)[FGHJKMNQUVXZ][0-9]{1,2}")
_CME_OPTION = re.compile(r"(?P<future>.*) (?P<right>[CP])(?P<strike>-?[0-9]+(?:\.[0-9]+)?)")
_ASKED = re.compile(r"(?P<root>.+)\.(?:(?P<kind>FUT|OPT|SPOT)|[cnv]\.[0-9]+)")
# The options on the E-mini S&P 500 future by their Globex codes. From CME Group's pages 'E-mini S&P 500 options:
# Bloomberg cheat sheet' (month's end EW, Fridays EW1 to EW4, Mondays E1A, Wednesdays E1C), 'E-mini S&P 500 Tuesday and
# Thursday options' (E1B, E1D) and 'E-mini S&P 500 quarterly PM options' (EYC).
_ES_OPTION_ROOTS: Final = frozenset(
    ["EW", "EYC", *(f"EW{week}" for week in range(1, 5)), *(f"E{week}{day}" for week in range(1, 6) for day in "ABCD")]
)
_OCC = re.compile(r"(?:O:)?(?P<root>.*?) *(?P<yymmdd>[0-9]{6})(?P<right>[CP])(?P<mills>[0-9]{8})")


class Instrument(NamedTuple):
    """What is known of an instrument. `symbol` is None where nothing named it; `strike` and `right` are a plain
    option's; `is_option` is None where nothing tells an option from something else.
    """

    symbol: str | None
    root: str
    is_option: bool | None = False
    exp_date: date | None = None
    strike: float | None = None
    right: str | None = None


class Asked(NamedTuple):
    """What a delivery was asked for by parent symbols: their one root, and whether options were meant; None where
    nothing says, or some were.
    """

    root: str | None = None
    options: bool | None = None


class Venue(NamedTuple):
    """How a venue's symbols are read, what a product of its is filed under, and an option on an instrument of its."""

    read: Callable[[str, Asked], Instrument]
    product_root: Callable[[str], str]
    root_of_underlying: Callable[[str], str | None]


def partition_root(text: str) -> str:
    """Return `text` as a partition value: not empty, and cut to what a path can hold."""
    return text.encode("utf-8", "replace")[:MAX_SYMBOL_BYTES].decode("utf-8", "ignore") or UNMAPPED


def one_root(roots: Iterable[str | None]) -> str | None:
    """Return the root that all share, or None if there are several or none."""
    distinct = set(roots)
    return distinct.pop() if len(distinct) == 1 else None


def asked_by(parents: Iterable[str], venue: Venue) -> Asked:
    """Return what parent symbols such as `ES.FUT` or `ES.OPT` have in common. Other symbols ask for nothing."""
    found = [match for parent in parents if (match := _ASKED.fullmatch(parent)) and match["kind"]]
    root = one_root(venue.product_root(match["root"]) for match in found)
    meant = {match["kind"] == "OPT" for match in found}
    return Asked(root, meant.pop() if len(meant) == 1 else None)


def cme_product_root(product: str) -> str:
    """Return the root that a CME product is filed under: options of the E-mini S&P, whatever their day, under ES."""
    return "ES" if product in _ES_OPTION_ROOTS else product


def read_cme(symbol: str, asked: Asked) -> Instrument:
    """Read a symbol of CME Globex. What the text leaves open, such as a user-defined spread's root, `asked` decides."""
    if option := _CME_OPTION.fullmatch(symbol):
        written_on = _future_root(option["future"]) or asked.root or symbol
        strike = float(option["strike"]) if written_on == "ES" else None
        return Instrument(symbol, partition_root(written_on), True, None, strike, option["right"])
    if name := _ASKED.fullmatch(symbol):
        return Instrument(None, partition_root(cme_product_root(name["root"])), name["kind"] == "OPT")
    legs = [_future_root(leg) for leg in symbol.split("-")]
    if root := one_root(legs):
        return Instrument(symbol, partition_root(root))
    own = "UD" if symbol.startswith("UD:") else symbol
    return Instrument(symbol, partition_root(asked.root or own), False if all(legs) else asked.options)


def newly_read(symbol: str) -> bool:
    """Whether a symbol says something else than to the first version that read it."""
    return _ASKED.fullmatch(symbol) is not None or symbol.startswith("EYC")


def read_occ(symbol: str, asked: Asked) -> Instrument:
    """Read an option symbol of the OCC, padded as OPRA sends it or with Massive's prefix."""
    match = _OCC.fullmatch(symbol)
    exp_date = _date_of(match["yymmdd"]) if match else None
    if match is None or exp_date is None or not match["root"]:
        if parent := _ASKED.fullmatch(symbol):
            return Instrument(None, partition_root(parent["root"]), True)
        return Instrument(symbol, partition_root(asked.root or symbol), True)
    strike = int(match["mills"]) / 1000
    return Instrument(symbol, partition_root(match["root"]), True, exp_date, strike, match["right"])


def read_ticker(symbol: str, asked: Asked) -> Instrument:
    """Read a stock's symbol: it is its own root."""
    return Instrument(symbol, partition_root(symbol))


def _future_root(code: str) -> str | None:
    match = _CME_FUTURE.fullmatch(code)
    return cme_product_root(match["root"]) if match else None


def _date_of(yymmdd: str) -> date | None:
    try:
        return date(2000 + int(yymmdd[:2]), int(yymmdd[2:4]), int(yymmdd[4:]))
    except ValueError:
        return None


def _plain(product: str) -> str:
    return product


def _unsaid(underlying: str) -> None:
    """What an adjusted option such as SPY1 is written on is SPY too, and it is no option of SPY's."""


CME: Final = Venue(read_cme, cme_product_root, _future_root)
OCC: Final = Venue(read_occ, _plain, _unsaid)
STOCKS: Final = Venue(read_ticker, _plain, _unsaid)
