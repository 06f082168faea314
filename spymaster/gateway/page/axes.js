// @ts-check
/** One time axis, linear in time, and one price axis, under all panes of the chart. */

import { C, mix, tag, text } from "./look.js";
import { price } from "./numbers.js";
import { scoreOf, signOf } from "./words.js";

/** @typedef {{from: number, to: number, low: number, high: number}} View times in UTC ms, prices */
/**
 * @typedef {{w: number, h: number, width: number, height: number, axis: number, timeTop: number, timeHeight:
 *   number}} Geometry `width` and `height` are of the panes' place, left of the price axis and above the time axis
 */

const TIME_HEIGHT = 20;
const TIME_STEPS_S = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const PRICE_STEPS = [1, 2, 4, 10, 20, 40, 100, 200, 400, 1000]; // ticks

/** @param {number} w @param {number} h @returns {Geometry} */
export function geometry(w, h) {
  const axis = w < 500 ? 62 : 68;
  return { w, h, width: w - axis, height: h - TIME_HEIGHT, axis, timeTop: h - TIME_HEIGHT, timeHeight: TIME_HEIGHT };
}

/** @param {View} v @param {Geometry} of @param {number} at */
export const xOf = (v, of, at) => ((at - v.from) / (v.to - v.from)) * of.width;
/** @param {View} v @param {Geometry} of @param {number} x */
export const timeAt = (v, of, x) => v.from + (x / of.width) * (v.to - v.from);
/** @param {View} v @param {Geometry} of @param {number} own */
export const yOf = (v, of, own) => of.height - ((own - v.low) / (v.high - v.low)) * of.height;
/** @param {View} v @param {Geometry} of @param {number} y */
export const priceAt = (v, of, y) => v.low + (1 - y / of.height) * (v.high - v.low);

/** @param {View} v @param {Geometry} of @param {number} tick */
function priceStep(v, of, tick) {
  const px = of.height / (v.high - v.low);
  return (PRICE_STEPS.find((step) => step * tick * px >= 34) ?? 2000) * tick;
}

/** @param {View} v @param {Geometry} of */
function timeStep(v, of) {
  const px = of.width / ((v.to - v.from) / 1000);
  return (TIME_STEPS_S.find((step) => step * px >= 78) ?? 28800) * 1000;
}

/** Round times of the zone. @param {View} v @param {number} step @param {import("./numbers.js").Zone} zone */
function* times(v, step, zone) {
  const offset = zone.offset(v.from);
  for (let at = Math.ceil((v.from + offset) / step) * step - offset; at < v.to; at += step) yield at;
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {View} v
 * @param {Geometry} of
 * @param {import("./model.js").Model} model
 */
export function grid(g, v, of, model) {
  g.strokeStyle = mix(C.pane, C.line, 0.55);
  g.lineWidth = 1;
  g.beginPath();
  const step = priceStep(v, of, model.tick);
  for (let own = Math.ceil(v.low / step) * step; own < v.high; own += step) {
    const y = Math.round(yOf(v, of, own)) + 0.5;
    g.moveTo(0, y);
    g.lineTo(of.width, y);
  }
  for (const at of times(v, timeStep(v, of), model.zone)) {
    const x = Math.round(xOf(v, of, at)) + 0.5;
    g.moveTo(x, 0);
    g.lineTo(x, of.height);
  }
  g.stroke();
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {View} v
 * @param {Geometry} of
 * @param {import("./model.js").Model} model
 * @param {import("./standing.js").Standing} now
 */
export function priceAxis(g, v, of, model, now) {
  const x = of.width;
  g.fillStyle = C.bg;
  g.fillRect(x, 0, of.axis, of.h);
  g.fillStyle = C.line;
  g.fillRect(x, 0, 1, of.h);
  const own = model.price;
  if (own === null && !model.levels.length) return;
  const last = own === null ? -99 : yOf(v, of, own);
  const spoken = model.levels.flatMap(([, level]) => {
    const sign = signOf(level, now);
    const y = yOf(v, of, level.price);
    return sign === "neu" ||
      sign === "ny" ||
      scoreOf(level, sign) === null ||
      y < 6 ||
      y > of.height - 6 ||
      Math.abs(y - last) < 13
      ? []
      : [{ y, sign, level }];
  });
  const step = priceStep(v, of, model.tick);
  for (let at = Math.ceil(v.low / step) * step; at < v.high; at += step) {
    const y = yOf(v, of, at);
    if (y < 8 || y > of.height - 8 || Math.abs(y - last) < 13 || spoken.some((one) => Math.abs(one.y - y) < 12))
      continue;
    text(g, price(at), x + 7, y);
  }
  for (const { y, sign, level } of spoken)
    text(g, price(level.price), x + 7, y, { bold: true, fill: now.grey ? C.ink3 : (C[sign] ?? C.ink1) });
  if (own === null) return;
  g.fillStyle = now.grey ? C.edge : C.ink1;
  g.beginPath();
  g.moveTo(x, last);
  for (const [dx, dy] of [
    [5, -9],
    [of.axis, -9],
    [of.axis, 9],
    [5, 9],
  ])
    g.lineTo(x + dx, last + dy);
  g.fill();
  text(g, price(own), x + 7, last + 0.5, { bold: true, fill: C.bg });
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {View} v
 * @param {Geometry} of
 * @param {import("./numbers.js").Zone} zone
 */
export function timeAxis(g, v, of, zone) {
  const y = of.timeTop;
  g.fillStyle = C.bg;
  g.fillRect(0, y, of.w, of.timeHeight);
  g.fillStyle = C.line;
  g.fillRect(0, y, of.w, 1);
  const step = timeStep(v, of);
  for (const at of times(v, step, zone)) {
    const x = xOf(v, of, at);
    if (x >= 20 && x <= of.width - 30)
      text(g, step < 60000 ? zone.time(at) : zone.minute(at), x, y + 10.5, { align: "center" });
  }
  text(g, zone.name, of.width + 7, y + 10.5);
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {View} v
 * @param {Geometry} of
 * @param {number} x
 * @param {number} y
 * @param {import("./model.js").Model} model
 */
export function crosshair(g, v, of, x, y, model) {
  g.strokeStyle = C.ink3;
  g.lineWidth = 1;
  g.setLineDash([2, 3]);
  g.beginPath();
  g.moveTo(x + 0.5, 0);
  g.lineTo(x + 0.5, of.timeTop);
  g.moveTo(0, y + 0.5);
  g.lineTo(of.width, y + 0.5);
  g.stroke();
  g.setLineDash([]);
  const own = Math.round(priceAt(v, of, y) / model.tick) * model.tick;
  tag(g, price(own), of.width + 2, y, { edge: C.edge });
  tag(g, model.zone.time(timeAt(v, of, x)), x, of.timeTop + 10, { align: "center", edge: C.edge });
}
