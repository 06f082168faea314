"""The options that every command takes, and the settings that they give."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spymaster.cli.output import Format, warn
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
AsFormat = Annotated[
    Format | None, typer.Option("--format", help="Default: a table where it fits the screen, else record by record.")
]
DataRoot = Annotated[Path | None, typer.Option(help="The lake; default: setting DATA_ROOT.")]
WalRoot = Annotated[
    Path | None,
    typer.Option(help="The log; default: setting WAL_ROOT, or DATA/wal where only --data-root names a lake."),
]


def load(data_root: Path | None, wal_root: Path | None) -> "Settings":
    from spymaster import settings

    loaded = settings.load(data_root=data_root, wal_root=wal_root)
    for warning in loaded.warnings:
        warn(warning)
    return loaded


def moment_ns(text: str) -> int:
    """Return a time that an option names, UTC nanoseconds.

    Args:
        text: as ISO 8601, UTC where it names no zone; or whole nanoseconds.

    Raises:
        UsageError: it is none.
    """
    try:
        if text.isdecimal():
            return int(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time. Nothing was read. Next: give it as 2025-12-22T14:30:05Z, or in nanoseconds"
        ) from None
    known = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (known - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1_000


def chosen(form: Format | None, *, as_json: bool) -> Format | None:
    """Return the one format that `--format` and `--json`, its short form of JSON, ask for together.

    Raises:
        UsageError: they ask for two.
    """
    if as_json and form not in {None, Format.JSON}:
        raise UsageError(f"--json and --format {form} exclude each other. Nothing was done. Next: give one of them")
    return Format.JSON if as_json else form
