"""What the vendor's numbers in statistics and status mean. Pure.

Why they stand here, though the vendor's library names them too: what is in the lake is not to change its name when the
library is upgraded. A test compares them.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from spymaster.normalize.databento.records import STATISTICS, STATUS, Records

_STATISTICS: Final = {
    1: "opening_price",
    2: "indicative_opening_price",
    3: "settlement_price",
    4: "trading_session_low_price",
    5: "trading_session_high_price",
    6: "cleared_volume",
    7: "lowest_offer",
    8: "highest_bid",
    9: "open_interest",
    10: "fixing_price",
    11: "close_price",
    12: "net_change",
    13: "vwap",
    14: "volatility",
    15: "delta",
    16: "uncrossing_price",
    17: "upper_price_limit",
    18: "lower_price_limit",
    19: "block_volume",
    20: "indicative_close_price",
    21: "mwcb_level_1",
    22: "mwcb_level_2",
    23: "mwcb_level_3",
    24: "auction_collar_reference_price",
    25: "auction_collar_upper_price",
    26: "auction_collar_lower_price",
    10001: "venue_specific_volume_1",
    10002: "venue_specific_price_1",
}
_ACTIONS: Final = dict(
    enumerate(
        (
            "none", "pre_open", "pre_cross", "quoting", "cross", "rotation", "new_price_indication", "trading", "halt",
            "pause", "suspend", "pre_close", "close", "post_close", "ssr_change", "not_available_for_trading",
        )
    )
)  # fmt: skip
_REASONS: Final = {
    0: "none",
    1: "scheduled",
    2: "surveillance_intervention",
    3: "market_event",
    4: "instrument_activation",
    5: "instrument_expiration",
    6: "recovery_in_process",
    10: "regulatory",
    11: "administrative",
    12: "non_compliance",
    13: "filings_not_current",
    14: "sec_trading_suspension",
    15: "new_issue",
    16: "issue_available",
    17: "issues_reviewed",
    18: "filing_reqs_satisfied",
    30: "news_pending",
    31: "news_released",
    32: "news_and_resumption_times",
    33: "news_not_forthcoming",
    40: "order_imbalance",
    50: "luld_pause",
    60: "operational",
    70: "additional_information_requested",
    80: "merger_effective",
    90: "etf",
    100: "corporate_action",
    110: "new_security_offering",
    120: "market_wide_halt_level1",
    121: "market_wide_halt_level2",
    122: "market_wide_halt_level3",
    123: "market_wide_halt_carryover",
    124: "market_wide_halt_resumption",
    130: "quotation_not_available",
}
_TRADING_EVENTS: Final = dict(
    enumerate(("none", "no_cancel", "change_trading_session", "implied_matching_on", "implied_matching_off"))
)
# By our column of the name.
CODES: Final = {"kind": _STATISTICS, "action": _ACTIONS, "reason": _REASONS, "trading_event": _TRADING_EVENTS}
# Of a kind of records the fields that hold codes, and our columns of their names.
_FIELDS: Final = {
    STATISTICS: {"stat_type": "kind"},
    STATUS: {"action": "action", "reason": "reason", "trading_event": "trading_event"},
}


class UnknownCode(NamedTuple):
    """A number that we know no name of, in a column."""

    kind: int
    column: str
    number: int


def unknown_codes(kind: int, records: Records) -> Iterator[UnknownCode]:
    """Yield the first unknown number of each column of some records."""
    for field, column in _FIELDS.get(kind, {}).items():
        for number in np.unique(records[field]).tolist():
            if number not in CODES[column]:
                yield UnknownCode(kind, column, number)
                break
