"""Recorded Gold against a replay's: the same parts with the same rows, or where they first differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock, durable
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.errors import LayoutError
from spymaster.lake import gold
from spymaster.lake.gold import GOLD
from spymaster.signals.start import footer_of

MOST_NAMED: Final = 20  # differences; beyond, they are counted


class Difference(NamedTuple):
    """A part that is not as it was recorded.

    Attributes:
        part: its key below Gold's folder.
        what: one line.
    """

    part: str
    what: str


class Check(NamedTuple):
    """What came of a comparison.

    Attributes:
        same: parts with the same rows.
        same_bytes: of these, with the same bytes; others were written by another version of a library.
        other: recorded parts that other code or another profile made; they are not compared.
        differences: at most `MOST_NAMED`.
        different: how many there are.
    """

    same: int
    same_bytes: int
    other: int
    differences: list[Difference]
    different: int


def check(data_root: Path, folder: Path, profile: Profile, session: Session) -> Check:
    """Compare the recorded Gold of a session with a replay's.

    Args:
        data_root: the lake.
        folder: of the replay.
        profile: by which was judged.
        session: the session.

    Raises:
        OSError: a file cannot be read.
    """
    underlying, span = profile.market.underlying, (session.begin_ns, session.end_ns)
    recorded = gold.begun_within(data_root, underlying, *span)
    replayed = gold.begun_within(folder, underlying, *span)
    mine = {at: part for at, part in recorded.items() if _is_mine(part, profile)}
    found = [(at, _compared(mine.get(at), replayed.get(at))) for at in sorted(mine.keys() | replayed.keys())]
    covered = recorded.keys() - mine.keys()  # a part of other code stands where ours would
    found = [(at, what) for at, what in found if not (at in covered and at not in mine)]
    differences = [Difference(_named(recorded, replayed, at), what) for at, what in found if what not in ("", "bytes")]
    return Check(
        same=sum(what in ("", "bytes") for _, what in found),
        same_bytes=sum(what == "" for _, what in found),
        other=len(recorded) - len(mine),
        differences=differences[:MOST_NAMED],
        different=len(differences),
    )


def _named(recorded: Mapping[int, Path], replayed: Mapping[int, Path], at: int) -> str:
    part = recorded.get(at) or replayed[at]
    return "/".join(part.parts[-4:])


def _is_mine(part: Path, profile: Profile) -> bool:
    try:
        return gold.read_footer(part) == footer_of(profile)
    except LayoutError:
        return True  # damage is no excuse


def _compared(recorded: Path | None, replayed: Path | None) -> str:
    """Return nothing if both are the same, `bytes` if but their rows are, else what differs first."""
    if replayed is None:
        return "it was recorded, and the replay has it not"
    if recorded is None:
        return "the replay has it, and it was not recorded"
    if durable.read(recorded) == durable.read(replayed):
        return ""
    try:
        one, other = (gold.read(part).select(GOLD.names) for part in (recorded, replayed))
    except LayoutError as error:
        return str(error)
    return _first_difference(one, other) or "bytes"


def _first_difference(recorded: pa.Table, replayed: pa.Table) -> str:
    """Return where two parts differ first; nothing if they do not."""
    shared = min(recorded.num_rows, replayed.num_rows)
    differs = np.zeros(shared, np.bool_)
    for name in GOLD.names:
        differs |= _unequal(recorded[name].slice(0, shared), replayed[name].slice(0, shared))
    if not differs.any():
        if recorded.num_rows == replayed.num_rows:
            return ""
        return f"{recorded.num_rows} rows were recorded, the replay has {replayed.num_rows}; they are the same so far"
    at = int(np.argmax(differs))
    one, other = (table.slice(at, 1).to_pylist()[0] for table in (recorded, replayed))
    said = [f"{name} {one[name]!r}, replayed {other[name]!r}" for name in GOLD.names if one[name] != other[name]]
    where = f"row {at}, snap {clock.utc_text(one['ts_event_ns'])}, level {one['level_id']}"
    more = f", and {len(said) - 3} more columns" if len(said) > 3 else ""
    return f"{where}: recorded {'; '.join(said[:3])}{more}; {int(differs.sum())} rows differ"


def _unequal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> Any:
    if one.equals(other):
        return np.zeros(len(one), np.bool_)
    if pa.types.is_list(one.type):
        return np.array([mine != its for mine, its in zip(one.to_pylist(), other.to_pylist(), strict=True)], np.bool_)
    both_null = one.is_null().to_numpy() & other.is_null().to_numpy()
    equal: Any = pc.fill_null(pc.equal(one, other), pa.scalar(False))
    return ~(equal.to_numpy() | both_null)
