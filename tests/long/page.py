"""The page in each state, reached by what causes it, in a real Chromium: `python -m tests.long page`.

A daemon on a market whose connection the trial holds, one that hears nothing, and one in a process of its own that is
stopped, ended and started again. In each state the page says what its design says, axe finds nothing serious at any
width and theme, nothing stands in the console, nobody else is asked. It takes some five minutes on two busy cores.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import pyarrow.compute as pc
import pytest
from playwright.sync_api import Page

from spymaster.daemon import Daemon
from spymaster.engines.profile import read_profile
from spymaster.signals.live import LiveJudge
from tests.gateway.browser import WIDTHS, Tabs, chromium, served, served_here, until
from tests.live_feed import SILENT, LiveFeed
from tests.long.page_looks import seriously_wrong, signals_alike_in_grey
from tests.long.steered import SteeredFeed

# Levels lie so near one another that each planted wall is at one.
PROFILE: Final = 'name = "SIM"\nlike = "ES"\n[typical]\nwarm_up_s = {warm_up_s}\nmean_snaps = 200\n'
DENSE: Final = "[levels]\nround_spacing_ticks = 2\nround_range_ticks = 24\n"
MARKET: Final = "rate=300,price=calm"
GONE: Final = (r"WebSocket connection to 'ws://127\.0\.0\.1:\d+/ws/stream", r"Failed to load resource: net::ERR_")
WALL_S: Final = 1.0  # from the snap that first says so until the page does
NEAR: Final = 0.5  # points: a level's zone
SILENT_S: Final = 2.0  # without a frame
START_S: Final = 240.0  # until a judge judges, on a machine that does much else
TICK_S: Final = 0.5  # in which the page looks, and a busy machine answers
SETTLED_MS: Final = 200
THEMES: Final = ("dark", "light")
SAID: Final = """() => ({state: document.body.dataset.state, chip: document.querySelector("#chip").innerText,
  reading: document.querySelector("#say").textContent, alert: document.querySelector("#shout").textContent,
  health: document.querySelector("#health").innerText, data: document.querySelector("#saydata").innerText,
  title: document.title})"""
# When the chip's word became another one, and when a level's row first said WALL, by the page's own clock.
NOTES: Final = """(() => {
  const noted = (window.noted = {chips: [], walls: {}});
  const look = () => {
    const word = document.querySelector("#chip span")?.textContent ?? "";
    const heard = window.spymaster?.wire.heardAt;
    if (word && word !== noted.chips.at(-1)?.word) noted.chips.push({word, at: performance.now(), heard});
    for (const row of document.querySelectorAll(".row")) {
      if (row.dataset.id in noted.walls || !/ · WALL/.test(row.textContent)) continue;
      const price = spymaster.model.snap?.levels?.[row.dataset.id]?.price;
      noted.walls[row.dataset.id] = {at_s: Date.now() / 1000, price};
    }
    requestAnimationFrame(look);
  };
  addEventListener("DOMContentLoaded", () => requestAnimationFrame(look));
})()"""


class Words(NamedTuple):
    """What a page says in a state: patterns, each to be found."""

    chip: str
    reading: str
    alert: str  # all of it
    health: tuple[str, ...]


class Found(NamedTuple):
    """What a part of the trial came to."""

    what: str
    said: str
    findings: list[str]


LIVE: Final = Words(
    r"^LIVE", r"^Nearest: .+ \d,\d\d\d\.\d\d, .*(Score \d+|No score:)", "", ("Feeds", "Rows at risk", "Open gaps")
)
WORDS: Final = {
    "empty": Words(r"^NO DATA", r"^Nothing is recorded yet\.", "", ("Feeds", "Disk")),
    "first": Words(
        r"^LIVE", r"^Recording (for \d+|has begun).* Scores wait for their windows to fill\.", "", ("Feeds",)
    ),
    "live": LIVE,
    "stale": Words(
        r"^STALE\s+[\d.]+ s", r"^No ES .+ for [\d.]+ s\. Everything grey is as of \d\d:\d\d:\d\d",
        "Feed silent: no .+", ("Feeds", r"Event lag\s+—"),
    ),
    "halt": Words(
        r"^HALT\s+since \d\d:\d\d:\d\d",
        r"^Trading in ES is halted since .*exchange status: halt\)\. The book is what stood then",
        "Trading is halted: halt", ("Feeds", r"Open gaps\s+0"),
    ),
    "gap": Words(
        r"^LIVE", r"(But its window holds a gap|Score void:.* its window holds a gap)", "", (r"Open gaps\s+[1-9]",)
    ),
    "void": Words(r"^LIVE", r"Score void: the book is crossed", "", ("Feeds",)),
    "down": Words(
        r"^NO DAEMON\s+since \d\d:\d\d:\d\d",
        r"^The daemon does not answer since .*What you see is the last it said\. This page tries again every second\.",
        "The daemon does not answer", (r"Daemon\s+no answer since", r"Next try\s+in 1 s"),
    ),
}  # fmt: skip


class Seer:
    """One page, looked at in each state at each width and in each theme."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def sees(self, state: str, seconds: float = 30, what: str = "") -> Found:
        """Wait for a state; return what was not as it should be in it."""
        until(self.page, f"document.body.dataset.state === '{state}'", seconds)
        self.page.wait_for_timeout(300)  # another drawing, by whatever came with it
        said, words = self.page.evaluate(SAID), WORDS[state]
        findings = [
            f"{state}: {name} says {said[name]!r}, not {pattern}"
            for name, pattern in (("chip", words.chip), ("reading", words.reading), ("alert", f"^{words.alert}$"))
            if not re.search(pattern, said[name])
        ]
        findings += [
            f"{state}: no {one} in {said['health']!r}" for one in words.health if not re.search(one, said["health"])
        ]
        for at, (width, height) in WIDTHS.items():
            self.page.set_viewport_size({"width": width, "height": height})
            for theme in THEMES:
                # Without motion: on a busy machine a change of colours goes on for seconds, and axe sees it half done.
                self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                self.page.wait_for_timeout(SETTLED_MS)
                findings += [f"{state} {at} {theme}: {one}" for one in seriously_wrong(self.page)]
        self.page.set_viewport_size(dict(zip(("width", "height"), WIDTHS["desk"], strict=True)))  # type: ignore[arg-type]
        if (now := self.page.evaluate("() => document.body.dataset.state")) != state:
            findings.append(f"{state} was {now} before all was looked at")
        return Found(what or state, " ".join(said["chip"].split()), findings)


@contextmanager
def _seer(tabs: Tabs, url: str, allowed: tuple[str, ...] = ()) -> Iterator[Seer]:
    with tabs.page(url, allowed=allowed, watched=NOTES) as page:
        yield Seer(page)


def states(folder: Path, advance: Callable[[int, int], None]) -> Iterator[Found]:
    """Yield what was found in each state, in the order in which they are reached."""
    parts = (_empty, _steered, _gone)
    with chromium() as tabs:
        for number, part in enumerate(parts):
            try:
                yield from part(tabs, folder / part.__name__.strip("_"))
            except AssertionError as error:
                yield Found(part.__name__.strip("_"), "not reached", [str(error)])
            advance(number + 1, len(parts))


def _empty(tabs: Tabs, folder: Path) -> Iterator[Found]:
    profile = read_profile(PROFILE.format(warm_up_s=4), "page.toml")
    with served_here(folder, None, 1, profile, [("live", LiveFeed(end=SILENT))]) as url, _seer(tabs, url) as seer:
        yield seer.sees("empty")


def _steered(tabs: Tabs, folder: Path) -> Iterator[Found]:
    folder.mkdir()
    truths = folder / "truth.jsonl"
    feed = SteeredFeed(f"{MARKET},plant=walls,truth={truths}")
    profile = read_profile(PROFILE.format(warm_up_s=30) + DENSE, "page.toml")
    walls = FirstWalls()
    with served_here(folder, None, 1, profile, [("live", feed)], walls.of) as url, _seer(tabs, url) as seer:
        yield seer.sees("first")
        yield seer.sees("live", START_S)
        yield _wall(seer.page, walls, truths)
        walls.end()
        with _seer(tabs, url) as other:
            until(other.page, "document.body.dataset.state === 'live' && spymaster.model.levels.length > 2")
            yield Found("BREAK, REJECT and CONTESTED in grey", "told apart", signals_alike_in_grey(other.page))
        feed.silent = True
        yield seer.sees("stale")
        feed.silent = False
        yield seer.sees("live", what="live again after stale")
        feed.halted = True
        yield seer.sees("halt")
        feed.halted = False
        until(seer.page, "document.body.dataset.state !== 'halt' && spymaster.model.snap.void_reason !== 'halt'")
        feed.crossed = True
        until(seer.page, "spymaster.model.snap.void_reason === 'crossed'", 60)
        yield seer.sees("void", 60)
        feed.crossed = False
        feed.lost_s = 3
        yield seer.sees("gap")


class FirstWalls:
    """When the judge's newest snap first said of a level that a wall stands there, our clock."""

    def __init__(self) -> None:
        self.at_s: dict[str, float] = {}
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, name="walls", daemon=True)
        self._judge: LiveJudge | None = None

    def of(self, daemon: Daemon) -> None:
        """Begin to look at a daemon's judge."""
        self._judge = daemon.judge
        self._looking.start()

    def end(self) -> None:
        self._ended.set()
        self._looking.join()

    def _look(self) -> None:
        while self._judge is not None and not self._ended.wait(0.02):
            if (snap := self._judge.snap) is not None:
                levels = snap.levels.filter(pc.equal(snap.levels["held_state"], "WALL"))
                for level in levels["id"].to_pylist():
                    self.at_s.setdefault(level, time.time())


def _wall(page: Page, walls: FirstWalls, truths: Path) -> Found:
    """Wait until a planted wall is shown at its level; return how long after the snap that first said so it was."""
    what = "a planted wall at its level after the snap that first says WALL"
    before = {*page.evaluate("() => Object.keys(noted.walls)"), *walls.at_s}  # when axe held the page up
    for _ in range(900):
        shown = page.evaluate("() => noted.walls")
        planted = [json.loads(line) for line in truths.read_text().splitlines()] if truths.exists() else []
        prices = [truth["price"] for truth in planted if truth["kind"] == "wall"]
        for level, seen in shown.items():
            if (
                seen["price"]
                and level in walls.at_s.keys() - before
                and any(abs(seen["price"] - price) <= NEAR for price in prices)
            ):
                late_s = seen["at_s"] - walls.at_s[level]
                said = f"{late_s:.2f} s, at {seen['price']}"
                return Found(what, said, [said] if late_s > WALL_S else [])
        time.sleep(0.2)
    return Found(what, "", [f"none in three minutes; rows that said WALL: {shown}, planted: {prices}"])


def _gone(tabs: Tabs, folder: Path) -> Iterator[Found]:
    folder.mkdir()
    arguments = ("--source", f"sim:{MARKET}")
    with served(folder, *arguments) as daemon, _seer(tabs, daemon.url, GONE) as seer:
        page, port = seer.page, str(urlsplit(daemon.url).port)
        until(page, "spymaster.model.levels.length > 2", START_S)
        held_ms = page.evaluate("() => performance.now()")
        daemon.hold()
        yield seer.sees("down", 10, "down: the daemon is stopped where it stands")
        yield _noticed(page, held_ms)
        daemon.go_on()
        yield _back(page, "back once it goes on")
        daemon.process.terminate()
        daemon.process.wait(60)
        yield seer.sees("down", 10, "down: the daemon has ended")
        with served(folder, *arguments, GATEWAY_PORT=port) as again:
            assert again.url == daemon.url, again.said
            yield _back(page, "back once it is started again")


def _noticed(page: Page, held_ms: float) -> Found:
    """Return how long after the newest frame the chip said so, once."""
    chips = [chip for chip in page.evaluate("() => noted.chips") if chip["at"] > held_ms]
    if [chip["word"] for chip in chips] != ["NO DAEMON"]:
        return Found("NO DAEMON after the newest frame", "", [f"since it was stopped the chip said {chips}"])
    took_s = (chips[0]["at"] - chips[0]["heard"]) / 1e3
    said = f"{took_s:.2f} s"
    return Found("NO DAEMON after the newest frame", said, [said] if took_s > SILENT_S + TICK_S else [])


def _back(page: Page, what: str) -> Found:
    began_s = time.monotonic()
    until(page, "!['down', 'wait'].includes(document.body.dataset.state)", 15)
    return Found(what, f"{time.monotonic() - began_s:.1f} s", [])


def lines_of_states(folder: Path, advance: Callable[[int, int], None]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Yield what was tried, what it has to come to, what it came to, and whether that is enough."""
    looks = len(WIDTHS) * len(THEMES)
    wanted = f"its words; axe: nothing serious in {looks} looks; console empty"
    try:
        for found in states(folder, advance):
            said = "; ".join(found.findings) or found.said
            yield f"page, {found.what}", wanted if found.what in WORDS else "so", said, not found.findings
    except pytest.skip.Exception as none:
        yield "page", wanted, f"not tried: {none}", None
