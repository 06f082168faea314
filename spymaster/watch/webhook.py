"""Posts alerts to one address, each as a JSON document. The address is a secret: no line says it, nor its host.

An alert is tried four times within a minute. While that goes on others wait, at most `MAX_WAITING`; beyond, the oldest
is dropped and counted. A redirect is refused: it would carry what is posted to an address that nobody named.
"""

import asyncio
import importlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from spymaster import clock
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from aiohttp import ClientSession

MAX_WAITING: Final = 100
PAUSES_S: Final = (1.0, 4.0, 15.0)  # before another try
ANSWER_S: Final = 8.0  # for one try
LAST_S: Final = 2.0  # for what waits at the end of the run
_AGAIN: Final = frozenset({408, 425, 429})  # beside 5xx, what another try may mend


class _TryAgainError(Exception):
    """Why a try failed, in words without the address."""


def checked(url: SecretStr) -> SecretStr:
    """Return the address, if alerts may be posted to it.

    Raises:
        UsageError: it is no address, or neither https nor this machine. The line does not say it.
    """
    try:
        parts = urlsplit(url.get_secret_value().strip())
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if usable and (parts.scheme == "https" or (parts.scheme == "http" and _is_here(str(parts.hostname)))):
        return SecretStr(url.get_secret_value().strip())
    raise UsageError(
        "ALERT_WEBHOOK_URL is not usable: it has to be an https address, or http on this machine (127.0.0.1, "
        "localhost). Nothing was started. Next: mend it where it is set, or unset it"
    )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Webhook:
    """One address, and the alerts that wait for it.

    Attributes:
        posted: alerts that it took.
        lost: alerts that it did not take in time, or that were dropped.
    """

    def __init__(
        self, url: SecretStr, tell: Callable[[str | None], None], pauses_s: Sequence[float] | None = None
    ) -> None:
        """Post nothing yet.

        Args:
            url: checked.
            tell: called with a line when alerts are lost, and with None once one gets there again.
            pauses_s: before each further try; `PAUSES_S` if None.
        """
        self.posted = self.lost = 0
        self._url, self._tell = url, tell
        self._pauses_s = PAUSES_S if pauses_s is None else pauses_s
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._changed = asyncio.Event()
        self._ending = False

    def put(self, document: Mapping[str, Any]) -> None:
        """Post an alert, behind those that wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lose("it takes them too slowly")
        self._waiting.append(document)
        self._changed.set()

    def finish(self) -> None:
        """Let `run` end once what waits is posted."""
        self._ending = True
        self._changed.set()

    async def run(self) -> None:
        """Post until `finish`."""
        # To import it takes 0.3 s, and most runs post nothing; in a thread, as the recorder has the loop.
        http = await asyncio.to_thread(importlib.import_module, "aiohttp")
        async with http.ClientSession(timeout=http.ClientTimeout(total=ANSWER_S)) as session:
            while self._waiting or not self._ending:
                if self._waiting:
                    await self._deliver(session, self._waiting.popleft())
                else:
                    self._changed.clear()
                    await self._changed.wait()

    async def _deliver(self, session: "ClientSession", document: Mapping[str, Any]) -> None:
        reason = ""
        for pause_s in (0.0, *self._pauses_s):
            await asyncio.sleep(pause_s)
            try:
                refused = await self._post(session, document)
            except _TryAgainError as error:
                reason = str(error)
                continue
            if refused is None:
                self.posted += 1
                self._tell(None)
                return
            reason = refused
            break
        self._lose(reason)

    async def _post(self, session: "ClientSession", document: Mapping[str, Any]) -> str | None:
        """Try once; return why it is refused for good, None if it got there.

        Raises:
            _TryAgainError: another try may mend it.
        """
        try:
            async with session.post(self._url.get_secret_value(), json=document, allow_redirects=False) as answer:
                status = answer.status
        except TimeoutError:
            raise _TryAgainError(f"no answer within {ANSWER_S:g} s") from None
        except Exception as error:  # noqa: BLE001 - whatever the client raises: its text may hold the address
            raise _TryAgainError(f"it could not be reached ({type(error).__name__})") from None
        if status in _AGAIN or status >= 500:
            raise _TryAgainError(f"it answered {status}")
        if 300 <= status < 400:
            return f"it answered {status}, a redirect, which is not followed"
        return None if status < 300 else f"it answered {status}"

    def _lose(self, reason: str) -> None:
        self.lost += 1
        self._tell(
            f"{self.lost} alerts did not get to ALERT_WEBHOOK_URL, the last because {reason}. They are rows of "
            f"system.alerts. Next: see what answers there"
        )


async def end(webhook: Webhook, running: "asyncio.Task[None]") -> None:
    """Give what waits a moment, then end; what is left is in `system.alerts`."""
    webhook.finish()
    began_s = clock.monotonic_s()
    await asyncio.wait({running}, timeout=LAST_S)
    if clock.monotonic_s() - began_s >= LAST_S:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
