"""What every normalizer is and gives. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import pyarrow as pa

from spymaster.events import EventSchema

Message = tuple[bytes, int | None]  # as it came, and when by our clock; None for a file
Rows = tuple[EventSchema, pa.RecordBatch]


class Unreadable(NamedTuple):
    """A message that cannot become rows, whole. `byte` is where it begins in the delivery, its header included."""

    data: bytes
    reason: str
    byte: int


class Normalized(NamedTuple):
    """What some messages became: rows in order of arrival within each schema, and what could not become rows."""

    batches: list[Rows]
    unreadable: list[Unreadable]


class Normalizer(Protocol):
    """Turns one delivery's bytes into rows. It is made of the delivery's encoding, its origin and `simulated`.

    Attributes:
        version: grows whenever the same bytes become other rows; a file is then captured anew.
        source: the vendor's dataset, as rows name it; `sim` if the delivery is simulated.
        streams: the stream's symbol for every schema that this delivery can give.
        ignored: what is not recorded, counted by the vendor's name for it.
        unmapped: rows whose instrument nothing named.
    """

    version: ClassVar[int]
    source: str
    streams: dict[str, str]
    ignored: Counter[str]
    unmapped: int

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn the next messages of the delivery into rows.

        Raises:
            SourceError: nothing from here on can be read. The rows before it came with the call before.
        """
        ...

    def finish(self) -> None:
        """Check that the delivery ended where it may end.

        Raises:
            SourceError: it did not.
        """
        ...
