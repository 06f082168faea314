"""How our Parquet files are encoded, and how a whole one vouches for itself. The only encoder of Bronze and Silver.

Integers are deltas and floats byte streams, twice as fast to write and a third smaller than the defaults; text is
dictionaries; all of it ZSTD. Page checksums, because a flipped bit in a compressed page reads as other values.

A file that is made in memory ends its footer with the CRC32C of all its bytes, with its eight digits as zeros, so that
it vouches for itself. What else a footer says is its caller's: keys that begin with `spymaster_`.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from crc32c import crc32c

ROW_GROUP_ROWS: Final = 128_000
ZSTD_LEVEL: Final = 3  # of every column of every tier
_CRC_KEY: Final = b"spymaster_crc32c"
_CRC_DIGITS: Final = 8


def encode(columns: pa.Schema, rows: pa.Table, footer: Mapping[str, str], sorting: Sequence[str]) -> memoryview:
    """Return the bytes of a file, the same for the same arguments.

    Args:
        columns: its schema, whose metadata stand in the footer too.
        rows: its rows, of these columns.
        footer: what else it says of itself.
        sorting: the columns that the rows are sorted by.
    """
    own = {key.decode(): value.decode() for key, value in (columns.metadata or {}).items()}
    said = {**own, **footer, _CRC_KEY.decode(): "0" * _CRC_DIGITS}
    sink = pa.BufferOutputStream()
    with writer(sink, columns.with_metadata(said), sorting) as file:
        file.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    data = memoryview(sink.getvalue()).cast("B")
    put_sum(data)
    return data


def writer(
    sink: Path | pa.NativeFile, columns: pa.Schema, sorting: Sequence[str], incompressible: Collection[str] = ()
) -> pq.ParquetWriter:
    """Open a file that is written piece by piece.

    Args:
        sink: where to.
        columns: its schema.
        sorting: the columns that its rows are sorted by.
        incompressible: columns that compression would make no smaller.
    """
    by_column = {_leaf(column): "none" if column.name in incompressible else "zstd" for column in columns}
    levels = {leaf: ZSTD_LEVEL for leaf, kind in by_column.items() if kind == "zstd"}
    return pq.ParquetWriter(
        sink,
        columns,
        use_dictionary=[column.name for column in columns if pa.types.is_string(column.type)],  # type: ignore[arg-type]  # the stubs know only all or none
        column_encoding={
            column.name: "DELTA_BINARY_PACKED" if pa.types.is_integer(column.type) else "BYTE_STREAM_SPLIT"
            for column in columns
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        },
        compression=by_column if incompressible else "zstd",  # type: ignore[arg-type]
        compression_level=levels if incompressible else ZSTD_LEVEL,
        write_page_index=True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(columns.get_field_index(name)) for name in sorting],
    )


def _leaf(column: pa.Field) -> str:
    """Return the name by which Parquet knows a column's values: of a list that is not the column's own."""
    return f"{column.name}.list.element" if pa.types.is_list(column.type) else column.name


def put_sum(data: memoryview) -> None:
    """Let a file's footer hold the CRC32C of its bytes."""
    at = _crc_place(data)
    data[at : at + _CRC_DIGITS] = b"0" * _CRC_DIGITS
    data[at : at + _CRC_DIGITS] = f"{crc32c(data):08x}".encode()


def _crc_place(data: memoryview) -> int:
    """Return where the digits of a file's CRC32C stand: in its footer, behind their key and a field's two bytes.

    Raises:
        ValueError: nowhere.
    """
    length = int.from_bytes(data[-8:-4], "little")
    footer = bytes(data[max(len(data) - 8 - length, 0) : -8])
    return len(data) - 8 - len(footer) + footer.rindex(_CRC_KEY) + len(_CRC_KEY) + 2


def damage(data: memoryview) -> str | None:
    """Say what is wrong with a file's bytes, if they are not those that were written."""
    try:
        at = _crc_place(data)
        summed = crc32c(data[at + _CRC_DIGITS :], crc32c(b"0" * _CRC_DIGITS, crc32c(data[:at])))
        sound = f"{summed:08x}".encode() == data[at : at + _CRC_DIGITS]
    except ValueError as error:
        return str(error)
    return None if sound else "its bytes do not match their CRC32C"


def is_foreign(file: Path) -> bool:
    """Whether a file is Parquet that reads, of another program: no damage makes that of one of ours."""
    try:
        keys = pq.read_metadata(file).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return not any(key.startswith(b"spymaster_") for key in keys)
