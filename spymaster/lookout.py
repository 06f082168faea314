"""What looks on while the daemon records: the watch always, the gateway where it is asked for.

Neither delays the recording or ends it. What goes wrong here is a problem in the recorder's health.
"""

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

from spymaster.gateway.address import GatewayAt
from spymaster.gateway.served import Served
from spymaster.recording.health import Health
from spymaster.watch.watch import Watch

if TYPE_CHECKING:
    from spymaster.gateway.page_files import PageFile
    from spymaster.gateway.server import Gateway

STOP_S: Final = 5.0  # for the last alerts to be recorded, and pages to be closed


class Lookout:
    """Begins and ends both.

    Attributes:
        watch: how the recording stands.
        gateway: what is served; None before it is, and where it is not asked for.
    """

    def __init__(
        self, watch: Watch, served: Served, at: GatewayAt | None, health: Health, opened: Callable[[str], None]
    ) -> None:
        """Begin nothing yet.

        Args:
            watch: the watch.
            served: what the gateway reads.
            at: where it serves; None serves nothing.
            health: where problems are noted.
            opened: called with the address once it is served.

        Raises:
            UsageError: the address is open to others without a token.
        """
        self.watch = watch
        self.gateway: Gateway | None = None
        self._at = None if at is None else at.checked()
        self._served, self._health, self._opened = served, health, opened
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch, and soon to serve."""
        try:
            await self.watch.start()
        except Exception as error:  # noqa: BLE001 - whatever a defect raises: no recording ends for it
            self._problem("watch", "nothing is watched and no alert is given", error)
        if self._at is not None:
            self._opening = asyncio.create_task(self._open(self._at))

    async def _open(self, at: GatewayAt) -> None:
        try:
            # A thread, as what serves takes half a second to import; and not before rows are recorded.
            made, files = await asyncio.to_thread(_imported)
            gateway: Gateway = made(self._served, at, files)
            await gateway.start()
        except Exception as error:  # noqa: BLE001 - whatever a defect raises: no recording ends for it
            self._problem("gateway", "no page is served", error)
            return
        self.gateway = gateway
        self._opened(gateway.url or "")

    async def stop(self) -> None:
        """End both."""
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_S):
                # Together: to close pages takes a while in which the last alerts are recorded.
                ends = [self.watch.stop(), *([] if self.gateway is None else [self.gateway.stop()])]
                for ended in await asyncio.gather(*ends, return_exceptions=True):
                    if isinstance(ended, Exception):
                        raise ended
        except Exception as error:  # noqa: BLE001 - as above; a timeout too
            self._problem("watch", "the last alerts may not be recorded", error)

    def _problem(self, about: str, what: str, error: Exception) -> None:
        self._health.problem(
            about, f"{what} ({type(error).__name__}: {error}). The recording goes on. Next: see docs/gateway.md"
        )


def _imported() -> "tuple[type[Gateway], Mapping[str, PageFile]]":
    server, files = (import_module(f"spymaster.gateway.{name}") for name in ("server", "page_files"))
    return server.Gateway, files.page_files()
