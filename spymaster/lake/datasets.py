"""What Silver's data sets are, where their files lie, and what each file says of itself.

    silver/datasets/{name}/{symbol|underlying}=X[/profile=P]/date=YYYY-MM-DD/part-0000.parquet

`date` is that of the session, as the exchange names the trading day, and not the UTC date of Silver's other partitions.
A session has one file, published by one rename, the same bytes for the same inputs. Its footer names them by a digest,
so that a session whose inputs are as they were is not made again.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spymaster import durable, paths
from spymaster.engines.snap import SIGNALS
from spymaster.errors import LayoutError
from spymaster.events import FUTURES_MBP10
from spymaster.events.schema import field, optional
from spymaster.lake import layout, parquet

_INPUTS: Final = "spymaster_inputs"
_BOOK: Final = tuple(column for column in FUTURES_MBP10.log if column.name.startswith(("bid_", "ask_")))


class DataSet(NamedTuple):
    """One kind of data set.

    Attributes:
        name: of its folder, and of its view.
        keys: the columns that its folders are named after, the session's date last.
        columns: of its files, these first.
        sorting: the columns that a file's rows are sorted by.
    """

    name: str
    keys: tuple[str, ...]
    columns: pa.Schema
    sorting: tuple[str, ...]

    def file(self, data_root: Path, values: tuple[str, ...]) -> Path:
        """Return where a session's file lies, by the values of `keys`."""
        *first, date = zip(self.keys, values, strict=True)
        folders = [f"{key}={paths.encode_symbol(value)}" for key, value in first]
        return layout.dataset_folder(data_root, self.name).joinpath(
            *folders, f"{date[0]}={date[1]}", layout.SILVER_FILE
        )


def _data_set(name: str, version: int, keys: list[pa.Field], columns: list[pa.Field], *sorting: str) -> DataSet:
    said: dict[bytes | str, bytes | str] = {"schema_name": f"datasets.{name}", "schema_version": str(version)}
    return DataSet(name, tuple(key.name for key in keys), pa.schema([*keys, *columns], said), sorting)


_SYMBOL: Final = field("symbol", pa.string(), "root, e.g. ES")
_DATE: Final = field("date", pa.string(), "of the session, YYYY-MM-DD")

OHLCV: Final = _data_set(
    "ohlcv",
    1,
    [_SYMBOL, _DATE],
    [
        field("contract", pa.string(), "whose trades they are: the session's front month"),
        field("bar", pa.string(), "what ends it: 1s, 1m, 2m, volume, ticks (trades) or dollars"),
        field("begin_ns", pa.int64(), "of a bar of time its begin, of others their first trade, UTC nanoseconds"),
        field("end_ns", pa.int64(), "of a bar of time its end, which is not in it; of others their last trade"),
        field("open", pa.float64(), "the first trade, index points"),
        field("high", pa.float64(), "the highest"),
        field("low", pa.float64(), "the lowest"),
        field("close", pa.float64(), "the last"),
        field("volume", pa.int64(), "contracts"),
        field("trades", pa.int64(), "how many"),
        field("bought", pa.int64(), "contracts whose aggressor bought"),
        field("sold", pa.int64(), "likewise sold"),
        field("vwap", pa.float64(), "mean price by volume"),
        field("closed", pa.bool_(), "later trades of the session are none of it"),
    ],
    "bar",
    "begin_ns",
)  # fmt: skip

BOOK_1S: Final = _data_set(
    "book_1s",
    1,
    [_SYMBOL, _DATE],
    [
        field("contract", pa.string(), "whose book it is: the session's front month"),
        field("second_ns", pa.int64(), "the second's begin, UTC nanoseconds"),
        field("ts_event_ns", pa.int64(), "of the second's last whole book, UTC nanoseconds"),
        field("ts_recv_ns", pa.int64(), "when the vendor received it, UTC nanoseconds"),
        *_BOOK,
        field("capture_id", pa.int64(), "of its row in Silver"),
        field("capture_seq", pa.int64(), "likewise"),
    ],
    "second_ns",
)

_JUDGED: Final = [
    field("underlying", pa.string(), "whose prices they are"),
    field("profile", pa.string(), "by whose numbers they were judged"),
    _DATE,
]
_TOUCH_ID: Final = field("touch_id", pa.string(), "SHA-256 of profile hash, date, level and snap, 32 digits of it")
_KNOWN: Final = [
    field("known_by", pa.string(), "what says which rows its snap had seen: record, or known time where none is"),
    field("mark", pa.string(), "snap, published when its time came, or warm, worked after it by a judge begun late"),
]


def _of_signals(*names: str) -> list[pa.Field]:
    return [SIGNALS.field(name) for name in names]


LEVELS: Final = _data_set(
    "levels",
    1,
    _JUDGED,
    [
        *_of_signals("id", "ids", "kinds", "price", "fixed", "level_whole"),
        field("from_ns", pa.int64(), "the first snap at which it stood so, UTC nanoseconds"),
        field("to_ns", pa.int64(), "the last one, without a snap between that had it otherwise"),
    ],
    "from_ns",
)

TOUCHES: Final = _data_set("touches", 1, _JUDGED, [_TOUCH_ID, *_KNOWN, *SIGNALS], "snap_ns")

CONTROLS: Final = _data_set(
    "controls",
    1,
    _JUDGED,
    [
        _TOUCH_ID,
        *_KNOWN,
        *_of_signals(
            "snap_ns", "profile_hash", "contract", "spot", "bid", "ask", "void_reason", "id", "ids", "kinds", "price",
            "direction", "distance_ticks", "touches",
        ),
    ],
    "snap_ns",
)  # fmt: skip

OUTCOMES: Final = _data_set(
    "outcomes",
    1,
    _JUDGED,
    [
        _TOUCH_ID,
        field("outcome", pa.string(), "BREAK, REJECT, NEITHER within the horizon; UNKNOWN as the price was not known"),
        field("decided_ns", pa.int64(), "the event that decided, or the horizon's end, UTC nanoseconds"),
        field("outcome_known_ns", pa.int64(), "the snap that had it: before, nobody knew, UTC nanoseconds"),
        optional("beyond_ticks", pa.float64(), "the farthest mid beyond the level until then; 0 if none; UNKNOWN null"),
        optional("back_ticks", pa.float64(), "likewise on the side that it came from"),
        field("data_whole", pa.bool_(), "no snap from the touch to that one was void"),
        optional("unknown_because", pa.string(), "why the price was not known"),
    ],
    "outcome_known_ns",
)

DATASETS: Final = {each.name: each for each in (OHLCV, BOOK_1S, LEVELS, TOUCHES, CONTROLS, OUTCOMES)}
TOUCHING: Final = (TOUCHES, CONTROLS)  # their views have the outcome beside each touch
JOINED: Final = OUTCOMES.columns.names[OUTCOMES.columns.get_field_index(_TOUCH_ID.name) + 1 :]


def publish(
    data_root: Path, dataset: DataSet, values: tuple[str, ...], rows: pa.Table, inputs: str, said: Mapping[str, str]
) -> int:
    """Make a session's file, in place of the one that is there; return its bytes. The caller holds Silver's lock.

    Args:
        data_root: the lake.
        dataset: whose file.
        values: of its keys.
        rows: of its columns but the keys, sorted.
        inputs: digest of all that they were made of.
        said: what else the footer says, by keys that begin with `spymaster_`.

    Raises:
        OSError: the disk refused; the file is as it was.
    """
    named = [pa.repeat(value, rows.num_rows) for value in values]
    table = pa.table([*named, *rows.columns], schema=dataset.columns)
    footer = {_INPUTS: inputs, "spymaster_rows": str(rows.num_rows), **said}
    data = parquet.encode(dataset.columns, table, footer, dataset.sorting)
    target = dataset.file(data_root, values)
    durable.make_directories(target.parent)
    durable.rewrite(data, target)
    return len(data)


def sizes(data_root: Path) -> list[int]:
    """Return the bytes of each file of all data sets."""
    found = []
    for name in DATASETS:
        for key in layout.dataset_files(data_root, name):
            with suppress(FileNotFoundError):
                found.append((layout.dataset_folder(data_root, name) / key).stat().st_size)
    return found


def inputs_of(data_root: Path, dataset: DataSet, values: tuple[str, ...]) -> str | None:
    """Return the digest of what a session's file was made of; None where there is none.

    Raises:
        LayoutError: we did not write what is there.
    """
    file = dataset.file(data_root, values)
    try:
        return (pq.read_metadata(file).metadata or {})[_INPUTS.encode()].decode()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise LayoutError(
            f"{file} is no data set that spymaster wrote ({type(error).__name__}: {error}). What it was made of is "
            f"all there. Next: move it away and run spymaster datasets again"
        ) from error
