"""What a page that stays open costs, before a simulated market at its usual rate: `python -m tests.long heap`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import CDPSession, Page

from tests.gateway.browser import chromium, served, until

FIRST_MIN: Final = 2.0  # after which all is allocated that is to stay
MOST_GROWN: Final = 0.1
LEAST_DRAWN: Final = 15.0
DRAWN_S: Final = 5
START_S: Final = 240.0
# A drag: each frame of the screen another view, so that each draws all panes of the chart.
_DRAG: Final = """async (seconds) => {
  const began = performance.now(), before = spymaster.frames;
  let step = 0.002;
  await new Promise((done) => {
    const drag = () => {
      if (performance.now() - began >= 1000 * seconds) return done();
      spymaster.chart.shift((step = -step) - 0.001);
      requestAnimationFrame(drag);
    };
    requestAnimationFrame(drag);
  });
  const drawn = (spymaster.frames - before) / ((performance.now() - began) / 1000);
  spymaster.chart.moveTo(Infinity);
  return drawn;
}"""


class Weight(NamedTuple):
    """What was measured.

    Attributes:
        minutes: of the first and of the last look at the heap.
        heap_bytes: what lives then, after what does not was collected.
        drawn_a_second: how often the chart was drawn while it was dragged, as market and panels went on.
    """

    minutes: tuple[float, float]
    heap_bytes: tuple[int, int]
    drawn_a_second: float

    @property
    def grown(self) -> float:
        """By what share the heap became larger."""
        return self.heap_bytes[1] / self.heap_bytes[0] - 1


def weigh(minutes: float, folder: Path, advance: Callable[[int, int], None]) -> Weight:
    """Open a page for so long, and weigh it early and late.

    Args:
        minutes: until the last look.
        folder: for the daemon.
        advance: told minutes done of all.
    """
    first = min(FIRST_MIN, minutes / 5)
    with chromium() as tabs, served(folder, "--source", "sim") as daemon, tabs.page(daemon.url) as page:
        until(page, "spymaster.model.levels.length > 2", START_S)
        began_s, client = time.monotonic(), page.context.new_cdp_session(page)
        _pass(page, began_s, first, minutes, advance)
        early = _heap(client)
        _pass(page, began_s, minutes, minutes, advance)
        late = _heap(client)
        return Weight((first, minutes), (early, late), page.evaluate(_DRAG, DRAWN_S))


def _pass(page: Page, began_s: float, minutes: float, of: float, advance: Callable[[int, int], None]) -> None:
    while (left_s := began_s + 60 * minutes - time.monotonic()) > 0:
        page.wait_for_timeout(1000 * min(left_s, 5.0))
        advance(round((time.monotonic() - began_s) / 60), round(of))


def _heap(client: CDPSession) -> int:
    client.send("HeapProfiler.collectGarbage")
    return int(client.send("Runtime.getHeapUsage")["usedSize"])


def lines_of_weight(
    minutes: float, folder: Path, advance: Callable[[int, int], None]
) -> list[tuple[str, str, str, bool]]:
    """Return what was tried, what it has to come to, what it came to, and whether that is enough."""
    found = weigh(minutes, folder, advance)
    first, last = found.minutes
    early, late = (size / 2**20 for size in found.heap_bytes)
    return [
        (
            f"page before the simulated market: heap after {last:g} min beside that after {first:g}",
            f"within {MOST_GROWN:.0%}",
            f"{late:.1f} MB, {early:.1f} MB: {found.grown:+.1%}",
            found.grown <= MOST_GROWN,
        ),
        (
            "page before the simulated market: the chart drawn while it is dragged",
            f">= {LEAST_DRAWN:g} a second",
            f"{found.drawn_a_second:.0f} a second",
            found.drawn_a_second >= LEAST_DRAWN,
        ),
    ]
