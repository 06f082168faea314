"""Tells the service manager that started us how we are, by the protocol of systemd's `sd_notify`.

A word is a datagram to a socket that the manager names. `WATCHDOG=1` comes from the event loop, so that a loop that
hangs is restarted; a word that is not taken is lost, and ends nothing.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final, NamedTuple

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


class Manager(NamedTuple):
    """What the manager asks of us.

    Attributes:
        address: of its socket; a leading `@` stands for the abstract namespace. None where there is no manager.
        watchdog_s: it restarts us after so long without a word; None where it does not.
    """

    address: str | None
    watchdog_s: float | None


class ServiceManager:
    """The words of one run."""

    def __init__(self, manager: Manager) -> None:
        """Say nothing yet."""
        self._manager = manager
        self._saying: asyncio.Task[None] | None = None

    def began(self) -> None:
        """Say that the run records, and from now on that its event loop turns."""
        self._say(READY)
        if self._manager.watchdog_s is not None and self._manager.address is not None:
            self._saying = asyncio.create_task(self._keep_saying(self._manager.watchdog_s / 2))

    def stopping(self) -> None:
        """Say that the run drains; its event loop still turns."""
        self._say(STOPPING)

    def ended(self) -> None:
        """Say nothing any more."""
        if self._saying is not None:
            self._saying.cancel()

    async def _keep_saying(self, every_s: float) -> None:
        while True:
            self._say(ALIVE)
            await asyncio.sleep(every_s)

    def _say(self, word: str) -> None:
        address = self._manager.address
        if address is None:
            return
        name = "\0" + address[1:] if address.startswith("@") else address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # else a manager that does not read would hold the loop
            sender.sendto(word.encode(), name)
