"""Explains a level's score in a process of its own: `python -m spymaster.gateway.explained DATA WAL PROFILE LEVEL AT`.

It works minutes of books, which in the daemon would hold up what is recorded. One at a time, with a bound of time; it
prints one JSON document, or `{"error": "a line"}` with exit code 1.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_args

from spymaster.engines.profile import ProfileName, profile_named
from spymaster.errors import SpymasterError, UsageError
from spymaster.gateway.history import BusyError, TooLongError
from spymaster.signals.explain import explain

TIME_S: Final = 60.0
MOST_BYTES: Final = 16 << 20
MOST_ROWS: Final = 200  # of a part
_NICE: Final = 10


class Explainer:
    """Starts such processes, one at a time."""

    def __init__(self, data_root: Path, wal_root: Path, *, time_s: float = TIME_S) -> None:
        """Start nothing yet.

        Args:
            data_root: the lake.
            wal_root: its log.
            time_s: that one may take.
        """
        self._roots, self._time_s = (str(data_root.absolute()), str(wal_root.absolute())), time_s
        self._is_busy = False

    async def ask(self, profile: str, level: str, at_ns: int) -> str:
        """Return the document as it was printed.

        Args:
            profile: the name of what the level is judged by.
            level: its id or price.
            at_ns: when.

        Raises:
            BusyError: another is being explained.
            TooLongError: it took too long, or says too much.
            UsageError: it cannot be explained.
        """
        if self._is_busy:
            raise BusyError("another score is being explained. Nothing was read. Next: ask again in some seconds")
        self._is_busy = True
        try:
            return await self._ask(profile, level, at_ns)
        finally:
            self._is_busy = False

    async def _ask(self, profile: str, level: str, at_ns: int) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, *self._roots, profile, level, str(at_ns),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None  # noqa: S101  # a pipe
        try:
            async with asyncio.timeout(self._time_s):
                said = await process.stdout.read(-1)
                code = await process.wait()
        except TimeoutError:
            raise TooLongError(
                f"it took longer than {self._time_s:.0f} s. Nothing was changed. Next: use spymaster explain"
            ) from None
        finally:
            if process.returncode is None:  # too long, or whoever asked is gone
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return _checked(said, code)


def _checked(said: bytes, code: int) -> str:
    if len(said) > MOST_BYTES:
        raise TooLongError("it is longer than 16 MB. Nothing was kept. Next: use spymaster explain")
    if code == 0:
        return said.decode()
    try:
        line = json.loads(said)["error"]
    except (ValueError, KeyError, TypeError):
        line = f"it ended with exit code {code}. Nothing was changed. Next: use spymaster explain, which says more"
    raise UsageError(line)


def main(arguments: list[str]) -> int:
    """Print an explanation; return the exit code."""
    data_root, wal_root, profile, level, at_ns = arguments
    names = {name: name for name in get_args(ProfileName)}
    try:
        found = explain(Path(data_root), Path(wal_root), profile_named(names[profile]), level, int(at_ns), MOST_ROWS)
    except (SpymasterError, OSError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(_with_texts(found.document), allow_nan=False))
    return 0


def _with_texts(value: Any) -> Any:
    """Return a document whose captures are text, as 63 bits are no number of JavaScript's."""
    if isinstance(value, dict):
        ids = {name for name, inner in value.items() if name == "capture_id" and isinstance(inner, int)}
        return {name: str(inner) if name in ids else _with_texts(inner) for name, inner in value.items()}
    return [_with_texts(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    with suppress(OSError):
        os.nice(_NICE)  # the recorder goes first
    sys.exit(main(sys.argv[1:]))
