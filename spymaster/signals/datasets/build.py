"""Makes the data sets of sessions, those whose inputs changed.

A session is a unit: bars and books of one rest on its own files of Silver; what is made of snaps, on its own rows and
on what it takes over from the sessions before it. The caller holds Silver's lock, so that no compaction replaces what
is read, and nobody else makes the same files.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from spymaster import paths
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.errors import LayoutError, UsageError
from spymaster.events import Stream
from spymaster.lake import datasets
from spymaster.lake.datasets import BOOK_1S, DATASETS, OHLCV, DataSet
from spymaster.lake.layout import RECEIVED, Tier
from spymaster.query.lake import Lake
from spymaster.signals.begun import code_hash
from spymaster.signals.datasets import judged, of_silver
from spymaster.signals.datasets.inputs import Inputs
from spymaster.signals.feed import quoting_of
from spymaster.signals.past import Past

Progress = Callable[[int, int], None]


class Made(NamedTuple):
    """What became of a session's data set.

    Attributes:
        dataset: its name.
        of: the values of its keys, the session's date last.
        status: `made`; `unchanged`, as its inputs are; or `refused`.
        rows: made; 0 where none were.
        size_bytes: of the file that was made.
        seconds: it took; of data sets that are made together, each.
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
    """A session's work.

    Attributes:
        makes: which data sets, all of them together.
        of: the values of their keys.
        inputs: returns the digest of what they are made of.
        make: makes them; returns the rows of each, and what else their footers say.
    """

    makes: Sequence[DataSet]
    of: tuple[str, ...]
    inputs: Callable[[], str]
    make: Callable[[], tuple[Sequence[pa.Table], Mapping[str, str]]]

    def run(self, data_root: Path) -> list[Made]:
        """Make what changed.

        Raises:
            LayoutError: a file does not read.
            OSError: the disk refused; the file is as it was.
        """
        began, inputs = time.perf_counter(), self.inputs()
        if all(datasets.inputs_of(data_root, each, self.of) == inputs for each in self.makes):
            return [Made(each.name, self.of, "unchanged") for each in self.makes]
        tables, said = self.make()
        sizes = [
            datasets.publish(data_root, each, self.of, rows, inputs, said)
            for each, rows in zip(self.makes, tables, strict=True)
        ]
        seconds = (time.perf_counter() - began) / len(self.makes)
        return [
            Made(each.name, self.of, "made", rows.num_rows, size, seconds)
            for each, rows, size in zip(self.makes, tables, sizes, strict=True)
        ]


def make(
    data_root: Path,
    wal_root: Path,
    profile: Profile,
    *,
    date: str | None = None,
    only: str | None = None,
    progress: Progress | None = None,
) -> list[Made]:
    """Make the data sets of a session, or of all.

    Args:
        data_root: the lake.
        wal_root: its log.
        profile: whose levels are judged.
        date: the session's; every session of the lake if None.
        only: the name of one data set; those that are made of snaps are made together.
        progress: called with (sessions done, of how many), each counted once for what is made of it together.

    Raises:
        UsageError: the date is none, or there is no such data set.
        WalError: the log cannot be read.
        OSError: the disk refused; what was made before is whole.
    """
    if date is not None:
        paths.check_date(date)
    if only not in {None, *DATASETS}:
        raise UsageError(f"there is no data set {only!r}. Nothing was made. Next: name one of {', '.join(DATASETS)}")
    wanted = DATASETS if only is None else {only}
    jobs = list(_of_silver(data_root, date, [each for each in (OHLCV, BOOK_1S) if each.name in wanted]))
    done: list[Made] = []
    with ExitStack() as stack:
        if any(each.name in wanted for each in judged.MADE):
            lake = stack.enter_context(Lake(data_root, wal_root))
            jobs += _of_snaps(data_root, wal_root, profile, lake, date)
        for number, job in enumerate(jobs, 1):
            try:
                done += job.run(data_root)
            except LayoutError as error:
                done += [Made(each.name, job.of, "refused", reason=str(error)) for each in job.makes]
            if progress is not None:
                progress(number, len(jobs))
    return done


def _of_silver(data_root: Path, date: str | None, wanted: Sequence[DataSet]) -> Iterator[_Job]:
    contract_of = cache(partial(of_silver.contract_of, data_root))  # of a session, for both
    for dataset in wanted:
        for root in of_silver.ROOTS:
            stream = Stream(of_silver.SOURCES[dataset.name].name, root)
            for hours in of_silver.hours_of(data_root, stream, [Tier.SILVER], "cme", date):
                yield _job_of_silver(data_root, dataset, hours, partial(contract_of, root, hours.session))


def _job_of_silver(data_root: Path, dataset: DataSet, hours: of_silver.Hours, contract_of: Callable[[], str]) -> _Job:
    def make() -> tuple[Sequence[pa.Table], Mapping[str, str]]:
        contract = contract_of()
        return [of_silver.rows_of(data_root, dataset, hours, contract)], {"spymaster_contract": contract}

    return _Job([dataset], hours.values, lambda: of_silver.inputs_of(data_root, dataset, hours, contract_of()), make)


def _of_snaps(data_root: Path, wal_root: Path, profile: Profile, lake: Lake, date: str | None) -> Iterator[_Job]:
    inputs, market = Inputs(data_root, wal_root, profile, lake), profile.market
    for hours in of_silver.hours_of(data_root, quoting_of(profile)[-1], RECEIVED, market.calendar, date):
        of = market.underlying, profile.name, hours.session.date
        make = partial(_judged, data_root, wal_root, profile, hours.session)
        yield _Job(judged.MADE, of, partial(inputs.digest, hours.session), make)


def _judged(
    data_root: Path, wal_root: Path, profile: Profile, session: Session
) -> tuple[Sequence[pa.Table], Mapping[str, str]]:
    past = Past(data_root, wal_root, profile, session)
    known_by = "record" if past.recorded else "known time"
    found = judged.collect(past.snaps(), profile, session, known_by)
    said = {
        "spymaster_contract": past.contract,
        "spymaster_profile": profile.name,
        "spymaster_profile_hash": profile.profile_hash,
        "spymaster_code_hash": code_hash(),
        "spymaster_known_by": known_by,
    }
    return [found.of(each) for each in judged.MADE], said
