"""Rows of streams as they were recorded, from log and lake, in the order in which they left the bus, as far as it is known.

Not the one table: an event that was delivered twice is there twice, since whoever judged live had it twice. Each
(`capture_id`, `capture_seq`) is there once. As for the one table the log is read before Bronze is listed.

A stream's rows leave as they arrived: by `ts_local_ns`, of files by `ts_recv_ns`, and of one capture by `capture_seq`.
The streams are merged by `ts_recv_ns`, which vendors' clocks share: a row's is at least that of the rows before it.
Where none of a stretch was received within a minute of its event, `ts_recv_ns` is of another clock, as where a market
of the past is simulated and the vendor states none: then event time stands for it.

It is read a stretch of event time at a time. Rows wait for the next ones whose turn is not certain yet: the newest 5 s,
as no sound row is received more than that before its event, and rows that came late.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spymaster import clock, events
from spymaster.clock import NS_PER_SECOND
from spymaster.errors import LayoutError
from spymaster.events import EventSchema, Stream
from spymaster.lake import layout, silver
from spymaster.lake.bronze import require_known_version
from spymaster.lake.layout import Within
from spymaster.lake.parquet import is_foreign
from spymaster.paths import Partition
from spymaster.wal.reader import read_log

Positions = Mapping[Stream, Mapping[int, int]]
"""Of each stream, by capture id, a `capture_seq`."""
