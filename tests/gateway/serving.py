"""A daemon that serves its page, in a thread; what a page and a stranger say to it over loopback."""

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

from websockets.sync.client import connect

from spymaster import settings
from spymaster.daemon import Daemon
from spymaster.engines.profile import profile_named
from spymaster.gateway.address import GatewayAt
from spymaster.gateway.patch import patched
from spymaster.journal import Journal

SIM = profile_named("SIM")
# Whose first scores come after 4 s and not after a minute, of which each second costs one.
EARLY = SIM.model_copy(update={"typical": SIM.typical.model_copy(update={"warm_up_s": 4})})
NOON = "2025-12-02T17:00:00Z"
HEAD = ("type", "n", "at_ns", "bars")  # of a full frame, beside its documents
WAIT_S = 60
FULL_S = 1.0
ANY_PORT = GatewayAt(port=0)


class Serving:
    """One run of a daemon.

    Attributes:
        url: of the page; None where it is not served.
        lines: of the journal.
    """

    def __init__(self, folder, source, speed=1.0, *, profile=None, at=ANY_PORT, **values):
        self.lines, self.url, self.error = [], None, None
        self.at = at
        self.settings = settings.load(
            data_root=folder / "lake", wal_root=folder / "wal", flush_interval_sec=2, **values
        )
        self._journal = Journal(self.lines.append, secrets=self.settings.secrets)
        self._opened, self._ready = threading.Event(), threading.Event()
        self.daemon = Daemon(
            self.settings, [source], speed, profile=profile, journal=self._journal, gateway=at, opened=self._open
        )
        self._thread = threading.Thread(target=self._run)

    def _open(self, url):
        self.url = url
        self._opened.set()

    def _run(self):
        async def run():
            self.loop = asyncio.get_running_loop()
            self._ready.set()
            await self.daemon.run()

        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - raised by `__exit__`
            self.error = error
        finally:
            self._opened.set()
            self._ready.set()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def opened(self):
        """Wait for the page."""
        assert self._opened.wait(WAIT_S)
        assert self.url, self.daemon.recorder.problems
        return self

    def stop(self):
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.daemon.stop)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self._journal.close()

    def __exit__(self, *raised):
        self.stop()
        if self.error is not None:
            raise self.error

    @property
    def gateway(self):
        return self.daemon._lookout.gateway

    @property
    def port(self):
        return urlsplit(self.url).port

    def in_loop(self, call):
        """Return what a call returns in the daemon's loop."""

        async def called():
            return call()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(WAIT_S)

    def ask(self, path, method="GET", body=None, headers=()):
        """Return status, headers and body of one request, whose path is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.putrequest(method, path, skip_host="host" in {name.lower() for name, _ in headers})
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None and "content-length" not in {name.lower() for name, _ in headers}:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            head = answer.status, {name.lower(): value for name, value in answer.getheaders()}
            try:
                return *head, answer.read()
            except ConnectionResetError:  # it hung up on what is no HTTP, and left some of that unread
                return *head, b""
        finally:
            connection.close()

    def document(self, path, code=200, **how):
        """Return the JSON document of an answer."""
        status, _, body = self.ask(path, **how)
        assert status == code, (status, body)
        return json.loads(body)

    def post(self, document, code=200):
        body = json.dumps(document).encode()
        headers = [("content-type", "application/json")]
        return self.document("/api/config/hotzone", code, method="POST", body=body, headers=headers)

    @contextmanager
    def page(self, **how):
        """A page that follows the stream."""
        url = f"ws://127.0.0.1:{self.port}/ws/stream"
        with connect(url, compression=None, open_timeout=WAIT_S, max_size=None, **how) as socket:
            yield Page(socket)


class Page:
    """What a page knows: the newest state, by the frames that it got.

    Attributes:
        state: the documents.
        bars: by their second.
        frames: all of them.
    """

    def __init__(self, socket):
        self.socket, self.frames, self.state, self.bars, self.n = socket, [], None, {}, None

    def next(self):
        """Take the next frame."""
        frame = json.loads(self.socket.recv(timeout=WAIT_S))
        self.frames.append(frame)
        self.take(frame)
        return frame

    def take(self, frame):
        if frame["type"] == "full":
            self.state, self.n = {key: one for key, one in frame.items() if key not in HEAD}, frame["n"]
            self.bars |= {bar[0]: bar for bar in frame["bars"]}
        elif frame["type"] == "change":
            assert frame["n"] == self.n + 1, "a change was missed"
            patch = dict(frame["set"])
            self.bars |= {bar[0]: bar for bar in patch.pop("bars", [])}
            self.state, self.n = patched(self.state, patch), frame["n"]

    def until(self, met, frames=4_000):
        """Take frames until one is as it should be; return it."""
        for _ in range(frames):
            frame = self.next()
            if met(frame):
                return frame
        raise AssertionError(f"{frames} frames came, and none is as it should be")


def is_judged(serving):
    """Whether the daemon has a snap in which a level has a score."""
    judge = serving.daemon.judge
    return judge.snap is not None and judge.snap.levels.column("score").null_count < judge.snap.levels.num_rows


def nearest(serving):
    """Return the level of the newest snap that is nearest to the price and judged."""
    levels = serving.document("/api/levels")["snap"]["levels"]
    judged = [(abs(one["distance_ticks"]), name) for name, one in levels.items() if one["barrier"]["state"] != "VOID"]
    return min(judged)[1]
