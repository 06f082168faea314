"""Which lake a log belongs to: `lake.json` in DATA_ROOT holds the lake's id, the one in WAL_ROOT names its lake.

The log's also says where that lake lay when the two last met, so that another new lake is told from the log's own lake
which lost its `lake.json`, or never got it as its disk refused.

    lake   log                what becomes of them where both are locked
    none   none               both get a new id, the log first
    id     none, or no id     the log takes it: a new log, or one of before
    none   id                 the lake takes it, as after a crash between the two writes; unless the log's own lake
                              still lies where the log says
    id     the same           nothing; the lake may have moved
    id     another            refused

A copy of a lake has the id of its original: they are the same lake, until a log grows for one of them.
"""

import json
import re
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from spymaster import durable
from spymaster.errors import LayoutError, OtherLakeError

NAME: Final = "lake.json"
_ID: Final = re.compile(r"[0-9a-f]{16}")


class _Said(NamedTuple):
    """What a `lake.json` says.

    Attributes:
        lake: the id; None in a log whose lake could not be asked.
        data_root: of a log, where its lake lay.
    """

    lake: str | None
    data_root: str | None = None


def require_own_log(wal_root: Path, data_root: Path) -> None:
    """Refuse the log of another lake. Reads only; neither folder need exist.

    Raises:
        OtherLakeError: it is.
        LayoutError: a `lake.json` does not read.
        OSError: a disk does not give one.
    """
    _ask(wal_root, data_root)


def join(wal_root: Path, data_root: Path, *, lake_locked: bool = True) -> None:
    """Let a log and a lake name one id, durable on return. The caller holds the log's lock.

    Args:
        wal_root: the log.
        data_root: the lake.
        lake_locked: whether the caller holds Bronze's lock too; else the log alone is written, and no id is made up.

    Raises:
        OtherLakeError: the log is another lake's; nothing was changed.
        LayoutError: a `lake.json` does not read.
        OSError: a disk refused. May be called again.
    """
    lake, log = _ask(wal_root, data_root)
    known = (lake and lake.lake) or (log and log.lake) or (secrets.token_hex(8) if lake_locked else None)
    own = _Said(known, str(data_root.resolve()))
    if log != own:  # the log first: its disk may take it where the lake's refuses
        durable.rewrite(_encoded(own), wal_root / NAME)
    if lake_locked and lake is None:
        durable.make_directories(data_root)
        durable.publish(_encoded(_Said(known)), data_root / NAME)


def _ask(wal_root: Path, data_root: Path) -> tuple[_Said | None, _Said | None]:
    """Return what lake and log say, if it is not that they are strangers."""
    lake, log = _read(data_root), _read(wal_root)
    if log is not None and _is_of_another(log, lake, data_root):
        raise OtherLakeError(wal_root, data_root, log.data_root)
    return lake, log


def _is_of_another(log: _Said, lake: _Said | None, data_root: Path) -> bool:
    if lake is not None and log.lake is not None:
        return lake.lake != log.lake
    if log.data_root in {None, str(data_root.resolve())}:
        return False
    try:
        own = _read(Path(log.data_root or ""))
    except (OSError, LayoutError):
        return True  # there is a lake, and nothing says that it is not the log's
    return own is not None and log.lake in {None, own.lake}


def _encoded(said: _Said) -> bytes:
    return json.dumps({name: value for name, value in said._asdict().items() if value is not None}).encode()


def _read(folder: Path) -> _Said | None:
    """Return what a folder's `lake.json` says; None where there is none."""
    file = folder / NAME
    try:
        entries = json.loads(file.read_bytes())
        said = _Said(entries.get("lake"), entries.get("data_root"))
        if not (said.lake is None or _ID.fullmatch(said.lake)) or not isinstance(said.data_root, str | None):
            raise ValueError("it holds no id and no path")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LayoutError(
            f"{file} does not read ({error}), so whose log this is cannot be told. Nothing was changed. "
            f"Next: move that file away if log and lake do belong together; it is made again"
        ) from error
    return said
