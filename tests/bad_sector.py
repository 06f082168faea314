"""A disk that does not give the bytes of some files, as where a sector has gone bad."""

import errno
from pathlib import Path

import pytest

from spymaster import durable


def lies_under(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Let every read of a file fail whose path holds `where`."""
    real = durable.read

    def read(path: Path, limit: int | None = None) -> memoryview:
        if where in str(path):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, limit)

    monkeypatch.setattr(durable, "read", read)
