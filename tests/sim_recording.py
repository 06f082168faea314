"""A span of the simulated market as its four deliveries carry it, read back from the bytes alone."""

import json
from functools import cached_property
from typing import Any

import databento_dbn
import numpy as np

from spymaster.clock import NS_PER_SECOND
from spymaster.simulation.deliveries import ChainWriter, DbnWriter, OptionWriter, StockWriter
from spymaster.simulation.plant import Truth
from spymaster.simulation.source import SimulatedMarket
from spymaster.simulation.step import Step

NOON = 1_764_694_800 * NS_PER_SECOND  # 2025-12-02 17:00 UTC, of New York, in normal activity
TRADE, MBP1, MBP10, STATUS, DEFINITION, MAPPING, STATISTIC = 0, 1, 10, 18, 19, 22, 24
DTYPES = {
    MBP1: np.dtype(databento_dbn.MBP1Msg._dtypes),
    STATISTIC: np.dtype(databento_dbn.StatMsg._dtypes),
    TRADE: np.dtype(databento_dbn.TradeMsg._dtypes),
    MBP10: np.dtype(databento_dbn.MBP10Msg._dtypes),
    STATUS: np.dtype(databento_dbn.StatusMsg._dtypes),
    DEFINITION: np.dtype(databento_dbn.InstrumentDefMsg._dtypes),
    MAPPING: np.dtype(databento_dbn.SymbolMappingMsg._dtypes),
}


class Recorded:
    """What four readers of one market got, until `seconds` are over or so many scenarios have come to an end."""

    def __init__(
        self,
        seed: int,
        rate: int,
        seconds: float,
        *,
        start: int = NOON,
        plant: tuple[str, ...] = (),
        truths: int = 99,
        strength: float = 1.0,
        price: str = "usual",
    ) -> None:
        self.steps: list[Step] = []
        self.dbn: list[bytes] = []
        self.stock: list[bytes] = []
        self.options: list[bytes] = []
        self.chain: list[bytes] = []
        session = SimulatedMarket(seed, rate, start, plant, strength, price).session(with_spy=True)
        told: list[bytes] = []
        writers: list[Any] = [DbnWriter(seed, told.append), StockWriter(), OptionWriter(told.append), ChainWriter()]
        for step in session.steps():
            if step.begin >= start + int(seconds * NS_PER_SECOND):
                break
            self.steps.append(step)
            for writer, sent in zip(writers, (self.dbn, self.stock, self.options, self.chain), strict=True):
                for messages in writer.write(step):
                    sent.extend(messages)
            if len(session.truths) >= truths:
                break
        self.truths: list[Truth] = list(session.truths)
        self.prints: list[Truth] = [json.loads(line) for lines in told for line in lines.splitlines()]

    @cached_property
    def offsets(self) -> dict[int, Any]:
        """Where each kind of record begins in the joined DBN bytes."""
        data, found, at = b"".join(self.dbn), {kind: [] for kind in DTYPES}, 0
        while at < len(data):
            found[data[at + 1]].append(at)
            at += data[at] * 4
        return {kind: np.array(offsets, np.int64) for kind, offsets in found.items()}

    def records(self, kind: int) -> Any:
        data = np.frombuffer(b"".join(self.dbn), np.uint8)
        rows = np.lib.stride_tricks.sliding_window_view(data, DTYPES[kind].itemsize)[self.offsets[kind]]
        return np.ascontiguousarray(rows).view(DTYPES[kind]).reshape(-1)

    def front_books(self) -> Any:
        """The front month's MBP-10 records: the instrument that most are of."""
        books = self.records(MBP10)
        return books[books["instrument_id"] == np.bincount(books["instrument_id"]).argmax()]

    def events(self, channel: str) -> list[dict[str, Any]]:
        """The events of `Q.SPY`, `T.SPY`, `T.O:SPY` or `Q.O:SPY`, in the order in which they came."""
        kind, _, symbol = channel.partition(".")
        messages = self.options if symbol.startswith("O:") else self.stock
        return [event for message in messages for event in json.loads(message) if event["ev"] == kind]

    def contracts(self) -> list[dict[str, Any]]:
        return [contract for page in self.chain for contract in json.loads(page)["results"]]

    def joined(self, name: str) -> Any:
        """A column of all steps' option trades (`options.price`), as the market itself has it."""
        tape, _, column = name.partition(".")
        tapes = [getattr(step, tape) for step in self.steps]
        return np.concatenate([getattr(tape, column) for tape in tapes if tape is not None])
