"""The option model against a library, by its own laws, and on real chains.

The library is `blackscholes`: plain Python on `math.erf`, nothing of ours in it.
"""

import csv
import importlib.util
import io
import itertools
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pytest
import zstandard
from blackscholes import Black76Call, Black76Put

from spymaster.clock import NS_PER_SECOND
from spymaster.engines.exact import Floats
from spymaster.engines.expiry import expires_ns
from spymaster.engines.option_model import (
    EXPIRED,
    GAMMA_SCALE,
    IN_NUMPY,
    NO_TIME_VALUE,
    SOLVED,
    TOO_DEAR,
    UNKNOWN,
    Terms,
    fastest_model,
    gamma_profile,
    implied,
    unsolved,
    value,
    years_between,
)

DAY = 1 / 365
MINUTE = DAY / 1_440


def options(count: int, *, seed: int = 1, wide: float = 0.15) -> tuple[Terms, Floats]:
    """Return options from a minute to two years before expiration, in and out of the money, and their volatilities."""
    random = np.random.default_rng(seed)
    forward = random.uniform(100, 7_500, count)
    years = np.exp(random.uniform(np.log(MINUTE), np.log(2), count))
    rate = random.uniform(-0.01, 0.06, count)
    strike = forward * np.exp(random.normal(0, wide, count))
    return Terms(forward, strike, years, np.exp(-rate * years), random.random(count) < 0.5), random.uniform(
        0.05, 1.2, count
    )


def one(
    forward: float = 6_800.0, strike: float = 6_800.0, years: float = DAY, discount: float = 1.0, *, call: bool = True
) -> Terms:
    return Terms(*(np.array([number]) for number in (forward, strike, years, discount)), np.array([call]))


# Against the library


def test_a_thousand_random_options_are_worth_what_the_library_says() -> None:
    terms, vol = options(1_000)
    ours = value(terms, vol)

    for i, (forward, strike, years, discount, is_call) in enumerate(zip(*terms, strict=True)):
        kind = Black76Call if is_call else Black76Put
        theirs = kind(F=forward, K=strike, T=years, r=-np.log(discount) / years, sigma=vol[i])
        assert ours.price[i] == pytest.approx(theirs.price(), rel=1e-11, abs=1e-10)
        assert ours.delta[i] == pytest.approx(theirs.delta(), rel=1e-10, abs=1e-12)
        assert ours.gamma[i] == pytest.approx(theirs.gamma(), rel=1e-10, abs=1e-15)


def test_a_thousand_prices_of_the_library_imply_its_volatility() -> None:
    terms, vol = options(1_000, seed=2, wide=0.05)
    kinds = [Black76Call if is_call else Black76Put for is_call in terms.is_call]
    price = np.array([
        kind(F=forward, K=strike, T=years, r=-np.log(discount) / years, sigma=sigma).price()
        for kind, forward, strike, years, discount, sigma in zip(kinds, *terms[:4], vol, strict=True)
    ])  # fmt: skip
    found = implied(terms, price, 0.25)
    solved = unsolved(terms, price, 0.25) == SOLVED

    assert solved.sum() > 500
    assert np.isnan(found[~solved]).all()
    assert np.abs(found[solved] / vol[solved] - 1).max() < 1e-9


# By its own laws


def test_call_and_put_differ_by_the_discounted_forward_less_strike() -> None:
    terms, vol = options(1_000, seed=3)
    call, put = (value(terms._replace(is_call=np.full(1_000, right)), vol) for right in (True, False))
    apart = terms.discount * (terms.forward - terms.strike)

    assert np.allclose(call.price - put.price, apart, rtol=0, atol=1e-11)
    assert np.allclose(call.delta - put.delta, terms.discount, rtol=0, atol=1e-14)
    assert call.gamma.tobytes() == put.gamma.tobytes()


def test_calls_and_puts_at_the_same_strike_imply_the_same_volatility() -> None:
    terms, vol = options(1_000, seed=4, wide=0.05)
    found = []
    for right in (True, False):
        own = terms._replace(is_call=np.full(1_000, right))
        found.append(implied(own, value(own, vol).price, 0.25))
    known = ~np.isnan(found[0])

    assert known.sum() > 500
    assert (np.isnan(found[1]) == ~known).all()
    assert np.allclose(found[0][known], found[1][known], rtol=1e-9, atol=0)


def test_the_implied_volatility_gives_the_price_back() -> None:
    # Prices in ticks, as prints have them, down to one tick of time value.
    terms, vol = options(5_000, seed=5, wide=0.1)
    price = np.maximum(np.rint(value(terms, vol).price / 0.05), 1) * 0.05
    found = implied(terms, price, 0.05)
    solved = ~np.isnan(found)

    assert solved.sum() > 3_000
    assert np.abs(value(terms, found).price - price)[solved].max() < 1e-9


def test_greeks_are_the_derivatives_of_the_price() -> None:
    terms, vol = options(300, seed=6, wide=0.05)
    terms = terms._replace(years=np.maximum(terms.years, 10 * DAY))
    step = terms.forward * 1e-4
    higher, lower = (value(terms._replace(forward=terms.forward + move), vol) for move in (step, -step))
    now = value(terms, vol)

    assert np.allclose((higher.price - lower.price) / (2 * step), now.delta, rtol=0, atol=1e-4)
    assert np.allclose((higher.delta - lower.delta) / (2 * step), now.gamma, rtol=1e-2, atol=1e-8)


def test_a_result_does_not_depend_on_what_else_is_asked() -> None:
    terms, vol = options(20_000, seed=7)
    price = value(terms, vol).price
    whole = implied(terms, price, 0.25)
    order = np.random.default_rng(8).permutation(20_000)
    parts = np.concatenate([
        implied(terms.of(some), price[some], 0.25) for some in np.split(order, [1, 2, 77, 9_000, 17_111])
    ])  # fmt: skip

    assert parts.tobytes() == whole[order].tobytes()


# What has no answer


@pytest.mark.parametrize("time_value", [0.0, -3.0, 0.2])
@pytest.mark.parametrize("call", [True, False])
def test_a_price_deep_in_the_money_with_too_little_time_value_implies_nothing(time_value: float, call: bool) -> None:
    terms = one(strike=6_000.0 if call else 7_600.0, call=call)
    price = np.array([800 + time_value])

    assert unsolved(terms, price, 0.25).tolist() == [NO_TIME_VALUE]
    assert np.isnan(implied(terms, price, 0.25)).all()


def test_just_the_least_time_value_is_enough_however_it_is_rounded() -> None:
    assert 5.30 - (6_800 - 6_794.95) < 0.25
    terms, price = one(strike=6_794.95), np.array([5.30])

    assert unsolved(terms, price, 0.25).tolist() == [SOLVED]
    assert unsolved(terms, price - 0.001, 0.25).tolist() == [NO_TIME_VALUE]
    assert implied(terms, price, 0.25)[0] == pytest.approx(0.02, abs=0.02)


def test_crossed_quotes_imply_crossed_volatilities_and_a_bid_below_intrinsic_none() -> None:
    terms = one(strike=6_760.0)
    bid, middle, ask = (implied(terms, np.array([price]), 0.25)[0] for price in (56.0, 54.0, 52.0))

    assert bid > middle > ask > 0
    assert np.isnan(implied(terms, np.array([39.75]), 0.25)).all()


def test_what_has_expired_is_worth_nothing_known() -> None:
    for years in (0.0, -MINUTE):
        worth = value(one(years=years), np.array([0.2]))

        assert np.isnan(worth).all()
        assert unsolved(one(years=years), np.array([10.0]), 0.25).tolist() == [EXPIRED]
        assert np.isnan(implied(one(years=years), np.array([10.0]), 0.25)).all()


def test_towards_expiration_an_option_is_worth_its_intrinsic_value() -> None:
    for years in 10.0 ** -np.arange(2.0, 16.0):
        out, inside, at = (value(one(strike=strike, years=years), np.array([0.2])) for strike in (6_900, 6_700, 6_800))
        far = 1.4 * years**0.5  # deviations to those strikes are more than 1 / far / 100

        assert 0 <= out.price[0] < 3e4 * far
        assert inside.price[0] >= 100
        assert at.gamma[0] == pytest.approx(0.39894228 / (6_800 * 0.2 * years**0.5), rel=1e-3)
    assert (out.price[0], out.delta[0], inside.price[0], inside.delta[0]) == pytest.approx((0, 0, 100, 1), abs=1e-12)
    assert 0 <= out.gamma[0] < 1e-200


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf])
@pytest.mark.parametrize("name", ["forward", "strike", "years", "discount"])
def test_an_unknown_term_makes_an_unknown_result_never_zero(name: str, bad: float) -> None:
    terms = one(**{name: bad})
    why = EXPIRED if name == "years" and bad <= 0 else UNKNOWN

    assert unsolved(terms, np.array([20.0]), 0.25).tolist() == [why]
    assert np.isnan(implied(terms, np.array([20.0]), 0.25)).all()
    assert np.isnan(value(terms, np.array([0.2]))).all()


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf])
def test_no_price_and_no_volatility_make_an_unknown_result_never_zero(bad: float) -> None:
    assert unsolved(one(), np.array([bad]), 0.25).tolist() == [UNKNOWN]
    assert np.isnan(implied(one(), np.array([bad]), 0.25)).all()
    assert np.isnan(value(one(), np.array([bad]))).all()


def test_a_price_of_the_underlying_itself_is_too_dear() -> None:
    for price in (6_800.0, 6_799.0, 9_000.0):
        assert unsolved(one(), np.array([price]), 0.25).tolist() == [TOO_DEAR]
        assert np.isnan(implied(one(), np.array([price]), 0.25)).all()


def test_of_no_options_nothing_is_known() -> None:
    none, empty = one().of(np.array([], np.intp)), np.array([])

    assert [len(column) for column in value(none, empty)] == [0, 0, 0]
    assert len(implied(none, empty, 0.25)) == len(unsolved(none, empty, 0.25)) == 0
    assert gamma_profile(none, empty, np.array([], np.int64), 6_800.0, np.array([6_700.0, 6_900.0])).tolist() == [0, 0]


def test_years_are_of_365_days() -> None:
    now = 1_766_413_800_000_000_000

    assert years_between(now, now + np.array([0, 365, -1]) * 86_400 * NS_PER_SECOND).tolist() == [0, 1, -1 / 365]


# The profile


def test_the_profile_is_the_sum_of_the_positions_gammas_at_each_price() -> None:
    terms, vol = options(400, seed=9, wide=0.05)
    vol[::7], terms.years[::11] = np.nan, -DAY
    contracts = np.random.default_rng(9).integers(-2_000, 2_000, 400)
    spot, prices = 6_800.0, np.linspace(6_100, 7_500, 57)
    ours = gamma_profile(terms, vol, contracts, spot, prices)

    for price, total in zip(prices, ours, strict=True):
        moved = value(terms._replace(forward=terms.forward * (price / spot)), vol).gamma
        gamma = moved * (terms.forward / spot) ** 2  # of the spot
        assert total / GAMMA_SCALE == pytest.approx(
            np.nansum(gamma * contracts), rel=1e-9, abs=400 * 1_000 / GAMMA_SCALE
        )


def test_no_order_and_no_cut_of_the_options_changes_the_profile() -> None:
    terms, vol = options(1_000, seed=10, wide=0.05)
    contracts = np.random.default_rng(10).integers(-2_000, 2_000, 1_000)
    prices = np.linspace(6_100, 7_500, 200)
    order = np.random.default_rng(11).permutation(1_000)
    whole = gamma_profile(terms, vol, contracts, 6_800.0, prices)
    parts = [
        gamma_profile(terms.of(some), vol[some], contracts[some], 6_800.0, prices) for some in np.array_split(order, 7)
    ]

    assert (sum(parts) == whole).all()


# On real chains


def test_leans_chain_of_spy_is_understood(real_data: Path) -> None:
    """LEAN's volatilities are ours to .04, and its deltas to .04 if we leave out the carry.

    Its chains are of January 2024, when the rate was 5.33 % and SPY paid 1.4 %, which the model takes as a forward of
    spot * exp((rate - dividends) * years), in calendar days of 365. The rest of the differences: LEAN values by a tree
    with early exercise, at a closing price of the option of 16:00 to 16:15 and one of the stock of 16:00, and is not at
    one with itself: gamma = vega / (spot**2 * vol * years) in any such model, and its gamma is 1.1 to 2.5 times that.
    Ours is .75 to 1 of what its vega says. Where it writes a volatility of .0000001 and a delta of 1 because the price
    has no time value, we write none.
    """
    rate, dividends = 0.0533, 0.014
    compared = unknown = 0
    for day in (date(2023, 12, 28), date(2024, 1, 2), date(2024, 1, 4), date(2024, 1, 8)):
        with (real_data / f"lean/universe_spy_option_{day:%Y%m%d}.csv").open() as file:
            rows = list(csv.reader(file))[1:]
        spot = float(rows[0][6])
        rows = [row for row in rows[1:] if row[9]]
        expiry = [datetime.strptime(row[0], "%Y%m%d").date() for row in rows]  # noqa: DTZ007
        years = np.array([(one - day).days for one in expiry]) / 365
        strike, price, vol, delta, gamma, vega = (
            np.array([float(row[i]) for row in rows]) for i in (1, 6, 9, 10, 11, 12)
        )
        assert {row[2] for row in rows} == {"C"}
        forward, calls = spot * np.exp((rate - dividends) * years), np.full(len(rows), True)
        terms = Terms(forward, strike, years, np.exp(-rate * years), calls)

        none = (vol < 1e-6) & (price - spot + strike < 0.05)
        assert np.isnan(implied(terms, price, 0.05)[none]).all()
        unknown += none.sum()
        plain = (delta > 0.02) & (delta < 0.98)
        compared += plain.sum()
        assert np.abs(implied(terms, price, 0.05) - vol)[plain].max(initial=0) < 0.04
        without = Terms(np.full(len(rows), spot), strike, years, np.ones(len(rows)), calls)
        assert np.abs(value(without, vol).delta - delta)[plain].max(initial=0) < 0.04
        by_vega = vega[plain] * 100 / (spot**2 * vol[plain] * years[plain])
        ours = (value(terms, vol).gamma * (forward / spot) ** 2)[plain]
        assert ((ours / by_vega > 0.75) & (ours / by_vega < 1)).all()
        assert (gamma[plain] / by_vega > 1.1).all()
    assert compared == 14
    assert unknown > 20


def test_a_real_chain_of_es_options_is_sane(real_data: Path) -> None:
    """ESH0's options at 23:58 UTC on 5 January 2020: the forward is what call, put and strike say by parity."""
    quotes: dict[tuple[float, bool], tuple[float, float]] = {}
    with zipfile.ZipFile(real_data / "lean/es_fop_202003_minute_quote_20200105.zip") as archive:
        for name in archive.namelist():
            right, strike = name.split("_")[5:7]
            for row in csv.reader(io.StringIO(archive.read(name).decode())):
                if row[0] == "86280000" and row[4] and row[9]:
                    quotes[int(strike) / 10_000, right == "call"] = float(row[4]), float(row[9])
    both = sorted(strike for strike, is_call in quotes if is_call and (strike, False) in quotes)
    middle = {key: sum(quote) / 2 for key, quote in quotes.items()}
    forward = float(np.median([strike + middle[strike, True] - middle[strike, False] for strike in both]))
    expires = expires_ns("ESH0 C3200", date(2020, 3, 20))
    assert expires == int(datetime(2020, 3, 20, 13, 30, tzinfo=UTC).timestamp()) * NS_PER_SECOND
    now = int(datetime(2020, 1, 5, 23, 58, tzinfo=UTC).timestamp()) * NS_PER_SECOND

    keys = sorted(key for key, (bid, ask) in quotes.items() if ask - bid <= 3)
    strike, is_call = np.array([key[0] for key in keys]), np.array([key[1] for key in keys])
    same = np.ones(len(keys))
    terms = Terms(forward * same, strike, years_between(now, expires * np.ones(len(keys), np.int64)), same, is_call)
    vol = implied(terms, np.array([middle[key] for key in keys]), 0.25)
    delta = value(terms, vol).delta

    assert forward == pytest.approx(3_223, abs=1)
    assert len(keys) > 40
    assert not np.isnan(vol).any()
    assert 0.08 < vol.min() < vol.max() < 0.3
    for right in (True, False):
        assert (
            np.diff(vol[is_call == right]) < 1e-3
        ).all()  # lower for higher strikes, as of every index; mids are rough
        assert (np.diff(delta[is_call == right]) < 0).all()
    assert ((delta > 0) == is_call).all()
    for number, (at, right) in enumerate(keys):
        if not right and (at, True) in keys:
            assert vol[number] == pytest.approx(vol[keys.index((at, True))], abs=5e-3)


def test_real_es_puts_as_the_vendor_quotes_them_are_sane(real_data: Path) -> None:
    # ESM4 traded near 5,210 then; its price of that very minute is not among the files.
    folder = real_data / "nautilus_trader"
    strikes = {
        definition.instrument_id: definition for definition in records(folder / "ESM4_P5230_P5250_definition.dbn.zst")
    }
    for definition in strikes.values():
        rule = expires_ns(definition.raw_symbol, date(2024, 6, 21))
        assert rule == definition.expiration
        assert expires_ns(definition.raw_symbol, None, defined_ns=definition.expiration) == rule
    quotes = records(folder / "ESM4_P5230_P5250_bbo-1m.dbn.zst")
    quotes.sort(key=lambda row: (row.ts_recv, strikes[row.instrument_id].strike_price))
    strike = np.array([strikes[row.instrument_id].strike_price / 1e9 for row in quotes])
    expiry = np.array([strikes[row.instrument_id].expiration for row in quotes])
    price = np.array([(row.levels[0].bid_px + row.levels[0].ask_px) / 2e9 for row in quotes])
    same = np.ones(len(quotes))
    assert strike.tolist() == [5_230, 5_250] * 10
    for forward in (5_200.0, 5_210.0, 5_220.0):
        years = years_between(np.array([row.ts_recv for row in quotes]), expiry)
        terms = Terms(forward * same, strike, years, same, same < 0)
        vol = implied(terms, price, 0.25)
        delta = value(terms, vol).delta

        assert ((vol > 0.09) & (vol < 0.15)).all()
        assert (vol[1::2] < vol[::2]).all()
        assert ((delta > -0.65) & (delta < -0.45)).all()
        assert (delta[1::2] < delta[::2]).all()


def records(path: Path) -> list[dbn.InstrumentDefMsg | dbn.BBOMsg]:
    decoder = dbn.DBNDecoder()
    with path.open("rb") as file:
        decoder.write(zstandard.ZstdDecompressor().stream_reader(file).read())
    return [record for record in decoder.decode() if not isinstance(record, dbn.Metadata)]


# The two bodies


def same_bits(one: Floats, other: Floats) -> bool:
    """Whether numbers are equal in every bit; what is NaN is NaN in both."""
    return np.where(np.isnan(one), -1.0, one).tobytes() == np.where(np.isnan(other), -1.0, other).tobytes()


@pytest.mark.parametrize("wide", [0.02, 0.15, 1.0, 4.0])
def test_the_compiled_model_is_that_of_numpy_in_every_bit(wide: float) -> None:
    terms, vol = options(50_000, seed=7, wide=wide)
    compiled = fastest_model()
    worth = compiled.value(terms, vol)
    price = worth.price + np.random.default_rng(8).choice([-0.05, 0.0, 0.05, 0.25], len(vol))

    assert compiled is not IN_NUMPY
    assert all(map(same_bits, worth, IN_NUMPY.value(terms, vol)))
    assert same_bits(compiled.implied(terms, price, 0.05), IN_NUMPY.implied(terms, price, 0.05))


def test_the_compiled_model_is_that_of_numpy_where_terms_say_nothing() -> None:
    odd = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, 1.0, 50.0)
    every = np.array(list(itertools.product(odd, repeat=4))).T
    forward, strike, years, last = (np.ascontiguousarray(column) for column in every)
    for discount, call in itertools.product((1.0, 0.0, np.nan), (True, False)):
        terms = Terms(forward, strike, years, np.full(len(last), discount), np.full(len(last), call))
        with np.errstate(all="ignore"):
            valued, solved = IN_NUMPY.value(terms, last), IN_NUMPY.implied(terms, last, 0.05)

        assert all(map(same_bits, fastest_model().value(terms, last), valued))
        assert same_bits(fastest_model().implied(terms, last, 0.05), solved)


def test_the_compiled_exponential_is_that_of_numpy_in_every_bit() -> None:
    random = np.random.default_rng(9)
    x = np.concatenate([random.uniform(-745, 700, 50_000), random.normal(0, 0.1, 50_000), [-5_000, -1e9, 0.0, -0.0]])

    assert fastest_model().exp(x).tobytes() == IN_NUMPY.exp(x).tobytes()


def test_terms_of_another_number_of_options_are_refused_before_anything_is_read() -> None:
    terms, vol = options(3)

    with pytest.raises(ValueError, match="unequal number of options"):
        fastest_model().value(terms._replace(strike=terms.strike[:2]), vol)
    with pytest.raises(ValueError, match="unequal number of options"):
        fastest_model().implied(terms, vol[:2], 0.05)


def test_where_numba_has_no_package_the_model_is_that_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fastest_model.cache_clear()
    try:
        assert fastest_model() is IN_NUMPY
    finally:
        fastest_model.cache_clear()
