"""A simulated market that speaks the vendors' own formats, so that everything after it runs without an account.

The source `sim:seed=1,rate=2000,start=...,plant=walls+sweeps,truth=PATH`. What is sent is a function of seed, rate,
start and plant alone. Nothing here waits: whoever reads paces by event time.

Of one market there are four deliveries: ES futures and options as DBN, SPY's trades and quotes, trades of SPY's
options, and SPY's option chain as Massive JSON. `open_market` gives all four, a feed each, because each is a capture
of its own and they run at the same time; `SimFeed` is the first alone. To `rate` DBN records a second come 0.64 times
as many events of SPY, and the chain every ten seconds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spymaster.clock import NS_PER_SECOND, utc_now_ns, utc_text
from spymaster.errors import UsageError
from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS
from spymaster.events.encoding import Dbn, MassiveFrames, MassivePages
from spymaster.feeds.feed import DeliveryInfo, Feed
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
from spymaster.simulation.plant import Truth, parse_plant

MAX_RATE = 1_000_000
_OPTIONS = ("seed", "rate", "start", "plant", "truth")
_EARLIEST_NS, _LATEST_NS = 946_684_800 * NS_PER_SECOND, 4_102_444_800 * NS_PER_SECOND  # the years 2000 to 2099


@dataclass(frozen=True)
class SimulatedMarket:
    """The market that a seed, a rate, a start and what is planted describe."""

    seed: int
    rate: int  # DBN records a second of event time, all kinds together, on average in normal activity
    start_ns: int
    plant: tuple[str, ...] = ()

    def symbols(self) -> tuple[str, ...]:
        """Return the instruments of its first day."""
        listing = next(self.session(with_spy=False).steps()).listing
        return (*listing.symbols, *listing.options.symbols())

    def session(self, *, with_spy: bool) -> Session:
        """Begin the market; always the same one. Without SPY, what DBN carries is still the same."""
        return Session(self.seed, self.rate, self.start_ns, self.plant, with_spy=with_spy)

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
        return f"sim:seed={self.seed},rate={self.rate},start={utc_text(self.start_ns)}{planted}"


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
    lockstep = Lockstep(session, [DbnWriter(market.seed), StockWriter(), OptionWriter(), ChainWriter()])
    return [
        MarketFeed(SimDelivery(lockstep, number, info), session, described.truth_path)
        for number, info in enumerate(infos)
    ]


def dbn_info(market: SimulatedMarket) -> DeliveryInfo:
    return DeliveryInfo(market.origin, Dbn(live_header(), market.symbols()), simulated=True)


class MarketFeed:
    """One of the four deliveries of a simulated market.

    Attributes:
        delivery: the delivery itself.
        truth_path: where the user wants the ground truth; writing it is the caller's part.
    """

    def __init__(self, delivery: SimDelivery, session: Session, truth_path: Path | None) -> None:
        self.delivery, self.truth_path, self._session = delivery, truth_path, session

    @property
    def paced(self) -> bool:
        return True

    def deliveries(self) -> Iterator[SimDelivery]:
        yield self.delivery

    def take_truths(self) -> list[Truth]:
        """Return what was planted and is over, once each, whichever of the four feeds is asked."""
        taken: list[Truth] = []
        while self._session.truths:  # one by one, because the market may add another meanwhile, in another thread
            taken.append(self._session.truths.popleft())
        return taken


class SimFeed:
    """The source `sim`, its DBN alone."""

    def __init__(
        self,
        seed: int = 1,
        rate: int = 2_000,
        start_ns: int | None = None,
        plant: tuple[str, ...] = (),
        truth_path: Path | None = None,
    ) -> None:
        start = utc_now_ns() if start_ns is None else start_ns
        if seed < 0:
            raise UsageError(f"sim: seed={seed} is negative. Next: give a seed of 0 or more")
        if not 1 <= rate <= MAX_RATE:
            raise UsageError(f"sim: rate={rate} is not possible. Next: give 1 to {MAX_RATE} records per second")
        if not _EARLIEST_NS <= start < _LATEST_NS:
            raise UsageError(f"sim: start={start} is not in the years 2000 to 2099. Next: give another start")
        self.market = SimulatedMarket(seed, rate, start, plant)
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
                    f"sim:seed=1,rate=2000,start=2025-12-16T14:30:00Z,plant=all,truth=truth.jsonl, or a part of it"
                )
            options[name] = value
        if "truth" in options and not ("plant" in options and options["truth"]):
            raise UsageError("sim: truth is the file that says what was planted. Next: sim:plant=all,truth=truth.jsonl")
        return cls(
            seed=_whole_number("seed", options.get("seed", "1")),
            rate=_whole_number("rate", options.get("rate", "2000")),
            start_ns=_instant(options["start"]) if "start" in options else None,
            plant=parse_plant(options["plant"]) if "plant" in options else (),
            truth_path=Path(options["truth"]) if "truth" in options else None,
        )

    @property
    def paced(self) -> bool:
        return True

    def deliveries(self) -> Iterator[SimDelivery]:
        session = self.market.session(with_spy=False)
        yield SimDelivery(Lockstep(session, [DbnWriter(self.market.seed)]), 0, dbn_info(self.market))


def _whole_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise UsageError(f"sim: {name}={text!r} is not a whole number. Next: give digits only, e.g. {name}=7")
    return int(text)


def _instant(text: str) -> int:
    """Read integer nanoseconds, or ISO 8601 in UTC with up to nine decimals, of which `datetime` would keep six."""
    if re.fullmatch(r"[0-9]{10,}", text):
        return _whole_number("start", text)
    parts = re.fullmatch(r"([0-9-]+(?:T[0-9:]+)?)(?:\.([0-9]{1,9}))?(?:Z|\+00:00)?", text)
    try:
        whole = datetime.fromisoformat(parts[1] if parts else "").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(
            f"sim: start={text!r} is not a time. Next: give UTC as in start=2025-12-16T14:30:00Z, or nanoseconds"
        ) from None
    fraction = int((parts[2] or "").ljust(9, "0")) if parts else 0
    return (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * NS_PER_SECOND + fraction
