"""What every feed gives: deliveries of raw vendor bytes. Vendor connections and files are opened in this room only.

A feed connects or opens, and yields bytes. `normalize` decodes them; `daemon` numbers and records them.
"""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from spymaster.events.encoding import Encoding


class RawMessage(NamedTuple):
    """Bytes exactly as the vendor sent them, in order. A record may span two messages."""

    data: bytes
    ts_local_ns: int | None  # our clock on arrival; None for a file


@dataclass(frozen=True)
class DeliveryInfo:
    """What is known of one unbroken delivery before its first row. It becomes one capture.

    Attributes:
        origin: as a user would name it, e.g. `dbn:ES_trades.dbn.zst`.
        encoding: what its bytes are, and what reading them needs.
        content_sha256: of the file's bytes as they lie on disk; None for a delivery that no file holds.
        simulated: the rows' source is `sim`, not the vendor's dataset.
    """

    origin: str
    encoding: Encoding
    content_sha256: str | None = None
    simulated: bool = False


class Delivery(Protocol):
    """One unbroken delivery from a vendor, or one file."""

    @property
    def info(self) -> DeliveryInfo: ...

    def messages(self) -> AsyncGenerator[RawMessage]:
        """Yield the bytes after the header, in order, in pieces of at most about half a megabyte."""
        ...


class Feed(Protocol):
    """A source as the user named it: one simulated market, one file, or many files."""

    @property
    def paced(self) -> bool:
        """Whether its rows arrive as they happen, so that it must not be made to wait for the lake."""
        ...

    def deliveries(self) -> Iterator[Delivery]:
        """Open the deliveries one after another, each when the one before it has ended."""
        ...
