"""A simulated market that speaks the vendors' own formats, so that everything after it runs without an account.

The source `sim:seed=1,rate=2000,start=...,plant=walls+sweeps,strength=0.5,price=calm,truth=PATH`. What is sent is a
function of all but the last alone. Nothing here waits: whoever reads paces by event time.

Of one market there are four deliveries: ES futures and options as DBN, SPY's trades and quotes, trades and quotes of
SPY's options, and SPY's option chain as Massive JSON. `open_market` gives all four, a feed each, because each is a
capture of its own and they run at the same time; `SimFeed` is the first alone. To `rate` DBN records a second come 0.1
times as many of quotes of ES options, which `rate` does not count, 0.94 times as many events of SPY and its options,
and the chain every ten seconds.
"""

import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from spymaster.clock import NS_PER_SECOND, utc_now_ns, utc_ns, utc_text
from spymaster.errors import UsageError
from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS
from spymaster.events.encoding import Dbn, MassiveFrames, MassivePages
from spymaster.feeds.feed import DeliveryInfo, Feed, Frontiers
from spymaster.simulation.dbn import live_header
from spymaster.simulation.deliveries import (
    ChainWriter,
    DbnWriter,
    Lockstep,
    OptionWriter,
    SimDelivery,
    StockWriter,
)
from spymaster.simulation.market import Session
from spymaster.simulation.plant import USUAL_PRICE, Truth, parse_plant, parse_price, parse_strength

MAX_RATE = 1_000_000
_OPTIONS = ("seed", "rate", "start", "plant", "strength", "price", "truth")
_EARLIEST_NS, _LATEST_NS = 946_684_800 * NS_PER_SECOND, 4_102_444_800 * NS_PER_SECOND  # the years 2000 to 2099


@dataclass(frozen=True)
class SimulatedMarket:
    """The market that a seed, a rate, a start and what is planted describe."""

    seed: int
    rate: int  # DBN records a second of event time, all kinds together, on average in normal activity
    start_ns: int
    plant: tuple[str, ...] = ()
    strength: float = 1.0  # by which what is planted is multiplied, more than 0 and up to 1
    price: str = USUAL_PRICE  # how often the price moves, see MOVES_PER_MINUTE

    def symbols(self) -> tuple[str, ...]:
        """Return the instruments of its first day."""
        listing = next(self.session(with_spy=False).steps()).listing
        return (*listing.symbols, *listing.options.symbols())

    def session(self, *, with_spy: bool) -> Session:
        """Begin the market; always the same one. Without SPY, what DBN carries is still the same."""
        return Session(
            self.seed, self.rate, self.start_ns, self.plant,
            with_spy=with_spy, strength=self.strength, price=self.price,
        )  # fmt: skip

    def blocks(self) -> Iterator[bytes]:
        """Yield its DBN records from the start, without end, in pieces of one message each; always the same."""
        writer = DbnWriter(self.seed)
        for step in self.session(with_spy=False).steps():
            for messages in writer.write(step):
                yield from messages

    @property
    def origin(self) -> str:
        """What makes the same market again."""
        planted = f",plant={'+'.join(self.plant)}" if self.plant else ""
        strength = f",strength={self.strength:.9f}".rstrip("0") if self.strength != 1 else ""
        price = f",price={self.price}" if self.price != USUAL_PRICE else ""
        return f"sim:seed={self.seed},rate={self.rate},start={utc_text(self.start_ns)}{planted}{strength}{price}"


def open_market(text: str) -> list[Feed]:
    """Return the four feeds of the market that follows `sim:` in a source, to be read at the same time.

    Each is to be read, or its delivery closed: one that is neither stops the others when its queue is full.
    """
    described = SimFeed.parse(text)
    market = described.market
    session = market.session(with_spy=True)
    origin = market.origin
    infos = [
        dbn_info(market),
        DeliveryInfo(f"{origin}#stocks", MassiveFrames("stocks", "SPY"), simulated=True),
        DeliveryInfo(f"{origin}#options", MassiveFrames("options", "SPY"), simulated=True),
        DeliveryInfo(f"{origin}#chain", MassivePages(OPTIONS_GREEKS_SNAPSHOTS, "SPY", "SPY"), simulated=True),
    ]
    truths = described.truth_file(session)
    write, tell = (None, None) if truths is None else (truths.write, truths.tell)
    lockstep = Lockstep(session, [DbnWriter(market.seed, tell), StockWriter(), OptionWriter(tell), ChainWriter()])
    return [MarketFeed(SimDelivery(lockstep, number, info, write), info) for number, info in enumerate(infos)]


def dbn_info(market: SimulatedMarket) -> DeliveryInfo:
    return DeliveryInfo(market.origin, Dbn(live_header(), market.symbols()), simulated=True)


class TruthFile:
    """The user's file of what is true: of what was planted, once it is over, and of option prints, as they are sent.

    Deliveries write from several threads, and so does the market.

    Raises:
        UsageError: nothing can be appended to it, as its folder is missing, say.
    """

    def __init__(self, session: Session, path: Path) -> None:
        try:
            path.open("ab").close()
        except OSError as error:
            reason = f"sim: truth={path} cannot be written: {error.strerror}"
            raise UsageError(f"{reason}. Next: give a file in a folder that is there") from error
        self._session, self._path = session, path
        self._writing = threading.Lock()

    def write(self) -> None:
        """Append what was planted and is over, whichever of the deliveries calls."""
        with self._writing:
            self._append("".join(f"{json.dumps(truth)}\n" for truth in taken(self._session.truths)).encode())

    def tell(self, lines: bytes) -> None:
        """Append lines on prints at once, so that none has to wait where the oldest would go."""
        with self._writing:
            self._append(lines)

    def _append(self, lines: bytes) -> None:
        if lines:
            with self._path.open("ab") as file:
                file.write(lines)


def taken(truths: deque[Truth]) -> Iterator[Truth]:
    """Take what was planted and is over, one by one, because the market may add another meanwhile, in its thread."""
    while truths:
        yield truths.popleft()


class MarketFeed:
    """One of the four deliveries of a simulated market. It sends as a live vendor does, and waits for nobody."""

    waits = False

    def __init__(self, delivery: SimDelivery, info: DeliveryInfo) -> None:
        self.delivery = delivery
        # Of what Massive sends only the event has a vendor's time.
        self.pace_by = "ts_recv_ns" if isinstance(info.encoding, Dbn) else "ts_event_ns"

    async def deliveries(self, frontiers: Frontiers) -> AsyncIterator[SimDelivery]:
        yield self.delivery


class SimFeed:
    """The source `sim`, its DBN alone."""

    waits = False
    pace_by = "ts_recv_ns"

    def __init__(
        self,
        seed: int = 1,
        rate: int = 2_000,
        start_ns: int | None = None,
        plant: tuple[str, ...] = (),
        truth_path: Path | None = None,
        strength: float = 1.0,
        price: str = USUAL_PRICE,
    ) -> None:
        start = utc_now_ns() if start_ns is None else start_ns
        if seed < 0:
            raise UsageError(f"sim: seed={seed} is negative. Next: give a seed of 0 or more")
        if not 1 <= rate <= MAX_RATE:
            raise UsageError(f"sim: rate={rate} is not possible. Next: give 1 to {MAX_RATE} records per second")
        if not _EARLIEST_NS <= start < _LATEST_NS:
            raise UsageError(f"sim: start={start} is not in the years 2000 to 2099. Next: give another start")
        self.market = SimulatedMarket(seed, rate, start, plant, strength, price)
        self.truth_path = truth_path

    @classmethod
    def parse(cls, text: str) -> "SimFeed":
        """Build a feed from what follows `sim:` in a source, e.g. `seed=7,rate=500,start=2025-12-16T14:30:00Z`."""
        options: dict[str, str] = {}
        for option in text.split(",") if text else []:
            name, equals, value = (part.strip() for part in option.partition("="))
            if not equals or name not in _OPTIONS or name in options:
                raise UsageError(
                    f"sim: {option!r} is not an option, or is given twice. Next: "
                    f"sim:seed=1,rate=2000,start=2025-12-16T14:30:00Z,plant=all,strength=0.5,price=calm,"
                    f"truth=truth.jsonl, or a part of it"
                )
            options[name] = value
        if "truth" in options and not ("plant" in options and options["truth"]):
            raise UsageError("sim: truth is the file that says what was planted. Next: sim:plant=all,truth=truth.jsonl")
        plant = parse_plant(options["plant"]) if "plant" in options else ()
        return cls(
            seed=_whole_number("seed", options.get("seed", "1")),
            rate=_whole_number("rate", options.get("rate", "2000")),
            start_ns=_instant(options["start"]) if "start" in options else None,
            plant=plant,
            strength=parse_strength(options["strength"], plant) if "strength" in options else 1.0,
            price=parse_price(options.get("price", USUAL_PRICE)),
            truth_path=Path(options["truth"]) if "truth" in options else None,
        )

    async def deliveries(self, frontiers: Frontiers) -> AsyncIterator[SimDelivery]:
        session = self.market.session(with_spy=False)
        truths = self.truth_file(session)
        write, tell = (None, None) if truths is None else (truths.write, truths.tell)
        yield SimDelivery(Lockstep(session, [DbnWriter(self.market.seed, tell)]), 0, dbn_info(self.market), write)

    def truth_file(self, session: Session) -> TruthFile | None:
        """Return the file in which `truth=` asked for what is true of a session."""
        return None if self.truth_path is None else TruthFile(session, self.truth_path)


def _whole_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise UsageError(f"sim: {name}={text!r} is not a whole number. Next: give digits only, e.g. {name}=7")
    return int(text)


def _instant(text: str) -> int:
    try:
        return utc_ns(text)
    except ValueError:
        raise UsageError(
            f"sim: start={text!r} is not a time. Next: give UTC as in start=2025-12-16T14:30:00Z, or nanoseconds"
        ) from None
