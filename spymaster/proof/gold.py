"""Audits Gold by itself: each part vouches for its bytes, lies where its rows say, and no level stands twice at a snap.

Whether its rows are what the recording gives is told by judging again, not here.
"""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Final

import pyarrow as pa

from spymaster.errors import LayoutError
from spymaster.lake import gold, layout
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.lake.layout import Tier
from spymaster.lake.parquet import is_foreign
from spymaster.paths import Partition
from spymaster.proof.files import read_bytes
from spymaster.proof.verdict import GoldVerdict

_KEY: Final = ["ts_event_ns", "level_id"]
_LEFT: Final = "It was left as it is. Next: move it away; what it held can be judged again from the recording"


def list_files(data_root: Path, date: str | None = None) -> dict[str, Partition | None]:
    """Return the files of Gold by their keys, those of one UTC date if it is given; None for one that is no part."""
    files = layout.gold_files(data_root, LEVELS_SIGNALS)
    return {key: own for key, own in files.items() if date is None or (own is not None and own.date == date)}


def audit_gold(data_root: Path, files: dict[str, Partition | None], progress: Callable[[int], object]) -> GoldVerdict:
    """Read every part, and compare the parts of an hour with each other.

    Args:
        data_root: the lake.
        files: as `list_files` gave them, in order.
        progress: called with the number of files done.

    Raises:
        OSError: a file cannot be read, and the medium is not why.
    """
    verdict, done = GoldVerdict(), 0
    for folder, keys in groupby(files, lambda key: key.rpartition("/")[0]):
        keyed: list[pa.Table] = []
        for key in keys:
            keyed += _audit(data_root, key, files[key], verdict)
            done += 1
            progress(done)
        if keyed:
            _find_doubled(folder, pa.concat_tables(keyed), verdict)
    return verdict


def _audit(data_root: Path, key: str, own: Partition | None, verdict: GoldVerdict) -> list[pa.Table]:
    """Audit one file; return the keys of its rows if they can be read."""
    part, place = layout.path(data_root, Tier.GOLD, key), f"gold/{key}"
    data = read_bytes(part)
    if isinstance(data, str):
        verdict.findings.append(f"{place} {data}")
        return []
    if is_foreign(part):
        verdict.findings.append(f"{place} is not ours and was passed over. Next: move it out of the lake")
        return []
    verdict.files += 1
    try:
        problems = ["it lies where no Gold belongs"] if own is None else gold.problems(part, own, data)
        rows = None if problems else gold.read(part)
    except LayoutError as error:
        verdict.findings.append(str(error))
        return []
    if rows is None:
        verdict.findings.append(f"{place} is not as it was published: {'; '.join(problems)}. {_LEFT}")
        return []
    verdict.rows += rows.num_rows
    return [rows.select(_KEY)]


def _find_doubled(folder: str, rows: pa.Table, verdict: GoldVerdict) -> None:
    counted = rows.group_by(_KEY).aggregate([([], "count_all")])
    doubled = rows.num_rows - counted.num_rows
    if doubled:
        first = min(row["ts_event_ns"] for row in counted.to_pylist() if row["count_all"] > 1)
        verdict.findings.append(
            f"gold/{folder} has {doubled:,} rows of a level that stands there already at the same snap, first at "
            f"{first}. All were left as they are. Next: move the part away that does not belong there"
        )
