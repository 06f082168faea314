"""Every error, drawn as a tree. Each says what, where, what is safe and what to do next, in one line.

SpymasterError
├── UsageError            the request cannot be carried out as given (unknown schema, bad date, refused setting)
├── SourceError           a vendor file or connection cannot be read
│   ├── TruncatedError    it ends inside a record or a compressed frame; names the byte
│   └── UnsupportedError  it holds a dataset, schema or record version that we do not know
├── FeedLostError         a connection to a vendor is gone; reconnecting mends it, and nothing else does
├── LockedError           another process writes here; names its pid
├── ControlError          the running daemon gave no answer
├── LayoutError           the lake is laid out otherwise than this version writes it
│   ├── OtherLakeError    the log is another lake's
│   └── ReplacedError     its files were replaced while they were read; reading again mends it
├── StorageError          the disk refused a write; the daemon stops, recovery decides
│   ├── DiskFullError     for want of room: the daemon waits, and goes on by itself
│   └── BronzeRefusedError  rows are durable in the log and did not get into Bronze
└── WalError              a segment cannot be used
"""

from pathlib import Path


class SpymasterError(Exception):
    """Anything a user can act on. The command line prints it as one line and exits non-zero."""


class UsageError(SpymasterError):
    """The request cannot be carried out as given. Nothing was read or written."""


class SourceError(SpymasterError):
    """A vendor file or connection cannot be read. What was recorded from it before stays recorded."""


class TruncatedError(SourceError):
    """A file ends where no record ends, so it is shorter than what the vendor sent."""

    def __init__(self, where: str, byte: int, reason: str) -> None:
        super().__init__(
            f"{where} is truncated at byte {byte}: {reason}. The records before that byte are recorded, and the "
            f"capture is marked incomplete. Next: fetch the file again and run the same command"
        )
        self.where, self.byte, self.reason = where, byte, reason


class UnsupportedError(SourceError):
    """A dataset, schema or record version that we do not know, so that decoding would be a guess."""


class FeedLostError(SpymasterError):
    """A connection to a vendor is gone, the one failure that reconnecting mends.

    Attributes:
        cause: one word for `system.gaps`, e.g. `disconnect`.
        evidence: what says so, in words.
    """

    def __init__(self, cause: str, evidence: str) -> None:
        super().__init__(f"the connection was lost ({cause}): {evidence}")
        self.cause, self.evidence = cause, evidence


class LockedError(SpymasterError):
    """Another process holds the single-writer lock of a directory."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory} is in use by process {holder}. Nothing was changed. "
            f"Next: stop that process (kill -TERM {holder}), or use another folder"
        )
        self.directory, self.holder = directory, holder


class ControlError(SpymasterError):
    """The running daemon gave no answer. What it records is not touched by that."""


class LayoutError(SpymasterError):
    """Files lie in the lake that this version did not write and would misread."""


class OtherLakeError(LayoutError):
    """The log is another lake's, so that its rows would get into the wrong one."""

    def __init__(self, wal_root: Path, data_root: Path, own_data_root: str | None) -> None:
        lake = "another lake" if own_data_root is None else f"another lake, which was at {own_data_root}"
        super().__init__(
            f"{wal_root} is the log of {lake}, not of the one at {data_root}. Nothing was changed. Next: name the log "
            f"of {data_root}, or a new folder, with WAL_ROOT (--wal-root); or that other lake with DATA_ROOT "
            f"(--data-root). If the log's rows do belong here, first remove {wal_root / 'lake.json'}"
        )
        self.wal_root, self.data_root = wal_root, data_root


class ReplacedError(LayoutError):
    """A compaction or `archive` took files away while they were read. What was read of them is not to be kept."""


class StorageError(SpymasterError):
    """The disk refused to make rows durable. Acknowledged rows are safe; nothing was published after them."""


class DiskFullError(StorageError):
    """The disk has no room. What was in the log before is safe; the call may be made again once there is some."""


class BronzeRefusedError(StorageError):
    """Rows are durable in the log and did not get into Bronze. They get there later; nothing is lost."""


class WalError(SpymasterError):
    """A segment cannot be used as it is."""
