"""What a delivery says of its bytes decides what reads them, what its rows are and what its streams are called."""

from typing import get_args

import pytest

from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS, OPTIONS_QUOTES, OPTIONS_TRADES, STOCKS_QUOTES, STOCKS_TRADES
from spymaster.events.encoding import Dbn, Encoding, MassiveDayFile, MassiveFrames, MassivePages
from spymaster.normalize.open import normalizer_of
from tests.normalize.dbn_bytes import header_of
from tests.normalize.massive_fuzz import LINES

OPTION = "O:SPY251216C00680000"
CASES = [
    (Dbn(header_of("XNAS.ITCH"), ("SPY",)), "databento.xnas", ["stocks.trades", "reference.instruments"], "SPY"),
    (MassiveFrames("stocks", "SPY"), "massive.stocks", ["stocks.trades", "stocks.quotes"], "SPY"),
    (MassiveFrames("options", "ALL"), "massive.options", ["options.trades", "options.quotes"], "ALL"),
    (MassivePages(STOCKS_TRADES, "SPY", "SPY"), "massive.stocks", ["stocks.trades"], "SPY"),
    (MassivePages(STOCKS_QUOTES, "SPY", "SPY"), "massive.stocks", ["stocks.quotes"], "SPY"),
    (MassivePages(OPTIONS_TRADES, OPTION, "SPY"), "massive.options", ["options.trades"], "SPY"),
    (MassivePages(OPTIONS_QUOTES, OPTION, "SPY"), "massive.options", ["options.quotes"], "SPY"),
    (MassivePages(OPTIONS_GREEKS_SNAPSHOTS, "SPY", "SPY"), "massive.options", ["options.greeks_snapshots"], "SPY"),
    (MassivePages(OPTIONS_GREEKS_SNAPSHOTS, "", "ALL"), "massive.options", ["options.greeks_snapshots"], "ALL"),
    (
        MassiveDayFile(LINES["options.trades"][0].encode() + b"\n", (OPTION,)),
        "massive.options",
        ["options.trades"],
        "SPY",
    ),
    (
        MassiveDayFile(LINES["options.quotes"][0].encode() + b"\n", (OPTION,)),
        "massive.options",
        ["options.quotes"],
        "SPY",
    ),
]


@pytest.mark.parametrize(("encoding", "source", "schemas", "symbol"), CASES)
def test_an_encoding_decides_source_and_streams(
    encoding: Encoding, source: str, schemas: list[str], symbol: str
) -> None:
    normalizer = normalizer_of(encoding, origin="somewhere")

    assert normalizer.source == source
    assert normalizer.streams == dict.fromkeys(schemas, symbol)
    assert normalizer_of(encoding, origin="somewhere", simulated=True).source == "sim"


def test_no_encoding_is_left_out() -> None:
    assert {type(encoding) for encoding, *_ in CASES} == set(get_args(Encoding))
