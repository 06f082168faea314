"""A trading day as the engines know it: a handful of boundaries, which come in as data.

Who builds one asks the exchanges' calendar and New York's clock; here are integers, and no zone.
"""

from typing import Final, NamedTuple

from spymaster.clock import NS_PER_SECOND

NS_PER_MINUTE: Final = 60 * NS_PER_SECOND
_PREMARKET_MINUTES: Final = 330  # from 04:00 to 09:30; clocks change at 02:00 at the latest
_OPENING_RANGE_MINUTES: Final = 15
_INITIAL_BALANCE_MINUTES: Final = 60

Span = tuple[int, int]  # UTC nanoseconds, half-open


class Session(NamedTuple):
    """One session; times are UTC nanoseconds, spans half-open.

    Attributes:
        date: the trading day as the exchange names it, YYYY-MM-DD.
        begin_ns: where every memory of the engines begins anew.
        end_ns: its end.
        rth_begin_ns: 09:30 in New York; `end_ns` on a day without regular hours.
        rth_end_ns: 16:00, 13:00 on a half day; `end_ns` on a day without.
    """

    date: str
    begin_ns: int
    end_ns: int
    rth_begin_ns: int
    rth_end_ns: int

    @property
    def rth(self) -> Span:
        """The regular trading hours."""
        return self.rth_begin_ns, self.rth_end_ns

    @property
    def overnight(self) -> Span:
        """From the session's begin to the regular hours; all of a session without."""
        return self.begin_ns, self.rth_begin_ns

    @property
    def premarket(self) -> Span:
        """04:00 to 09:30 in New York, empty on a day without regular hours."""
        minutes = _PREMARKET_MINUTES if self.rth_begin_ns < self.rth_end_ns else 0
        return self.rth_begin_ns - minutes * NS_PER_MINUTE, self.rth_begin_ns

    @property
    def opening_range(self) -> Span:
        """The first 15 minutes of the regular hours."""
        return self._opening(_OPENING_RANGE_MINUTES)

    @property
    def initial_balance(self) -> Span:
        """The first hour of the regular hours."""
        return self._opening(_INITIAL_BALANCE_MINUTES)

    def _opening(self, minutes: int) -> Span:
        return self.rth_begin_ns, min(self.rth_begin_ns + minutes * NS_PER_MINUTE, self.rth_end_ns)
