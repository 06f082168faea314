"""How a page looks: to axe, and without colour."""

import base64
from itertools import combinations
from typing import Any, Final

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page

_SERIOUS: Final = frozenset({"serious", "critical"})
SIGNALS: Final = ("BREAK", "REJECT", "CONTESTED")
FAR: Final = 25.0  # of 255
AROUND: Final = 3  # pixels
_APART: Final = 6.0  # of 255, over all of a glyph, most of which is what it lies on
# Frames no longer come, and three levels bear a signal each.
_THREE: Final = """() => {
  const {model, wire} = spymaster;
  wire.take = () => {};
  const near = model.levels.toSorted((a, b) => Math.abs(a[1].distance_ticks) - Math.abs(b[1].distance_ticks));
  const signals = ["BREAK", "REJECT", "CONTESTED"], snap = structuredClone(model.snap);
  snap.void_reason = null;
  near.slice(0, 3).forEach(([id], i) => Object.assign(snap.levels[id],
    {signal: signals[i], score: 50, direction: 1, signal_since_ns: snap.ts_event_ns,
     barrier: {...snap.levels[id].barrier, void_reason: null}}));
  const desk = {state: "live", reason: null, gap: null};
  model.take({type: "change", n: 0, at_ns: model.atMs * 1e6, set: {snap, desk}});
  dispatchEvent(new Event("resize"));
  return near.slice(0, 3).map(([id]) => id);
}"""
_LUMINANCE: Final = """async (png) => {
  const image = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (one) => one.charCodeAt(0))]));
  const g = new OffscreenCanvas(image.width, image.height).getContext("2d");
  g.drawImage(image, 0, 0);
  const {data} = g.getImageData(0, 0, image.width, image.height), grey = [];
  for (let i = 0; i < data.length; i += 4) grey.push(0.2126 * data[i] + 0.7152 * data[i + 1] + 0.0722 * data[i + 2]);
  return [image.height, grey];
}"""


def seriously_wrong(page: Page) -> list[str]:
    """Return what axe finds serious or critical, a line each."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {' '.join(node['failureSummary'].split())}"
        for one in found
        if one["impact"] in _SERIOUS
        for node in one["nodes"][:3]
    ]


def signals_alike_in_grey(page: Page) -> list[str]:
    """Return which of the signals' boxes and glyphs are not told apart without colour, in either theme."""
    ids = page.evaluate(_THREE)
    page.wait_for_timeout(300)
    rows = [page.locator(f'.row[data-id="{one}"]') for one in ids]
    said = [row.locator(".sig").inner_text() for row in rows]
    if [one.split()[0] for one in said] != list(SIGNALS):
        return [f"the rows say {said}"]
    found = []
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.wait_for_timeout(300)
        boxes = [grey(page, row.locator(".sig")) for row in rows]
        glyphs = [grey(page, row.locator("svg").first) for row in rows]
        fills, edges = zip(*map(fill_and_edge, boxes), strict=True)
        if not (fills[0] > FAR > max(fills[1:]) and edges[0] < FAR < min(edges[1:])):
            found.append(f"{theme}: fills differ from the row by {fills}, edges from fills by {edges}")
        for (one, first), (other, second) in combinations(zip(SIGNALS, glyphs, strict=True), 2):
            if (apart := float(np.abs(first - second).mean())) < _APART:
                found.append(f"{theme}: the glyphs of {one} and {other} differ by {apart:.1f} of 255")
    return found


def grey(page: Page, seen: Locator) -> NDArray[np.float64]:
    """Return the luminance of what is seen and of what lies around it, by the standard's weights."""
    seen.scroll_into_view_if_needed()
    box = seen.bounding_box()
    assert box is not None
    clip = {"x": round(box["x"]) - AROUND, "y": round(box["y"]) - AROUND}
    clip |= {name: round(box[name]) + 2 * AROUND for name in ("width", "height")}
    picture = page.screenshot(clip=clip)  # type: ignore[arg-type]
    height, grey = page.evaluate(_LUMINANCE, base64.b64encode(picture).decode())
    return np.array(grey).reshape(height, -1)


def fill_and_edge(box: NDArray[np.float64]) -> tuple[float, float]:
    """Return by how much a box's fill differs from what it lies on, and its edge from its fill."""
    # The fill is looked at above the text, which fills the middle.
    inner = box[AROUND:-AROUND, AROUND:-AROUND]
    fill, edge, around = np.median(inner[3, 6:-6]), np.median(inner[0, 6:-6]), np.median(box[AROUND:-AROUND, 0])
    return round(float(abs(fill - around))), round(float(abs(edge - fill)))
