"""The server: uvicorn in the daemon's own loop, on a socket that is bound here.

It takes no signals, which are the daemon's, writes no log of its own, and ends within `STOP_S` whatever clients do.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import duckdb
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from spymaster.errors import SpymasterError, UsageError
from spymaster.gateway.access import Access
from spymaster.gateway.address import MORE_PORTS, GatewayAt
from spymaster.gateway.answers import Answers
from spymaster.gateway.app import App
from spymaster.gateway.broadcast import Broadcast
from spymaster.gateway.history import History, held
from spymaster.gateway.page_files import PageFile
from spymaster.gateway.served import Served

STOP_S: Final = 1.0
HELD_EVERY_S: Final = 600.0
MOST_CONNECTIONS: Final = 256  # one more is answered 503
SEND_BUFFER_BYTES: Final = 128 << 10  # of a client in the kernel, which would take megabytes of frames for a slow one
_LOGGERS: Final = ("uvicorn.error", "websockets.server")


class Gateway:
    """The page, its stream and what it asks.

    Attributes:
        url: where it is served; None before `start`.
        broadcast: what is sent to pages.
    """

    def __init__(self, served: Served, at: GatewayAt, files: Mapping[str, PageFile]) -> None:
        """Serve nothing yet; listen to the bus from now on.

        Args:
            served: the daemon.
            at: where to serve.
            files: the page's, as `page_files` reads them.
        """
        self.url: str | None = None
        self.broadcast = Broadcast(served, full_s=at.full_s)
        self._served, self._at = served, at
        self._files = files
        self._tasks: list[asyncio.Task[None]] = []
        self._server: _Server | None = None
        self._journal = _ToJournal(served)
        self._history = History(served.data_root, served.wal_root)

    async def start(self) -> None:
        """Serve.

        Raises:
            UsageError: there is no port.
            OSError: the host is not this machine's.
        """
        listener = await asyncio.to_thread(bound, self._at)
        port = listener.getsockname()[1]
        answers = Answers(self._served, self.broadcast, self._history, self._served.status()["version"])
        app = Access(App(self._served, self.broadcast, answers, self._files).built(), self._at, port)
        self._server = _Server(_config(app))
        self._journal.take()
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[listener]), name="gateway"),
            asyncio.create_task(self.broadcast.run(), name="broadcast"),
            asyncio.create_task(self._ask_held(), name="hold rates"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        host = f"[{self._at.host}]" if ":" in self._at.host else self._at.host
        self.url = f"http://{host}:{port}/"
        self._served.journal.event(
            "gateway.opened", url=self.url, wanted=self._at.port if port != self._at.port else None
        )

    async def stop(self) -> None:
        """Close every connection and serve no more. It takes `STOP_S` at most."""
        if self._server is not None:
            self._server.should_exit = True
            await asyncio.wait(self._tasks[:1], timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._journal.give_back()
        self._history.close()

    async def _ask_held(self) -> None:
        """Ask now and then how often levels held: data sets are made once a day, beside the daemon."""
        judge = self._served.judge
        while judge is not None:
            with suppress(SpymasterError, duckdb.Error):  # the page says that none are known
                self.broadcast.held = await self._history.ask(held(judge.profile))
            await asyncio.sleep(HELD_EVERY_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Say that a defect ended a task; the recording goes on."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._served.problem(
                f"the page is served no more ({type(error).__name__}: {error}). The recording goes on. Next: start it "
                f"again; report it if that does not mend it"
            )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: the daemon has its own."""
        yield


class _ToJournal(logging.Handler):
    """Tells the journal what the server warns of; at most so many lines a minute, as the journal has it."""

    def __init__(self, served: Served) -> None:
        super().__init__(logging.WARNING)
        self._served = served

    def take(self) -> None:
        """Let the server's loggers speak here, and nowhere else."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self)
            logger.setLevel(logging.WARNING)  # below it a line has whole requests, and they may hold a token
            logger.propagate = False

    def give_back(self) -> None:
        """Leave the loggers."""
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a line; of a defect its kind as well."""
        kind = "" if record.exc_info is None or record.exc_info[1] is None else f": {record.exc_info[1]!r}"
        self._served.journal.event("gateway.warned", text=f"{record.getMessage().strip()}{kind}")


def _config(app: Access) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=H11Protocol,
        ws=WebSocketsSansIOProtocol,
        ws_max_size=1 << 10,  # a page says nothing
        ws_per_message_deflate=False,  # on loopback it costs more than it saves
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=1,
        forwarded_allow_ips="",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16 << 10,
    )


def bound(at: GatewayAt) -> socket.socket:
    """Return a listening socket: of the port, or of the next that is free.

    Raises:
        UsageError: all of them are taken, or the host is not this machine's.
    """
    ports = [0] if at.port == 0 else range(at.port, min(at.port + MORE_PORTS, 65_535) + 1)
    try:
        family, _, _, _, address = socket.getaddrinfo(at.host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(
            f"GATEWAY_HOST={at.host} is not found ({error}). Next: set an address of this machine"
        ) from None
    refused: OSError | None = None
    for port in ports:
        try:
            return _listener(family, str(address[0]), port)
        except OSError as error:
            refused = error
    raise UsageError(
        f"no page is served: {at.host} takes no port from {at.port} on, {MORE_PORTS} tried ({refused}). "
        f"Next: set GATEWAY_PORT or GATEWAY_HOST"
    )


def _listener(family: int, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(MOST_CONNECTIONS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
