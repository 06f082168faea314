"""What becomes of a step's tapes before they are sent: merged by time, option prints among them, some late or twice."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spymaster.simulation.book import BOOK_WORDS, Tape, cut, interleave
from spymaster.simulation.dbn import OUTRIGHT_TICK_E9
from spymaster.simulation.held import ASK, BID
from spymaster.simulation.options import ES_TICK_E9, OptionTrades
from spymaster.simulation.stock import Path, StockTrades

LEAST_LATE_NS: Final = 100_000_000
LATE_SPAN_NS: Final = 300_000_000


def path_of(begin: int, tapes: Sequence[Tape], bid: int) -> Path:
    """Return the front month's best bid through a step, which ends at `bid`."""
    happened = [tape for tape in tapes if len(tape.arrival_ns)]
    if not happened:
        return Path(np.array([begin]), np.array([bid]))
    first, *bids = (
        tape.levels[rows, 0].view(np.int64) // OUTRIGHT_TICK_E9
        for tape, rows in [(happened[0], happened[0].before[:1]), *((tape, tape.after) for tape in happened)]
    )
    return Path(np.concatenate([[begin], *(tape.arrival_ns for tape in happened)]), np.concatenate([first, *bids]))


def merge(front: Sequence[Tape], others: Sequence[Tape], begin: int, end: int) -> Iterator[Tape]:
    """Sort the events of other instruments into the front month's blocks, of a step [begin, end)."""
    if not front:
        if others:
            yield interleave(others)
        return
    edges = [begin, *(int(tape.arrival_ns[0]) for tape in front[1:] if len(tape.arrival_ns)), end]
    blocks = [tape for i, tape in enumerate(front) if i == 0 or len(tape.arrival_ns)]
    for tape, first, last in zip(blocks, edges[:-1], edges[1:], strict=True):
        yield interleave([tape, *(cut(other, first, last) for other in others)])


def option_tape(trades: OptionTrades, inside: int) -> Tape:
    """Return what DBN carries of trades of ES options: prints alone.

    Args:
        trades: what happened.
        inside: the side of a print between bid and ask, which nobody began.
    """
    n = len(trades.arrival_ns)
    none = np.zeros(n, np.int64)
    return Tape(
        arrival_ns=trades.arrival_ns,
        instrument=3 + trades.number,
        side=np.choose(trades.side + 1, (ASK, inside, BID)),
        depth=none,
        price_e9=trades.price * ES_TICK_E9,
        action=np.full(n, b"T"),
        size=trades.size,
        traded=trades.size,
        before=none,
        after=none,
        late_ns=trades.late_ns,
        repeated=trades.repeated,
        print_only=np.ones(n, np.bool_),
        last=np.ones(n, np.bool_),
        levels=np.zeros((1, BOOK_WORDS), np.uint64),
    )


def repeated(trades: OptionTrades) -> OptionTrades:
    """Send every fourth trade twice."""
    row = np.repeat(np.arange(len(trades.seq)), 1 + (trades.seq % 4 == 0))
    return OptionTrades._make([*(column[row] for column in trades[:-1]), np.diff(row, prepend=-1) == 0])


def late_tape(tapes: Sequence[Tape], end: int, share: int) -> Tape:
    """Let `share` of 256 events arrive 100 to 400 ms after they happened, but before `end`; all in order of arrival."""
    tape = interleave(tapes)
    late_ns, order = _lateness(tape.arrival_ns, end, share)
    tape = tape._replace(late_ns=late_ns, arrival_ns=tape.arrival_ns + late_ns)
    return Tape._make([*(column[order] for column in tape[:-1]), tape.levels])


def late_options(trades: OptionTrades, end: int, share: int) -> OptionTrades:
    """Do with prints what `late_tape` does with events."""
    late_ns, order = _lateness(trades.arrival_ns, end, share)
    trades = trades._replace(late_ns=late_ns, arrival_ns=trades.arrival_ns + late_ns)
    return OptionTrades._make(column[order] for column in trades)


def late_stock(trades: StockTrades, end: int, share: int) -> StockTrades:
    """Do with prints what `late_tape` does with events."""
    late_ns, order = _lateness(trades.arrival_ns, end, share)
    trades = trades._replace(late_ns=late_ns, arrival_ns=trades.arrival_ns + late_ns)
    return StockTrades._make(column[order] for column in trades)


def _lateness(happened: NDArray[np.int64], end: int, share: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw by how much each event is late, and return the order of arrival too. Events of one instant stay together.

    One that cannot arrive `LEAST_LATE_NS` later and before `end` is in time: at the end, all such would come at once.
    """
    drawn = happened.astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)  # modulo 2^64: a hash, not a generator
    span = np.minimum(end - happened - LEAST_LATE_NS, LATE_SPAN_NS)
    late_ns = LEAST_LATE_NS + (drawn >> np.uint64(16)).astype(np.int64) % np.maximum(span, 1)
    late_ns = np.where((drawn >> np.uint64(56) < share) & (span > 0), late_ns, 0)
    return late_ns, np.argsort(happened + late_ns, kind="stable")
