"""What is known of each option: its terms, last quote, volatility, open interest and volume; and so what a print means.

A print is worked where it stands in the order of events: by the underlying's price and the option's quote of that
moment, and by what was printed before it. What is said of options between two snaps, greeks and statistics, counts for
the prints of the next; who comes late, up to LATE_NS, still meets the price and the quote of its time.

A print's gamma is the model's at a volatility that is, the first that there is:

    snapshot  of the vendor's greeks of that option, not older than `greeks_s`
    print     implied by the print itself, if its time value is at least `least_time_value_ticks`
    strike    the strike's last good one, of call or put: of such a print, of a snapshot, or of the exchange
    near      the last good one of the nearest strike of that expiration, as of the snap before
    none      the gamma is unknown, and the print counts for nothing but volume

The underlying's price is the forward of an option on the contract that is judged; of one on another contract nothing is
known, so its gamma is unknown. Which it is says its definition, else the calendar: the first quarterly that has not
expired before the option. Of a stock the forward is its price with interest, without dividends.

A board has at most MOST_CONTRACTS options, of expirations up to `expiry_days` ahead. Of more, those that come last are
left out and counted.
"""

from collections.abc import Container
from datetime import date, timedelta
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY, NS_PER_SECOND
from spymaster.engines import aggressor, option_model, profile
from spymaster.engines.aggressor import IV_UNIT, NO_IV, Signs
from spymaster.engines.asof import MOST_KEYS, AsOf, Keys, latest
from spymaster.engines.expiry import expires_ns, is_written_on
from spymaster.engines.ledger import Longs
from spymaster.engines.option_model import GAMMA_SCALE, Terms, fastest_model
from spymaster.engines.option_rows import NO_DAY, OPEN_INTEREST, VOLATILITY, Contracts, OptionRows, Rows
from spymaster.engines.strike_vols import StrikeVols

VOL_FROM: Final = ("snapshot", "print", "strike", "near", "none")
SNAPSHOT, PRINT, STRIKE, NEAR, NONE = range(len(VOL_FROM))
MOST_CONTRACTS: Final = MOST_KEYS
LATE_NS: Final = 2 * NS_PER_SECOND  # five times what comes late of a simulated market
UNKNOWN_GAMMA: Final = -1
MOST_GAMMA: Final = 16.0  # of one contract a point; a hundred times that of a minute before expiration
MOST_SIZE: Final = 1 << 20  # contracts of one print; more is no print
MOST_CONTRACTS_SAID: Final = 1 << 24  # of one option's open interest; more is no number of contracts

Floats = NDArray[np.float64]
_EPOCH: Final = date(1970, 1, 1)


class Spots(NamedTuple):
    """Prices of the underlying, n of them in order of their times.

    Attributes:
        ts_ns: event times.
        price: in points or dollars.
        included: whether one of the very time of a print was before it: a book's is, as its schema's name comes before
            that of option trades, and a stock's quote is not.
    """

    ts_ns: Longs
    price: Floats
    included: bool


class Valued(NamedTuple):
    """Prints as they are understood, n of them in their order.

    Attributes:
        ts_ns: event times.
        slot: of the option on the board.
        size: contracts.
        price: premium.
        sign: +1 a customer bought, -1 sold, 0 unknown.
        how: that is known, of `aggressor.HOW`.
        vol: that the gamma is of; NaN where none is known.
        vol_from: of VOL_FROM.
        gamma: in 1 / GAMMA_SCALE a point of the underlying and contract; UNKNOWN_GAMMA where it is not known.
    """

    ts_ns: Longs
    slot: Keys
    size: Longs
    price: Floats
    sign: Signs
    how: Signs
    vol: Floats
    vol_from: Signs
    gamma: Longs

    def take(self, which: NDArray[np.bool_]) -> "Valued":
        """Return some of the prints."""
        return Valued._make(column[which] for column in self)


class Standing(NamedTuple):
    """The strikes of each expiration that count at a moment, n of them; call and put have one gamma.

    Attributes:
        row: of the strike, in `Board.strikes`.
        terms: as the underlying is now.
        vol: last good of the strike, else of the nearest; NaN where there is none.
        interest: (n, 2) open interest of call and put, contracts.
        volume: (n, 2) contracts printed in the session.
    """

    row: Keys
    terms: Terms
    vol: Floats
    interest: Longs
    volume: Longs


class _Options(NamedTuple):
    """Columns by slot."""

    row: Keys  # of the strike
    pair: Keys  # of expiration and strike
    is_call: NDArray[np.bool_]
    expires_ns: Longs
    counts: NDArray[np.bool_]  # a contract of the usual size, on what is judged
    interest: Longs
    volume: Longs
    snapshot_vol: Floats
    snapshot_ns: Longs


class Board:
    """The options of one underlying.

    Attributes:
        strikes: each once, in the order in which they came.
        interest_known: whether any open interest was said.
        refused: options that were left out since there are MOST_CONTRACTS.
        unnamed: prints of options whose terms are not known; of combinations, say.
    """

    def __init__(self, rules: profile.Options, written_on: str, half_days: Container[date] = ()) -> None:
        """Begin without options.

        Args:
            rules: of the profile.
            written_on: what is judged, a future's contract or a stock's symbol, as definitions name it.
            half_days: dates on which options expire early, see `expiry`.
        """
        self.strikes = np.empty(0)
        self.interest_known = False
        self.refused = self.unnamed = 0
        self._rules, self._written_on, self._half_days = rules, written_on, half_days
        self._slots: dict[str, int] = {}
        self._rows: dict[float, int] = {}
        self._options = _no_options(0)
        self._vols = StrikeVols()
        self._quotes, self._spots = AsOf(2, LATE_NS), AsOf(1, LATE_NS)
        self._memory = aggressor.Memory(rules.iv_weight)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def names(self) -> tuple[str, ...]:
        """The options by slot."""
        return tuple(self._slots)

    @property
    def options(self) -> _Options:
        """Columns by slot."""
        return _Options._make(column[: len(self)] for column in self._options)

    def work(self, snap_ns: int, rows: OptionRows, spots: Spots) -> Valued:
        """Work what a snap has, and return its prints.

        Args:
            snap_ns: the snap.
            rows: up to it.
            spots: of the underlying, up to it.
        """
        self._spots.add(np.zeros(len(spots.ts_ns), np.intp), spots.ts_ns, spots.price[:, None])
        valued = _NO_PRINTS
        if len(rows.definitions.contract):
            self._define(rows.definitions, snap_ns)
        if len(rows.quotes.contract):
            self._quote(rows.quotes, snap_ns)
        if len(rows.prints.contract):
            valued = self._value(rows.prints, snap_ns, included=spots.included)
        if len(rows.greeks.contract):
            self._note_greeks(rows.greeks, snap_ns)
        if len(rows.statistics.contract):
            self._note_statistics(rows.statistics, snap_ns)
        self._quotes.age(snap_ns)
        self._spots.age(snap_ns)
        return valued

    def counted(self, slot: Keys, now_ns: int | Longs) -> NDArray[np.bool_]:
        """Return which options count: of the usual size, on what is judged, alive and within `expiry_days`."""
        expires = self._options.expires_ns[slot]
        return (
            self._options.counts[slot] & (expires > now_ns) & (expires <= now_ns + self._rules.expiry_days * NS_PER_DAY)
        )

    def standing(self, now_ns: int, spot: float) -> Standing:
        """Return what counts at a moment, by expiration and strike in the order in which they came."""
        every = np.arange(len(self))
        slot = every[self.counted(every, now_ns)]
        options = self._options
        pair, first, place = np.unique(options.pair[slot], return_index=True, return_inverse=True)
        interest, volume = np.zeros((len(pair), 2), np.int64), np.zeros((len(pair), 2), np.int64)
        side = (~options.is_call[slot]).astype(np.intp)
        np.add.at(interest, (place, side), np.maximum(options.interest[slot], 0))
        np.add.at(volume, (place, side), options.volume[slot])
        of = slot[first]
        terms = self._terms(of, np.full(len(of), spot), np.full(len(of), now_ns))
        return Standing(options.row[of], terms, self._vols.of(pair), interest, volume)

    def gamma(self, terms: Terms, vol: Floats) -> Floats:
        """Return the gamma of options a point of the underlying's price, which is the spot's; NaN where unknown."""
        growth = fastest_model().exp(self._rules.spot_rate * terms.years)
        gamma: Floats = option_model.value(terms, vol).gamma * growth * growth
        return gamma

    # What is said of options

    def _define(self, rows: Rows, now_ns: int) -> None:
        """Take terms from definitions, which know them best, and redo what was guessed by a name."""
        written = rows.values["underlying"]
        whole = rows.values["unit_of_measure_qty"]
        last = dict(zip(rows.contract.tolist(), range(len(rows.contract)), strict=True))  # of each contract
        for index, at in last.items():
            contracts, said = rows.contracts, int(rows.values["expiration_ns"][at])
            expires = self._expires_ns(contracts, index, said if said > 0 else None)
            if expires is None or np.isnan(contracts.strike[index]) or not contracts.right[index]:
                continue
            usual = np.isnan(whole[at]) or whole[at] == self._rules.multiplier
            known = written[at] is not None
            counts = usual and (written[at] == self._written_on if known else self._is_mine(expires))
            self._put(
                contracts.names[index], float(contracts.strike[index]), bool(contracts.right[index] > 0), expires,
                counts=bool(counts), now_ns=now_ns,
            )  # fmt: skip

    def _slots_of(self, contracts: Contracts, now_ns: int) -> Keys:
        """Return the slot of each contract, -1 of those that have none; who comes first here is given one."""
        return np.array([self._slot_of(contracts, index, now_ns) for index in range(len(contracts.names))], np.intp)

    def _slot_of(self, contracts: Contracts, index: int, now_ns: int) -> int:
        name = contracts.names[index]
        if name in self._slots:
            return self._slots[name]
        strike, right, expires = contracts.strike[index], contracts.right[index], self._expires_ns(contracts, index)
        if np.isnan(strike) or not right or expires is None:
            return -1
        return self._put(name, float(strike), bool(right > 0), expires, counts=self._is_mine(expires), now_ns=now_ns)

    def _is_mine(self, expires: int) -> bool:
        return is_written_on(self._written_on, expires)

    def _expires_ns(self, contracts: Contracts, index: int, defined_ns: int | None = None) -> int | None:
        day = int(contracts.exp_day[index])
        exp_date = None if day == NO_DAY else _EPOCH + timedelta(days=day)
        return expires_ns(contracts.names[index], exp_date, defined_ns=defined_ns, half_days=self._half_days)

    def _put(self, name: str, strike: float, is_call: bool, expires: int, *, counts: bool, now_ns: int) -> int:
        """Return the slot of an option, which has these terms from now on; -1 where there is no place for it."""
        if expires <= now_ns or expires > now_ns + (self._rules.expiry_days + 1) * NS_PER_DAY:
            return -1
        slot = self._slots.get(name, len(self))
        if slot == len(self):
            if slot == MOST_CONTRACTS:
                self.refused += 1
                return -1
            self._slots[name] = slot
            if slot == len(self._options.row):
                more = _no_options(max(slot, 64))
                self._options = _Options(*(np.concatenate(both) for both in zip(self._options, more, strict=True)))
        row = self._rows.setdefault(strike, len(self._rows))
        if row == len(self.strikes):
            self.strikes = np.append(self.strikes, strike)
        options = self._options
        options.row[slot], options.pair[slot], options.is_call[slot] = row, self._vols.pair(expires, strike), is_call
        options.expires_ns[slot], options.counts[slot] = expires, counts
        return slot

    def _quote(self, rows: Rows, now_ns: int) -> None:
        slot = self._slots_of(rows.contracts, now_ns)[rows.contract]
        mine = slot >= 0
        quotes = np.stack([rows.values["bid_px"], rows.values["ask_px"]], axis=1)
        quotes[quotes == 0] = np.nan  # as some vendors send none
        self._quotes.add(slot[mine], rows.ts_ns[mine], quotes[mine])

    def _note_greeks(self, rows: Rows, now_ns: int) -> None:
        """Take the vendor's volatility and open interest; of two of an option the later row's stays."""
        slot = self._slots_of(rows.contracts, now_ns)[rows.contract]
        vol, shares = rows.values["implied_volatility"], rows.values["shares_per_contract"]
        options = self._options
        odd = (slot >= 0) & (shares != 0) & (shares != self._rules.multiplier)
        options.counts[slot[odd]] = False
        said = (slot >= 0) & (vol > 0)
        options.snapshot_vol[slot[said]], options.snapshot_ns[slot[said]] = vol[said], rows.ts_ns[said]
        self._vols.note(options.pair[slot[said]], vol[said])
        self._note_interest(slot, rows.values["open_interest"])

    def _note_statistics(self, rows: Rows, now_ns: int) -> None:
        """Take the exchange's open interest; its volatility where nothing was printed."""
        slot = self._slots_of(rows.contracts, now_ns)[rows.contract]
        kind = rows.values["kind"]
        about = kind == OPEN_INTEREST
        self._note_interest(slot[about], rows.values["quantity"][about])
        price = rows.values["price"]
        said = (slot >= 0) & (kind == VOLATILITY) & (price > 0)
        self._vols.note_where_unknown(self._options.pair[slot[said]], price[said])

    def _note_interest(self, slot: Keys, interest: Longs) -> None:
        said = (slot >= 0) & (interest >= 0)
        self._options.interest[slot[said]] = np.minimum(interest[said], MOST_CONTRACTS_SAID)
        self.interest_known |= bool(said.any())

    # Prints

    def _value(self, rows: Rows, now_ns: int, *, included: bool) -> Valued:
        slot = self._slots_of(rows.contracts, now_ns)[rows.contract]
        price, size = rows.values["price"], rows.values["size"]
        whole = (slot >= 0) & (price > 0) & (size > 0)
        self.unnamed += int((slot < 0).sum())
        slot, ts_ns, price = slot[whole], rows.ts_ns[whole], price[whole]
        size = np.minimum(size[whole], MOST_SIZE).astype(np.int64)
        if not len(slot):
            return _NO_PRINTS
        spot = self._spots.at(np.zeros(len(slot), np.intp), ts_ns, included=included)[:, 0]
        spot[~self._options.counts[slot]] = np.nan
        terms = self._terms(slot, spot, ts_ns)
        own = option_model.implied(terms, price, self._rules.tick)
        sign, how = self._classified(rows, whole, slot, ts_ns, price, own)
        vol, vol_from = self._valued_at(slot, ts_ns, terms, price, own)
        gamma = self.gamma(terms, vol)
        np.add.at(self._options.volume, slot, size)
        fixed = np.rint(np.minimum(gamma, MOST_GAMMA) * GAMMA_SCALE)
        gamma_fixed = np.where(np.isnan(gamma), UNKNOWN_GAMMA, fixed).astype(np.int64)
        return Valued(ts_ns, slot, size, price, sign, how, vol, vol_from, gamma_fixed)

    def _terms(self, slot: Keys, spot: Floats, now_ns: Longs) -> Terms:
        options = self._options
        years, exp = option_model.years_between(now_ns, options.expires_ns[slot]), fastest_model().exp
        years = np.clip(years, -1.0, 1.0)
        discount, forward = exp(-self._rules.rate * years), spot * exp(self._rules.spot_rate * years)
        return Terms(forward, self.strikes[options.row[slot]], years, discount, options.is_call[slot])

    def _classified(
        self, rows: Rows, whole: NDArray[np.bool_], slot: Keys, ts_ns: Longs, price: Floats, own: Floats
    ) -> tuple[Signs, Signs]:
        quoted = self._quotes.at(slot, ts_ns)
        bid, ask = rows.values["opt_bid"][whole], rows.values["opt_ask"][whole]
        unsaid = np.isnan(bid) & np.isnan(ask)
        bid, ask = np.where(unsaid, quoted[:, 0], bid), np.where(unsaid, quoted[:, 1], ask)
        iv = np.where(np.isnan(own), NO_IV, np.rint(own * IV_UNIT)).astype(np.int64)
        mean, tick = self._memory.follow(slot, price, iv)
        said = rows.values["aggressor"][whole].astype(np.int8)
        return aggressor.classify(aggressor.Told(said, price, bid, ask, iv, mean, tick))

    def _valued_at(self, slot: Keys, ts_ns: Longs, terms: Terms, price: Floats, own: Floats) -> tuple[Floats, Signs]:
        """Return the volatility that each print's gamma is of, and where it is from; and remember the strikes' last."""
        options, rules = self._options, self._rules
        pair = options.pair[slot]
        good = ~np.isnan(own) & (_time_value(terms, price) >= (rules.least_time_value_ticks - 1e-6) * rules.tick)
        printed = latest(pair, good)
        vol = np.where(printed >= 0, own[printed], self._vols.last[pair])
        vol_from = np.where(good, PRINT, STRIKE).astype(np.int8)
        said = options.snapshot_vol[slot]
        fresh = (ts_ns - options.snapshot_ns[slot] <= rules.greeks_s * NS_PER_SECOND) & ~np.isnan(said)
        vol[fresh], vol_from[fresh] = said[fresh], SNAPSHOT
        missing = np.isnan(vol)
        if missing.any():
            vol[missing] = self._vols.of(pair[missing])
            vol_from[missing] = np.where(np.isnan(vol[missing]), NONE, NEAR)
        vol_from[np.isnan(terms.forward)] = NONE
        self._vols.note(pair[good], own[good])
        return vol, vol_from


_NO_PRINTS: Final = Valued(
    np.empty(0, np.int64), np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int8),
    np.empty(0, np.int8), np.empty(0), np.empty(0, np.int8), np.empty(0, np.int64),
)  # fmt: skip


def _time_value(terms: Terms, price: Floats) -> Floats:
    ahead = np.where(terms.is_call, terms.forward - terms.strike, terms.strike - terms.forward)
    value: Floats = price - terms.discount * np.maximum(ahead, 0.0)
    return value


def _no_options(count: int) -> _Options:
    return _Options(
        np.zeros(count, np.intp), np.zeros(count, np.intp), np.zeros(count, np.bool_), np.zeros(count, np.int64),
        np.zeros(count, np.bool_), np.full(count, -1), np.zeros(count, np.int64), np.full(count, np.nan),
        np.full(count, -(2**62)),
    )  # fmt: skip
