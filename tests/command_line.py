"""The command line in the test's own process: what a user types, and the words and the exit code that come back.

To start Python and import everything takes a second of a core, and a test of the words needs no second process. What
is killed, signalled or run beside another has one of its own.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from spymaster import cli


class Done(NamedTuple):
    """A command that ended: its exit code, and what it wrote to either stream."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without the settings of whoever runs the tests, and with some others."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("SPYMASTER_", "DATABENTO"))} | more


def spymaster(*arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Done:
    """Run `spymaster` with these arguments to its end.

    Args:
        arguments: as a shell gives them.
        environment: instead of this process's own.
        folder: the working directory.
    """
    stdout, stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), io.StringIO()
    with (
        patch.object(sys, "argv", ["spymaster", *arguments]),
        patch.dict(os.environ, environment or {}, clear=environment is not None),
        contextlib.chdir(folder or Path.cwd()),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            cli.main()
            code = None
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int), f"main ended with {code!r}"
    stdout.flush()
    return Done(code, stdout.buffer.getvalue().decode(), stderr.getvalue())
