"""The options that every command takes, and the settings that they give."""

from pathlib import Path
from typing import Annotated

import typer

from spymaster import settings
from spymaster.cli.output import warn
from spymaster.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
DataRoot = Annotated[Path | None, typer.Option(help="The lake; default: setting DATA_ROOT.")]
WalRoot = Annotated[
    Path | None,
    typer.Option(help="The log; default: setting WAL_ROOT, or DATA/wal where only --data-root names a lake."),
]


def load(data_root: Path | None, wal_root: Path | None) -> Settings:
    loaded = settings.load(data_root=data_root, wal_root=wal_root)
    for warning in loaded.warnings:
        warn(warning)
    return loaded
