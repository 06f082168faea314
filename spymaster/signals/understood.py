"""Option prints as the option model understood them, worked again snap after snap: their customers' side, their gamma.

It is the engines' own board, as a print's gamma needs the volatilities, quotes and prices of all that came before it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spymaster.engines.board import UNKNOWN_GAMMA, Board, Spots, Valued
from spymaster.engines.intake import Piece
from spymaster.engines.ledger import SNAP_NS, Longs
from spymaster.engines.option_rows import option_rows
from spymaster.engines.profile import Profile
from spymaster.engines.rows import BOOK, NO_PRICE, SNAPSHOT, book_rows, in_order, joined, values_of
from spymaster.engines.session import Session
from spymaster.engines.stock import Stock
from spymaster.events import FUTURES_MBP10, OPTIONS_TRADES
from spymaster.signals.sums import OptionPrint
from spymaster.signals.warm_up import half_days_from


class Understood:
    """The option prints of one session; those of the snaps after a time are kept.

    Attributes:
        prints: of options that count, in their order.
        lost: prints of which no row was found: their names were read otherwise.
    """

    def __init__(self, profile: Profile, session: Session, contract: str, since_ns: int) -> None:
        """Begin without options.

        Args:
            profile: the numbers.
            session: the session.
            contract: its front month.
            since_ns: prints of later snaps are kept.
        """
        self.prints: list[OptionPrint] = []
        self.lost = 0
        self._profile, self._session, self._contract, self._since_ns = profile, session, contract, since_ns
        stock_s = profile.book.ratio_s
        self._stock = None if stock_s is None else Stock(session, profile.market.tick, profile.score.stale_s, stock_s)
        written_on = contract if self._stock is None else profile.market.underlying
        self._board = Board(profile.options, written_on, half_days_from(session))

    def work(self, piece: Piece, quotes_from_ns: int | None) -> None:
        """Work what a snap had.

        Args:
            piece: all of it.
            quotes_from_ns: a stock's quotes of before say nothing of now; None where none is missing.
        """
        rows = option_rows(piece.batches, self._session.begin_ns)
        valued = self._board.work(piece.snap_ns, rows, self._spots(piece, quotes_from_ns))
        if piece.snap_ns > self._since_ns and len(valued.slot):
            self._keep(piece, valued)

    def _spots(self, piece: Piece, quotes_from_ns: int | None) -> Spots:
        """Return the prices of the underlying, as the judge has them."""
        half_tick = self._profile.market.tick / 2
        if self._stock is not None:
            self._stock.work(piece.snap_ns, piece.batches, quotes_from_ns)
            ts_ns, mids = self._stock.mids
            return Spots(ts_ns, np.multiply(mids, half_tick, dtype=np.float64), included=False)
        rows, _ = book_rows(piece.batches.get(FUTURES_MBP10.name, []), self._contract, self._profile.book.tick)
        sound = (rows.kind == BOOK) & (rows.bid_px[:, 0] != NO_PRICE) & (rows.bid_px[:, 0] < rows.ask_px[:, 0])
        sound &= (rows.ts_ns >= self._session.begin_ns) | (rows.kind == SNAPSHOT)
        mids = rows.bid_px[sound, 0].astype(np.int64) + rows.ask_px[sound, 0]
        return Spots(rows.ts_ns[sound], np.multiply(mids, half_tick, dtype=np.float64), included=True)

    def _keep(self, piece: Piece, valued: Valued) -> None:
        board, places = self._board, self._places(piece)
        if len(places) != len(valued.slot):
            self.lost += len(valued.slot)
            return
        names, counted = board.names, board.counted(valued.slot, valued.ts_ns)
        strikes = board.strikes[board.options.row[valued.slot]]
        least = -(2**62) if piece.since_ns is None else piece.since_ns + SNAP_NS
        for at in np.flatnonzero(counted).tolist():
            ts_ns, gamma = int(valued.ts_ns[at]), int(valued.gamma[at])
            step_ns = max(-(-ts_ns // SNAP_NS) * SNAP_NS, least)
            self.prints.append(
                OptionPrint(
                    int(places[at]), step_ns, ts_ns, names[valued.slot[at]], float(strikes[at]),
                    float(valued.price[at]), int(valued.size[at]), int(valued.sign[at]),
                    None if gamma == UNKNOWN_GAMMA else gamma,
                )
            )  # fmt: skip

    def _places(self, piece: Piece) -> Longs:
        """Return the places of the prints that the board took, in its order."""
        batch = joined(piece.batches[OPTIONS_TRADES.name])
        ts_ns, capture, places = (
            batch.column(name).to_numpy() for name in ("ts_event_ns", "capture_id", "capture_seq")
        )
        order = in_order(ts_ns, capture, places)
        order = np.arange(len(places)) if order is None else order
        price, size = (values_of(batch.column(name)) for name in ("price", "size"))
        known: NDArray[Any] = np.isin(batch.column("option_symbol").to_numpy(zero_copy_only=False), self._board.names)
        taken = known & (price > 0) & (size > 0) & (ts_ns >= self._session.begin_ns)
        found: Longs = places[order[taken[order]]]
        return found
