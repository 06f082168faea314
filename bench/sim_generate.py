"""How fast the simulated market is generated: events per second of each kind, and 500,000 or more overall.

An event is a DBN record of futures or options, a quote, a trade, or a contract of a chain snapshot. Time is the
processor's, not the wall's, so that neighbours on a shared machine count less; the market itself is shared by all four
deliveries, so a kind's own figure is what its writer alone makes of it.
"""

import time

from bench.rounds import report, spread
from spymaster.feeds.sim import SimulatedMarket
from spymaster.feeds.sim_deliveries import ChainWriter, DbnWriter, OptionWriter, StockWriter, Writer
from spymaster.feeds.sim_market import Step

START_NS = 1_766_419_200_000_000_000  # 2025-12-22 16:00 UTC
RATES = (2_000, 200_000)
ROUNDS, ROUND_S = 3, 2.0


def events(step: Step) -> dict[str, int]:
    quotes = 0 if step.quotes is None else len(step.quotes.seq)
    trades = 0 if step.trades is None else len(step.trades.seq)
    return {
        "dbn": sum(int((1 + 2 * (tape.traded > 0) * ~tape.print_only).sum()) for tape in step.tapes),
        "stock": quotes + trades,
        "options": 0 if step.options is None else len(step.options.seq),
        "chain": step.spy.count if step.chain_spot_e4 is not None else 0,
    }


def measure(rate: int) -> dict[str, float]:
    writers: dict[str, Writer] = {
        "dbn": DbnWriter(1), "stock": StockWriter(), "options": OptionWriter(), "chain": ChainWriter(),
    }  # fmt: skip
    steps = SimulatedMarket(1, rate, START_NS).session(with_spy=True).steps()
    seconds, count = dict.fromkeys((*writers, "market"), 0.0), dict.fromkeys(writers, 0)
    first = next(steps)  # lists the day's instruments, once a day
    for writer in writers.values():
        writer.write(first)
    while sum(seconds.values()) < ROUND_S:
        begin = time.process_time()
        step = next(steps)
        seconds["market"] += time.process_time() - begin
        for name, writer in writers.items():
            begin = time.process_time()
            writer.write(step)
            seconds[name] += time.process_time() - begin
        for name, number in events(step).items():
            count[name] += number
    written = {f"{name}_written_per_s": count[name] / seconds[name] for name in writers if count[name]}
    total = sum(count.values())
    return written | {
        "market_advanced_per_s": total / seconds["market"],
        "events_per_s": total / sum(seconds.values()),
    }


def main() -> None:
    measure(RATES[-1])
    results: dict[str, object] = {f"rate_{rate}": spread([measure(rate) for _ in range(ROUNDS)]) for rate in RATES}
    report(">= 500,000 events/s are generated, all kinds together", results)


if __name__ == "__main__":
    main()
