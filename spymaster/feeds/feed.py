"""What every feed gives: deliveries of raw vendor bytes. Vendor connections and files are opened in this room only.

A feed connects or opens, and yields bursts. `normalize` decodes them, `recording` numbers and records them. A feed
reconnects by itself: each connection is a delivery of its own, which says what was lost before it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from spymaster.events import Stream
from spymaster.events.captures import CaptureSummary
from spymaster.events.encoding import Encoding

Frontiers = Mapping[Stream, int]  # per stream the newest durable `ts_event_ns`; a live view


class RawMessage(NamedTuple):
    """Bytes exactly as the vendor sent them, in order. A record may span two messages."""

    data: bytes
    ts_local_ns: int | None  # our clock on arrival; None for a file


Burst = Sequence[RawMessage]  # all that has arrived since the last one; `BURST_BYTES` at most, or one larger message
BURST_BYTES = 1 << 20


class Lost(NamedTuple):
    """Why data are missing: one word for `system.gaps`, and what says so."""

    cause: str
    evidence: str


@dataclass(frozen=True)
class DeliveryInfo:
    """What is known of one unbroken delivery before its first row. It becomes one capture.

    Attributes:
        origin: as a user would name it, e.g. `dbn:ES_trades.dbn.zst`.
        encoding: what its bytes are, and what reading them needs.
        content_sha256: of the file's bytes as they lie on disk; None for a delivery that no file holds.
        simulated: the rows' source is `sim`, not the vendor's dataset.
        after: what was lost before it, since the feed's delivery before; None where nothing was.
    """

    origin: str
    encoding: Encoding
    content_sha256: str | None = None
    simulated: bool = False
    after: Lost | None = None


class Delivery(Protocol):
    """One unbroken delivery from a vendor, or one file."""

    @property
    def info(self) -> DeliveryInfo: ...

    def bursts(self) -> AsyncGenerator[Burst]:
        """Yield the bytes after the header, in order: each time all that has arrived meanwhile, or a piece of a file.

        Raises:
            FeedLostError: the connection is gone. The feed's next delivery is another connection.
            SourceError: what follows cannot be read, by whatever connection.
        """
        ...

    async def close(self) -> None:
        """End `bursts` once what has arrived is taken, though its vendor is silent. May be called more than once."""
        ...

    async def recorded(self, outcome: CaptureSummary) -> None:
        """Take note that the capture's end is on record: of a file its line in a manifest, of a live one its cursor."""
        ...


class Feed(Protocol):
    """A source as the user named it: a vendor's subscription, a simulated market, one file, or many files."""

    @property
    def waits(self) -> bool:
        """Whether it can wait for a full disk. What a live vendor sends meanwhile is given up, and becomes a gap."""
        ...

    @property
    def pace_by(self) -> str | None:
        """The column by whose times its rows are released as they happened; None: rows come when they come."""
        ...

    def deliveries(self, frontiers: Frontiers) -> AsyncIterator[Delivery]:
        """Yield deliveries, each when the one before has ended.

        An error ends that delivery alone: the next `anext` goes on with what follows.

        Args:
            frontiers: how far each stream is durable, from where a new connection may resume.

        Raises:
            SourceError: one cannot be opened.
        """
        ...
