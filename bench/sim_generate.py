"""How fast the simulated market is generated: events per second of each kind, and 500,000 or more overall.

An event is a DBN record of a book, a trade or an option quote, an event of a frame, or a contract of a chain. Time is
the processor's, not the wall's, so that neighbours on a shared machine count less; the market itself is shared by all
four deliveries, so a kind's own figure is what its writer alone makes of it.

A piece is what keeps the event loop from its other tasks: some milliseconds. Of a round's pieces the median, the 99th
percentile and the longest are shown; the longest has the machine's interruptions in it.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.rounds import report, spread
from spymaster.simulation.deliveries import ChainWriter, DbnWriter, OptionWriter, StockWriter, Writer
from spymaster.simulation.source import SimulatedMarket
from spymaster.simulation.step import Step

START_NS = 1_766_419_200_000_000_000  # 2025-12-22 16:00 UTC
RATES = (2_000, 200_000)
ROUNDS, ROUND_S = 3, 3.0


def events(step: Step) -> dict[str, int]:
    quotes = 0 if step.quotes is None else len(step.quotes.seq)
    trades = 0 if step.trades is None else len(step.trades.seq)
    es_quotes, spy_quotes = (0 if one is None else len(one.seq) for one in (step.es_quotes, step.spy_quotes))
    return {
        "dbn": sum(int((1 + 2 * (tape.traded > 0) * ~tape.print_only).sum()) for tape in step.tapes) + es_quotes,
        "stock": quotes + trades,
        "options": spy_quotes + (0 if step.options is None else len(step.options.seq)),
        "chain": step.spy.count if step.chain_spot_e4 is not None else 0,
    }


def timed(work: Iterator[Any], pieces_s: list[float]) -> Iterator[Any]:
    """Pass on what the work yields, and append how long each piece took."""
    while True:
        begin = time.process_time()
        try:
            piece = next(work)
        except StopIteration:
            return
        finally:
            pieces_s.append(time.process_time() - begin)
        yield piece


def measure(rate: int) -> dict[str, float]:
    writers: dict[str, Writer] = {
        "dbn": DbnWriter(1), "stock": StockWriter(), "options": OptionWriter(), "chain": ChainWriter(),
    }  # fmt: skip
    pieces_s: dict[str, list[float]] = {kind: [] for kind in (*writers, "market")}
    steps = timed(SimulatedMarket(1, rate, START_NS).session(with_spy=True).pieces(), pieces_s["market"])
    first = next(step for step in steps if step is not None)  # lists the day's instruments, once a day
    for writer in writers.values():
        list(writer.write(first))
    pieces_s["market"].clear()
    count = dict.fromkeys(writers, 0)
    while sum(map(sum, pieces_s.values())) < ROUND_S:
        step = next(step for step in steps if step is not None)
        for kind, writer in writers.items():
            list(timed(writer.write(step), pieces_s[kind]))
        for kind, number in events(step).items():
            count[kind] += number
    seconds = {kind: sum(taken) for kind, taken in pieces_s.items()}
    total = sum(count.values())
    figures = {f"{kind}_written_per_s": count[kind] / seconds[kind] for kind in writers if count[kind]}
    figures |= {"market_advanced_per_s": total / seconds["market"], "events_per_s": total / sum(seconds.values())}
    pieces_s["any"] = [one for taken in pieces_s.values() for one in taken]
    for kind, taken in pieces_s.items():
        middle, late, longest = np.percentile(np.array(taken) * 1_000, [50, 99, 100]).tolist()
        figures |= {f"{kind}_piece_median_ms": middle, f"{kind}_piece_p99_ms": late, f"{kind}_piece_max_ms": longest}
    return figures


def main() -> None:
    measure(RATES[-1])
    results: dict[str, object] = {f"rate_{rate}": spread([measure(rate) for _ in range(ROUNDS)]) for rate in RATES}
    report(">= 500,000 events/s are generated, all kinds together", results)


if __name__ == "__main__":
    main()
