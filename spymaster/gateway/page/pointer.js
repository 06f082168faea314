// @ts-check
/** Pointer and wheel on the chart: drag moves time, wheel zooms it, the price axis zooms price and takes zones. */

import { timeAt, priceAt } from "./axes.js";
import { byId } from "./nodes.js";

const STILL_PX = 4; // a press that moved less is a click

/**
 * @param {import("./chart.js").Chart} chart
 * @param {{choose: (id: string) => void, zone: (price: number, y: number) => void, hover: () => void}} does
 */
export function listen(chart, does) {
  const stage = byId("stage");
  /** @type {Map<number, {x: number, y: number}>} */
  const down = new Map();
  /** @type {{x: number, y: number, end: number, low: number, high: number, moved: boolean} | null} */
  let drag = null;
  let apart = 0;

  const at = (/** @type {PointerEvent | WheelEvent | MouseEvent} */ event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    drag = { ...at(event), end: chart.view.to, low: chart.view.low, high: chart.view.high, moved: false };
    apart = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    const own = at(event);
    chart.hover = event.pointerType === "touch" && !down.size ? null : own;
    if (down.has(event.pointerId)) down.set(event.pointerId, own);
    if (down.size === 2) pinch();
    else if (drag && down.size === 1) dragged(own);
    does.hover();
  });
  const up = (/** @type {PointerEvent} */ event) => {
    down.delete(event.pointerId);
    if (drag && !drag.moved && event.type === "pointerup") clicked(at(event));
    drag = null;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => {
    chart.hover = null;
    does.hover();
  });
  stage.addEventListener("dblclick", (event) => {
    const own = at(event);
    if (own.x > chart.of.width) chart.followPrice();
    else if (own.y > chart.of.height) chart.moveTo(Infinity);
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const own = at(event);
      const factor = Math.exp((event.deltaY || event.deltaX) * 0.0015);
      if (event.shiftKey || own.x > chart.of.width) chart.zoomPrice(factor, priceAt(chart.view, chart.of, own.y));
      else chart.zoom(factor, timeAt(chart.view, chart.of, Math.min(own.x, chart.of.width)));
    },
    { passive: false },
  );

  function pinch() {
    const [a, b] = [...down.values()];
    const now = Math.hypot(a.x - b.x, a.y - b.y);
    if (apart) chart.zoom(apart / Math.max(now, 1), timeAt(chart.view, chart.of, (a.x + b.x) / 2));
    apart = now;
    if (drag) drag.moved = true;
  }

  function dragged(/** @type {{x: number, y: number}} */ own) {
    if (!drag) return;
    drag.moved ||= Math.hypot(own.x - drag.x, own.y - drag.y) > STILL_PX;
    if (!drag.moved) return;
    if (drag.x > chart.of.width) return;
    const { width } = chart.of;
    chart.moveTo(drag.end - ((own.x - drag.x) / width) * chart.span * 1000);
  }

  function clicked(/** @type {{x: number, y: number}} */ own) {
    if (own.y > chart.of.height) return;
    if (own.x > chart.of.width) return does.zone(chart.priceAt(own.y), own.y);
    const id = chart.levelAt(own.y);
    if (id) does.choose(id);
  }
}
