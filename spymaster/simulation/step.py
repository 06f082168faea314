"""A step of the simulated market: what happened between two times, before anybody writes it in a vendor's format."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spymaster.simulation.book import Tape
from spymaster.simulation.dbn import Listing
from spymaster.simulation.exchange import Numbers
from spymaster.simulation.option_quotes import OptionQuotes
from spymaster.simulation.options import Board, OptionTrades
from spymaster.simulation.stock import StockQuotes, StockTrades


@dataclass
class Step:
    """What happened within [begin, end)."""

    begin: int
    end: int
    listing: Listing
    spy: Board
    spy_open_interest: NDArray[np.int64]
    opened: bool = False  # a day began: its instruments are announced first
    halted: bool | None = None  # True where a halt begins, False where it ends
    tapes: list[Tape] = field(default_factory=list)  # of everything that DBN carries, one after another
    quotes: StockQuotes | None = None
    trades: StockTrades | None = None
    options: OptionTrades | None = None
    es_options: OptionTrades | None = None
    spy_quotes: OptionQuotes | None = None
    es_quotes: OptionQuotes | None = None
    said: Numbers | None = None  # what the exchange says at the begin
    chain_spot_e4: int | None = None  # a snapshot of the chain is due at the begin, while SPY is at this price
    repeating: bool = False  # the last message of each kind is sent once more
