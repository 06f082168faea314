from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spymaster import paths
from spymaster.normalize.symbols import (
    CME,
    OCC,
    STOCKS,
    Asked,
    Instrument,
    asked_by,
    one_root,
    partition_root,
    read_cme,
    read_occ,
    read_ticker,
)

NOTHING = Asked()
ES_OPTIONS = Asked("ES", options=True)


@pytest.mark.parametrize(
    ("symbol", "root"),
    [
        ("ESZ5", "ES"),
        ("ESZ25", "ES"),
        ("ESZ5-ESH6", "ES"),
        ("6EM4", "6E"),
        ("M2KH6", "M2K"),
        ("NQZ5", "NQ"),
    ],
)
def test_a_future_or_calendar_spread_is_filed_under_its_root(symbol: str, root: str) -> None:
    assert read_cme(symbol, NOTHING) == Instrument(symbol, root)


@pytest.mark.parametrize(
    "symbol", ["ESM4 C4250", "EWF6 C4250", "EW2F6 C4250", "EW4F6 C4250", "E1AF6 C4250", "E5DF6 C4250"]
)
def test_options_of_the_e_mini_are_filed_under_es_whatever_day_they_expire(symbol: str) -> None:
    assert read_cme(symbol, NOTHING) == Instrument(symbol, "ES", True, None, 4250.0, "C")


def test_a_put_is_told_from_a_call() -> None:
    assert read_cme("ESM4 P5230", NOTHING).right == "P"


def test_no_strike_is_read_from_a_product_that_scales_it() -> None:
    assert read_cme("6EM4 C1085", NOTHING) == Instrument("6EM4 C1085", "6E", True, None, None, "C")


def test_a_user_defined_spread_belongs_to_the_parent_that_was_asked_for() -> None:
    assert read_cme("UD:1V: VT 2858150", ES_OPTIONS) == Instrument("UD:1V: VT 2858150", "ES", True)
    assert read_cme("UD:1V: VT 2858150", Asked("ES", options=False)) == Instrument("UD:1V: VT 2858150", "ES")
    assert read_cme("UD:1V: VT 2858150", NOTHING) == Instrument("UD:1V: VT 2858150", "UD", None)


def test_an_outright_keeps_its_own_root_whatever_was_asked_for() -> None:
    assert read_cme("NQZ5", ES_OPTIONS) == Instrument("NQZ5", "NQ")


@pytest.mark.parametrize("symbol", ["../../etc", "Z5", "ESZ5-", "esz5", " ", "ESZ5\n", "·"])
def test_a_symbol_that_cannot_be_read_is_its_own_root(symbol: str) -> None:
    assert read_cme(symbol, NOTHING) == Instrument(symbol, symbol, None)


def test_a_spread_of_futures_of_two_roots_is_no_option_and_filed_under_itself_or_what_was_asked_for() -> None:
    assert read_cme("ESZ5-NQZ5", Asked()) == Instrument("ESZ5-NQZ5", "ESZ5-NQZ5", False)
    assert read_cme("ESZ5-NQZ5", Asked("ES", True)) == Instrument("ESZ5-NQZ5", "ES", False)


@pytest.mark.parametrize("symbol", ["ES.FUT", "ES.c.0", "ES.v.1", "ES.n.0"])
def test_a_name_that_was_asked_for_gives_a_root_and_no_symbol(symbol: str) -> None:
    assert read_cme(symbol, NOTHING) == Instrument(None, "ES")


@pytest.mark.parametrize("root", ["ES", "EW", "EW1", "EW2", "EW3", "EW4", "E1A", "E5A", "E3B", "E2C", "E4D", "EYC"])
def test_every_option_on_the_e_mini_is_filed_under_it_with_its_strike(root: str) -> None:
    assert read_cme(f"{root}Z5 C6900", NOTHING) == Instrument(f"{root}Z5 C6900", "ES", True, None, 6900.0, "C")


@pytest.mark.parametrize("root", ["EW5", "E6A", "E0B", "E1E", "EY", "EV1", "QN3", "EYCX"])
def test_an_option_of_another_root_is_filed_under_its_own_without_a_strike(root: str) -> None:
    assert read_cme(f"{root}Z5 C6900", NOTHING)[1:5] == (root, True, None, None)


def test_parents_of_one_product_ask_for_that_product() -> None:
    assert asked_by(["ES.FUT", "ES.OPT", "EW2.OPT", "E1A.OPT"], CME) == Asked("ES", options=None)
    assert asked_by(["ES.FUT"], CME) == Asked("ES", options=False)
    assert asked_by(["ES.OPT", "EW.OPT"], CME) == Asked("ES", options=True)
    assert asked_by(["ES.OPT", "NQ.OPT"], CME) == Asked(None, options=True)
    assert asked_by(["ESZ5", "ES.c.0"], CME) == Asked()


def test_the_stock_ew_is_not_taken_for_an_option_of_the_e_mini() -> None:
    assert asked_by(["EW.OPT"], OCC) == Asked("EW", options=True)
    assert read_occ("EW    251219C00070000", NOTHING).root == "EW"
    assert OCC.product_root("EW") == "EW"
    assert STOCKS.product_root("EW") == "EW"


@pytest.mark.parametrize(
    ("symbol", "root", "strike"),
    [
        ("SPY   251216C00680000", "SPY", 680.0),
        ("SPY1  251216C00680500", "SPY1", 680.5),
        ("SPXW  251216C05000000", "SPXW", 5000.0),
        ("O:SPY251216C00680000", "SPY", 680.0),
        ("BRKB  251216C00000001", "BRKB", 0.001),
        ("A123456251216C00680000", "A123456", 680.0),
    ],
)
def test_an_occ_symbol_is_read_from_the_right(symbol: str, root: str, strike: float) -> None:
    assert read_occ(symbol, NOTHING) == Instrument(symbol, root, True, date(2025, 12, 16), strike, "C")


@pytest.mark.parametrize("symbol", ["SPY   251316C00680000", "SPY", "      251216C00680000", "251216C00680000"])
def test_what_is_no_occ_symbol_is_an_option_of_itself(symbol: str) -> None:
    assert read_occ(symbol, NOTHING) == Instrument(symbol, symbol, True)


def test_an_option_parent_is_filed_under_its_root() -> None:
    assert read_occ("SPY.OPT", NOTHING) == Instrument(None, "SPY", True)


@pytest.mark.parametrize("symbol", ["SPY", "BRK/B", "BRK.B", "EW2F6 C7000", "ESZ5"])
def test_a_stock_is_its_own_root(symbol: str) -> None:
    assert read_ticker(symbol, NOTHING) == Instrument(symbol, symbol)


def test_a_root_that_is_too_long_is_cut_between_two_characters() -> None:
    assert partition_root("é" * 40) == "é" * 32
    assert partition_root("a" + "é" * 40) == "a" + "é" * 31
    assert partition_root("") == "UNMAPPED"


def test_several_roots_are_no_root() -> None:
    assert one_root(["ES", "ES"]) == "ES"
    assert one_root(["ES", "NQ"]) is None
    assert one_root([]) is None


@given(symbol=st.text(), root=st.one_of(st.none(), st.just("ES")), options=st.booleans())
def test_every_text_has_a_root_that_can_be_stored(symbol: str, root: str | None, options: bool) -> None:
    for venue in (CME, OCC, STOCKS):
        instrument = venue.read(symbol, Asked(root, options))
        assert instrument.symbol in (symbol, None)
        assert paths.decode_symbol(paths.encode_symbol(instrument.root)) == instrument.root
