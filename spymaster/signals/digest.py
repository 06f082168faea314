"""A hash of rows that does not depend on how they were cut into batches."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_AT_ONCE: Final = 65_536  # rows that wait: to hash a few costs what thousands do


class Digest:
    """SHA-256 over the columns of rows as they come: which are null, lengths, values.

    They are hashed in a thread, while who gives them goes on; who is faster than that waits for it.

    Attributes:
        rows: how many came.
    """

    def __init__(self, schema: pa.Schema) -> None:
        """Begin without rows.

        Args:
            schema: theirs; names and types are part of the hash.
        """
        self.rows = 0
        self._schema = schema
        self._hashes: dict[str, Any] = {}  # of hashlib, which names no type of its own
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._thread = ThreadPoolExecutor(1, "digest")
        self._hashing: Future[None] | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        """Take the next rows."""
        self.rows += rows.num_rows
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= _AT_ONCE:
            self._begin()

    def hexdigest(self) -> str:
        """Return the hash of all rows so far, 64 hexadecimal digits."""
        self._begin()
        self._finish()
        whole = hashlib.sha256(str(self.rows).encode())
        for column in self._schema:
            whole.update(f"\n{column.name} {column.type}".encode())
        for of, found in sorted(self._hashes.items()):
            whole.update(f"\n{of} {found.hexdigest()}".encode())
        return whole.hexdigest()

    def _begin(self) -> None:
        """Let what waits be hashed, behind what is."""
        self._finish()
        if self._waiting_rows:
            self._hashing = self._thread.submit(self._work, self._waiting)
            self._waiting, self._waiting_rows = [], 0

    def _finish(self) -> None:
        if self._hashing is not None:
            self._hashing.result()

    def _work(self, rows: list[pa.RecordBatch]) -> None:
        (whole,) = pa.Table.from_batches(rows).combine_chunks().to_batches()
        for column in self._schema:
            self._column(column.name, column.nullable, whole.column(column.name))

    def _column(self, of: str, nullable: bool, values: Any) -> None:
        kind = values.type
        if nullable:
            self._update(f"{of} null", values.is_null().to_numpy(zero_copy_only=False))
        if pa.types.is_list(kind):
            self._update(f"{of} length", _filled(pc.list_value_length(values)))
            self._column(f"{of} item", kind.value_field.nullable, values.flatten())
        elif pa.types.is_string(kind):
            self._update(f"{of} length", _filled(pc.binary_length(values)))
            self._update(of, np.frombuffer(_text_of(values), np.uint8))
        else:
            self._update(of, _filled(values))

    def _update(self, of: str, values: Any) -> None:
        self._hashes.setdefault(of, hashlib.sha256()).update(np.ascontiguousarray(values))


def _filled(values: Any) -> Any:
    """Return numbers, 0 for null: what a null has in its place is nobody's."""
    if values.null_count:
        values = values.fill_null(False if pa.types.is_boolean(values.type) else 0)
    return values.to_numpy(zero_copy_only=False)


def _text_of(values: Any) -> bytes:
    """Return the bytes of all texts, one behind the other."""
    whole = pa.ListArray.from_arrays([0, len(values)], values.fill_null(""))
    joined: Any = pc.binary_join(whole, "")
    return bytes(joined[0].as_buffer())
