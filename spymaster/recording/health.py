"""What is not right and goes on, and what has ended the recording."""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from spymaster.errors import StorageError
from spymaster.journal import SILENT, Journal
from spymaster.recording.change import Change

MAX_PROBLEMS: Final = 100  # lines; more of them say nothing more


class Health:
    """The recorder's problems, each by what it is about, and its failure. Used from the event loop alone.

    Attributes:
        journal: where problems that begin and end are written, and what else happens.
        reconnects: deliveries that began after others of their feed were lost.
    """

    def __init__(self, change: Change, notify: Callable[[str], None] | None = None, journal: Journal = SILENT) -> None:
        self.journal = journal
        self.reconnects = 0
        self._change, self._notify = change, notify
        self._problems: dict[str, str] = {}  # by what they are about, so that a problem that lasts is one
        self._failure: BaseException | None = None

    @property
    def problems(self) -> list[str]:
        """Lines about what is not right and has not stopped the recorder. A problem that went away is not listed."""
        return list(self._problems.values())

    @property
    def noted(self) -> Mapping[str, str]:
        """The same lines by what they are about."""
        return MappingProxyType(self._problems)

    def problem(self, about: str, line: str, *, told: bool = False) -> None:
        """Note a problem, in place of what was noted about the same before.

        Args:
            about: what it is about.
            line: what, where, what is safe, what to do.
            told: an event of its own is in the journal, which says more.
        """
        if about not in self._problems and not told:
            self.journal.event("alarm.raised", about=about, text=line)
        if about in self._problems or len(self._problems) < MAX_PROBLEMS:
            self._problems[about] = line

    def alarm(self, about: str, line: str, *, told: bool = False) -> None:
        """Note a problem and, unless it lasts from before, say so at once."""
        if about not in self._problems:
            self.say(line)
        self.problem(about, line, told=told)

    def mended(self, about: str, *, told: bool = False) -> None:
        if self._problems.pop(about, None) is not None and not told:
            self.journal.event("alarm.mended", about=about)

    def say(self, *lines: str) -> None:
        """Tell whoever watches the run these lines."""
        if self._notify is not None:
            for line in lines:
                self._notify(line)

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def fail(self, error: BaseException) -> None:
        """End the recording. The first error is raised to whoever acts next, or waits in `failed`."""
        if self._failure is None:
            self._failure = error
            self._change.happened()

    def check(self) -> None:
        """Raise what has ended the recording, if something has."""
        if self._failure is not None:
            raise self._failure

    async def failed(self) -> None:
        """Wait until something ends the recording.

        Raises:
            StorageError: the disk refused to make rows durable.
        """
        await self._change.until(lambda: self.has_failed)
        self.check()

    def watch(self, task: asyncio.Future[None]) -> None:
        """Let whatever ends a background task end the recording."""
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        if task.cancelled():  # by others, or at the stop, when nobody waits any more
            self.fail(StorageError("recording was cancelled. What was appended is in the log. Next: start it again"))
        elif (error := task.exception()) is not None:
            self.fail(error)
