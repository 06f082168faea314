"""Makes the data sets of sessions, those whose inputs changed.

A session is a unit: late rows of one change its own files and no other's. The caller holds Silver's lock, so that no
compaction replaces what is read, and nobody else makes the same files.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from spymaster import paths
from spymaster.errors import LayoutError, UsageError
from spymaster.events import Stream
from spymaster.lake import datasets
from spymaster.lake.datasets import BOOK_1S, OHLCV, DataSet
from spymaster.lake.layout import Tier
from spymaster.signals.datasets import of_silver

Progress = Callable[[int, int], None]
NAMES = (OHLCV.name, BOOK_1S.name)


class Made(NamedTuple):
    """What became of a session's data set.

    Attributes:
        dataset: its name.
        of: the values of its keys, the session's date last.
        status: `made`; `unchanged`, as its inputs are; or `refused`.
        rows: made; 0 where none were.
        size_bytes: of the file that was made.
        seconds: it took.
        reason: why it was refused.
    """

    dataset: str
    of: tuple[str, ...]
    status: str
    rows: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    reason: str | None = None


class _Job(NamedTuple):
    """A session's work: what it makes, for whom, and how."""

    makes: Sequence[DataSet]
    of: tuple[str, ...]
    run: Callable[[], list[Made]]


def make(
    data_root: Path, *, date: str | None = None, only: str | None = None, progress: Progress | None = None
) -> list[Made]:
    """Make the data sets of a session, or of all.

    Args:
        data_root: the lake.
        date: the session's; every session of the lake if None.
        only: the name of one data set.
        progress: called with (sessions done, of how many), each counted once for what is made of it together.

    Raises:
        UsageError: the date is none, or there is no such data set.
        OSError: the disk refused; what was made before is whole.
    """
    if date is not None:
        paths.check_date(date)
    if only not in {None, *NAMES}:
        raise UsageError(f"there is no data set {only!r}. Nothing was made. Next: name one of {', '.join(NAMES)}")
    jobs = [job for job in _jobs(data_root, date) if only is None or only in {each.name for each in job.makes}]
    done: list[Made] = []
    for number, job in enumerate(jobs, 1):
        try:
            done += job.run()
        except LayoutError as error:
            done += [Made(each.name, job.of, "refused", reason=str(error)) for each in job.makes]
        if progress is not None:
            progress(number, len(jobs))
    return done


def _jobs(data_root: Path, date: str | None) -> Iterator[_Job]:
    contract_of = cache(partial(of_silver.contract_of, data_root))
    for dataset in (OHLCV, BOOK_1S):
        for root in of_silver.ROOTS:
            stream = Stream(of_silver.SOURCES[dataset.name].name, root)
            for hours in of_silver.hours_of(data_root, stream, [Tier.SILVER], date):
                contract = partial(contract_of, root, hours.session)
                yield _Job([dataset], hours.values, partial(_of_silver, data_root, dataset, hours, contract))


def _of_silver(data_root: Path, dataset: DataSet, hours: of_silver.Hours, contract_of: Callable[[], str]) -> list[Made]:
    began, contract = time.perf_counter(), contract_of()
    inputs = of_silver.inputs_of(data_root, dataset, hours, contract)
    if datasets.inputs_of(data_root, dataset, hours.values) == inputs:
        return [Made(dataset.name, hours.values, "unchanged")]
    rows = of_silver.rows_of(data_root, dataset, hours, contract)
    size = datasets.publish(data_root, dataset, hours.values, rows, inputs, {"spymaster_contract": contract})
    return [Made(dataset.name, hours.values, "made", rows.num_rows, size, time.perf_counter() - began)]
