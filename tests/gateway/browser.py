"""A real Chromium before the page of a real daemon: what it shows, as people and screen readers have it."""

import asyncio
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright

from spymaster import settings
from spymaster.daemon import Daemon
from spymaster.engines.profile import Profile
from spymaster.feeds.feed import Feed
from spymaster.gateway.address import GatewayAt
from tests.command_line import clean_environment

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = {"desk": (1280, 800), "wide": (1920, 1080), "phone": (390, 844)}
START_S = 60.0
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")


class Served(NamedTuple):
    """A daemon in a process of its own, and where its page is."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def said(self) -> str:
        """What it wrote so far."""
        return (self.folder / "daemon.out").read_text()

    def hold(self) -> None:
        """Stop it where it stands, as a machine that swaps does."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def served(folder: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    """Run `spymaster run` with these arguments on folders in `folder`, until the block ends.

    Args:
        folder: where lake, log and output lie.
        arguments: of `spymaster run`.
        environment: settings; GATEWAY_PORT is any that is free, unless one is given.
    """
    roots = ["--data-root", str(folder / "lake"), "--wal-root", str(folder / "wal")]
    env = clean_environment(**{"GATEWAY_PORT": "0", **environment})
    with (folder / "daemon.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "spymaster", "run", *roots, *arguments], stdout=out, stderr=out, env=env, cwd=folder
        )
    try:
        yield Served(_address(folder / "daemon.out", process), process, folder)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(out: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(int(START_S / 0.1)):
        if found := _ADDRESS.search(out.read_text()):
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"no page was served:\n{out.read_text()}")


@contextmanager
def served_here(
    folder: Path,
    source: str | None,
    speed: float,
    profile: Profile,
    feeds: Sequence[tuple[str, Feed]] = (),
    began: Callable[[Daemon], None] = lambda _: None,
) -> Iterator[str]:
    """Run a daemon in a thread of this process, which has all imported, until the block ends.

    Args:
        folder: where lake and log lie.
        source: as `spymaster run` takes it; None for the feeds alone.
        speed: likewise.
        profile: by what is judged.
        feeds: the test's own, each with a name.
        began: given the daemon, in its thread, before it runs.

    Yields:
        The page's address.
    """
    opened, ended = queue.Queue[str](), list[BaseException]()
    loaded = settings.load(data_root=folder / "lake", wal_root=folder / "wal", profile=profile.name)
    running = list[tuple[asyncio.AbstractEventLoop, Daemon]]()

    async def run() -> None:
        sources = [] if source is None else [source]
        at = GatewayAt(port=0)
        daemon = Daemon(loaded, sources, speed, feeds=feeds, profile=profile, gateway=at, opened=opened.put_nowait)
        running.append((asyncio.get_running_loop(), daemon))
        began(daemon)
        await daemon.run()

    def thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            ended.append(error)
            opened.put_nowait("")

    own = threading.Thread(target=thread, name="daemon")
    own.start()
    try:
        url = opened.get(timeout=START_S)
        assert url, f"the daemon ended: {ended}"
        yield url
    finally:
        for loop, daemon in running:
            loop.call_soon_threadsafe(daemon.stop)
        own.join(START_S)
    assert not ended, ended


class Tabs:
    """One Chromium; each page is a stranger's, with no memory of another."""

    def __init__(self, executable: str) -> None:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=executable, args=list(FLAGS))

    def close(self) -> None:
        """End it."""
        self._browser.close()
        self._playwright.stop()

    @contextmanager
    def page(
        self,
        url: str,
        *,
        at: str = "desk",
        theme: str = "dark",
        allowed: Sequence[str] = (),
        stored: str | None = None,
        watched: str | None = None,
    ) -> Iterator[Page]:
        """Open an address; when the block ends, nothing may have gone wrong in it.

        Args:
            url: of the page.
            at: how large it is, of `WIDTHS`.
            theme: dark or light.
            allowed: patterns of what the console may say, e.g. that a daemon that was ended does not answer.
            stored: what the page kept from a visit before, JSON.
            watched: a script of the test's own, run before the page's.
        """
        width, height = WIDTHS[at]
        context = self._browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
        if stored is not None:
            context.add_init_script(f"localStorage.setItem('spymaster.page', {stored!r})")
        if watched is not None:
            context.add_init_script(watched)
        page = context.new_page()
        host, wrong = urlsplit(url).netloc, list[str]()

        def console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and not any(re.search(one, message.text) for one in allowed):
                wrong.append(f"console: {message.text} {message.location.get('url', '')}")

        def request(one: Request) -> None:
            at_host = urlsplit(one.url)
            if at_host.scheme not in {"data", "blob"} and at_host.netloc != host:
                wrong.append(f"asked another host: {one.url}")

        page.on("console", console)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", request)
        page.on("websocket", lambda socket: wrong.append(socket.url) if urlsplit(socket.url).netloc != host else None)
        try:
            page.goto(url)
            yield page
            assert not wrong, "\n".join(wrong)
        finally:
            context.close()


@contextmanager
def chromium() -> Iterator[Tabs]:
    """Start Chromium; skip the test where the machine has none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set CHROMIUM to its path")
    tabs = Tabs(found)
    try:
        yield tabs
    finally:
        tabs.close()


def heard(page: Page) -> str:
    """Return the accessibility tree as text: what a screen reader has of the page."""
    return page.locator("body").aria_snapshot()


def until(page: Page, true: str, seconds: float = 30) -> None:
    """Wait until a JavaScript expression is true in the page.

    Args:
        page: the page.
        true: e.g. `document.body.dataset.state === "live"`.
        seconds: how long at most.
    """
    for _ in range(int(seconds / 0.1)):
        if page.evaluate(f"() => Boolean({true})"):
            return
        time.sleep(0.1)  # the page's own timers go on
    raise AssertionError(f"not so within {seconds:g} s: {true}\nthe page says:\n{heard(page)}")
