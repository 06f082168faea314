// @ts-check
/** Candles on the axes of the chart: hollow up, filled down, dashed where a gap touches. */

import { xOf, yOf } from "./axes.js";
import { C } from "./look.js";

const STEPS_S = [5, 15, 60, 300, 900, 3600]; // those of /api/history/candles
const LEAST_PX = 9;

/**
 * @typedef {{t: number, open: number, high: number, low: number, close: number, volume: number}} Candle t in
 *   seconds
 */

/** How long a candle is. @param {import("./axes.js").View} v @param {import("./axes.js").Geometry} of */
export function candleStep(v, of) {
  const least = ((v.to - v.from) / 1000 / of.width) * LEAST_PX;
  return STEPS_S.find((step) => step >= least) ?? 3600;
}

/** The candle that begins at a second, of the newest hour's bars; null where there is none.
 * @param {import("./rings.js").Bars} bars @param {number} from @param {number} step @param {Candle} into */
export function candleOf(bars, from, step, into) {
  let found = false;
  into.t = from;
  into.volume = 0;
  for (let second = from; second < from + step; second++) {
    const at = bars.at(second);
    if (at < 0) continue;
    if (!found) [into.open, into.high, into.low] = [bars.open[at], bars.high[at], bars.low[at]];
    found = true;
    if (bars.high[at] > into.high) into.high = bars.high[at];
    if (bars.low[at] < into.low) into.low = bars.low[at];
    into.close = bars.close[at];
    into.volume += bars.volume[at];
  }
  return found ? into : null;
}

const scratch = { t: 0, open: 0, high: 0, low: 0, close: 0, volume: 0 };

/**
 * Calls with each candle of a view, from the lake's answer before the newest hour, then from the ring.
 * @param {import("./model.js").Model} model
 * @param {import("./axes.js").View} v
 * @param {number} step
 * @param {(candle: Candle) => void} each
 */
export function eachCandle(model, v, step, each) {
  const { bars, older } = model;
  const begin = Math.floor(v.from / 1000 / step) * step;
  const ring = Number.isFinite(bars.oldest) ? Math.ceil(bars.oldest / step) * step : Infinity;
  if (older.step === step)
    for (let i = 0; i < older.count; i++) {
      const [t, open, high, low, close, volume] = older.rows.subarray(6 * i, 6 * i + 6);
      if (t + step > begin && t < ring && t * 1000 < v.to) each({ t, open, high, low, close, volume });
    }
  const first = older.step === step && older.count ? ring : Math.floor((bars.oldest || 0) / step) * step;
  for (let from = Math.max(begin, first); from * 1000 < v.to && from <= bars.newest; from += step) {
    const candle = candleOf(bars, from, step, scratch);
    if (candle) each(candle);
  }
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {import("./axes.js").View} v
 * @param {import("./axes.js").Geometry} of
 * @param {import("./model.js").Model} model
 * @param {import("./standing.js").Standing} now
 * @param {import("./holes.js").Hole[]} holes
 */
export function candles(g, v, of, model, now, holes) {
  const step = candleStep(v, of);
  const px = (of.width / ((v.to - v.from) / 1000)) * step;
  const wide = Math.max(3, Math.floor(px * 0.62));
  const y = (/** @type {number} */ own) => yOf(v, of, own);
  g.strokeStyle = now.grey ? C.ink3 : C.ink1;
  g.lineWidth = 1;
  eachCandle(model, v, step, ({ t, open, high, low, close }) => {
    const x = Math.round(xOf(v, of, t * 1000) + px / 2) + 0.5;
    const top = Math.max(open, close);
    const bottom = Math.min(open, close);
    const holed = holes.some((hole) => !hole.halt && hole.from < (t + step) * 1000 && hole.to > t * 1000);
    if (holed) g.setLineDash([2, 2]);
    g.beginPath();
    g.moveTo(x, y(high));
    g.lineTo(x, y(top));
    g.moveTo(x, y(bottom));
    g.lineTo(x, y(low));
    g.stroke();
    const from = Math.round(y(top)) + 0.5;
    const tall = Math.max(1, Math.round(Math.abs(y(open) - y(close))));
    g.fillStyle = close >= open ? C.pane : now.grey ? C.ink3 : C.ink2;
    g.fillRect(x - wide / 2, from, wide, tall);
    g.strokeRect(Math.round(x - wide / 2) + 0.5, from, wide, tall);
    if (holed) g.setLineDash([]);
  });
}
