"""What is true of each option print, and no vendor says: who was the aggressor. One JSON object a line.

    {"kind": "option_trade", "instrument": the vendor's symbol, "ts_event_ns": when it happened, "price", "size",
     "seq": the sequence number of its record or frame, "side": "buy", "sell", or null for a print inside}

Of a print that is sent twice one line tells. Lines are written before what they tell of is sent, so that where a
delivery is cut short, some tell of prints that never came.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.simulation.book import Tape
from spymaster.simulation.dbn import Listing, Records
from spymaster.simulation.massive_json import cents, digits, join, texts
from spymaster.simulation.options import OptionTrades

Tell = Callable[[bytes], None]  # appends whole lines to the truth

_SEQUENCE_WORD: Final = 5  # of a record, the upper half of which is its sequence number
_SIDES = pa.array(['"sell"}\n', "null}\n", '"buy"}\n'])


def twentieths(value: int) -> str:
    """Write ticks of an ES option as points."""
    return repr(value / 20)


def print_truth(
    trades: OptionTrades, symbols: pa.Array, seq: NDArray[np.int64], price: Callable[[int], str] = cents
) -> bytes:
    """Return the lines of prints, whose sequence numbers are `seq`."""
    lines = join(
        '{"kind":"option_trade","instrument":"', symbols.take(trades.number), '","ts_event_ns":',
        digits(trades.arrival_ns - trades.late_ns), texts(trades.price, price, ',"price":'),
        texts(trades.size, str, ',"size":'), ',"seq":', digits(seq), ',"side":', _SIDES.take(trades.side + 1),
    )  # fmt: skip
    whole: Any = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), "")
    return str(whole[0].as_py()).encode()


class EsPrints:
    """Tells what is true of ES options' prints as their records are written, whose sequence numbers are theirs."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._listing: Listing | None = None
        self._symbols = pa.array([], pa.string())
        self._trades: OptionTrades | None = None
        self._told = 0

    def begin(self, listing: Listing, trades: OptionTrades | None) -> None:
        """Turn to the prints of a step."""
        if listing is not self._listing:
            self._listing, self._symbols = listing, pa.array(listing.options.symbols())
        once = trades is not None and ~trades.repeated
        self._trades = None if trades is None else OptionTrades._make(column[once] for column in trades)
        self._told = 0

    def tell(self, tape: Tape, records: Records) -> None:
        """Tell of the prints of the step's next tape, given its records."""
        told = tape.print_only & ~tape.repeated
        first = np.concatenate([[0], records.ends[:-1] // 8])[: len(told)][told]
        if self._trades is None or not len(first):
            return
        seq = (np.frombuffer(records.data, np.uint64)[first + _SEQUENCE_WORD] >> np.uint64(32)).astype(np.int64)
        begin, self._told = self._told, self._told + len(first)
        prints = OptionTrades._make(column[begin : self._told] for column in self._trades)
        self._tell(print_truth(prints, self._symbols, seq, twentieths))
