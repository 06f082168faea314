// @ts-check
/**
 * The chart: panes over one time axis and one price axis, on a canvas; the crosshair on another, so that hover
 *   draws no pane.
 */

import { crosshair, geometry, grid, priceAt, priceAxis, timeAt, timeAxis, yOf } from "./axes.js";
import { candleOf, candleStep, candles, eachCandle } from "./candles.js";
import { drawHoles, holesOf, nameHoles } from "./holes.js";
import { levelAt, levelLines, squares } from "./lines.js";
import { C, fit } from "./look.js";
import { byId, put } from "./nodes.js";
import { count, price } from "./numbers.js";

export const LEAST_SPAN_S = 60;
export const MOST_SPAN_S = 4 * 3600;
const FIRST_SPAN_S = 120;
const LEAST_TICKS = 36; // 9 points of ES
const MARGIN_TICKS = 11;
const PIXEL_MS = 250; // the live edge moves by whole columns

export class Chart {
  /** @param {import("./model.js").Model} model @param {() => void} changed called when the view is another one */
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("cv"));
    this.over = /** @type {HTMLCanvasElement} */ (byId("cross"));
    /** @type {import("./axes.js").View} */
    this.view = { from: 0, to: 1, low: 0, high: 1 };
    this.of = geometry(1, 1);
    this.follow = true; // the price
    /** @type {{x: number, y: number} | null} */
    this.hover = null;
    this.drawMs = 0;
    /** @type {import("./standing.js").Standing | null} */
    this.now = null;
  }

  /** Seconds shown: what was chosen; in the first minutes no more than there is to see. */
  get span() {
    const { span } = this.model.chosen.of;
    const recorded = this.model.recordedS;
    return this.now?.name === "first" && this.live && recorded > 0
      ? Math.min(span, Math.max(FIRST_SPAN_S, 1.5 * recorded))
      : span;
  }

  /** Whether the right edge is the live one. */
  get live() {
    return !this.model.chosen.of.end;
  }

  #edge() {
    const { model } = this;
    const still = this.now?.grey || this.now?.halted;
    const at = still ? model.marketNow : model.snapMs;
    return Math.ceil((Number.isFinite(at) ? at : model.now || Date.now()) / PIXEL_MS) * PIXEL_MS;
  }

  /** @param {import("./standing.js").Standing} now */
  draw(now) {
    const began = performance.now();
    this.now = now;
    const [g, w, h] = fit(this.canvas);
    if (w < 10 || h < 10) return;
    this.of = geometry(w, h);
    const { view, of, model } = this;
    view.to = model.chosen.of.end || this.#edge();
    view.from = view.to - this.span * 1000;
    if (this.follow || view.high <= view.low) this.#fitPrice();
    g.fillStyle = C.pane;
    g.fillRect(0, 0, w, h);
    const holes = holesOf(model, now);
    g.save();
    g.beginPath();
    g.rect(0, 0, of.width, of.height);
    g.clip();
    grid(g, view, of, model);
    drawHoles(g, view, of, holes);
    candles(g, view, of, model, now, holes);
    drawHoles(g, view, of, holes, true);
    if (now.name !== "empty") levelLines(g, view, of, model, now);
    nameHoles(g, view, of, holes, now, model.zone);
    squares(g, view, of, model.evidence.marks);
    g.restore();
    priceAxis(g, view, of, model, now);
    timeAxis(g, view, of, model.zone);
    this.drawMs = performance.now() - began;
  }

  #fitPrice() {
    const { model, view } = this;
    let [low, high] = [Infinity, -Infinity];
    eachCandle(model, view, candleStep(view, this.of), (candle) => {
      low = Math.min(low, candle.low);
      high = Math.max(high, candle.high);
    });
    const mid = model.mid;
    if (this.live && mid !== null) [low, high] = [Math.min(low, mid), Math.max(high, mid)];
    if (!(high >= low)) return void (mid === null && ([view.low, view.high] = [0, 1]));
    const tick = model.tick;
    const pad = Math.max(MARGIN_TICKS * tick, (LEAST_TICKS * tick - (high - low)) / 2);
    [view.low, view.high] = [low - pad, high + pad];
  }

  /** Crosshair and readout; no pane is drawn. */
  cross() {
    const [g, w, h] = fit(this.over);
    g.clearRect(0, 0, w, h);
    const { hover, of, view, model } = this;
    const readout = byId("readout");
    if (!hover || hover.x > of.width || hover.y > of.height) {
      put(readout, `candles of ${stepName(candleStep(view, of))}: hollow up, filled down`);
      return;
    }
    crosshair(g, view, of, hover.x, hover.y, model);
    put(readout, this.#said(hover));
  }

  /** @param {{x: number, y: number}} at */
  #said(at) {
    const { view, of, model } = this;
    const own = Math.round(priceAt(view, of, at.y) / model.tick) * model.tick;
    const ms = timeAt(view, of, at.x);
    const step = candleStep(view, of);
    const begin = Math.floor(ms / 1000 / step) * step;
    const found = this.#candle(begin, step);
    const bar = found ? ohlc(found) : "no data";
    return `${model.zone.time(ms, 3)}  ${price(own)}  ${bar}`;
  }

  /** @param {number} begin @param {number} step */
  #candle(begin, step) {
    const own = candleOf(this.model.bars, begin, step, { t: 0, open: 0, high: 0, low: 0, close: 0, volume: 0 });
    if (own) return own;
    /** @type {import("./candles.js").Candle | null} */
    let found = null;
    eachCandle(
      this.model,
      { ...this.view, from: begin * 1000, to: begin * 1000 + 1 },
      step,
      (one) => (found = one.t === begin ? { ...one } : found),
    );
    return /** @type {import("./candles.js").Candle | null} */ (found);
  }

  // ---- the view --------------------------------------------------------------------------------

  /** @param {number} end ms; 0 is the live edge */
  moveTo(end) {
    const edge = this.#edge();
    const least = edge - 7 * 86400000;
    const at = end >= edge ? 0 : Math.max(end, least);
    if (at !== this.model.chosen.of.end) this.model.chosen.set({ end: at });
    this.changed();
  }

  /** @param {number} share of what is shown; negative is back */
  shift(share) {
    this.moveTo(this.view.to + share * this.span * 1000);
  }

  /** @param {number} factor of the span @param {number} at ms that stays where it is */
  zoom(factor, at = this.view.to) {
    const span = Math.min(MOST_SPAN_S, Math.max(LEAST_SPAN_S, this.span * factor));
    const end = at + (this.view.to - at) * (span / this.span);
    const live = this.live && at >= this.view.to;
    this.model.chosen.set({ span });
    live ? this.changed() : this.moveTo(end);
  }

  /** @param {number} factor of the prices shown @param {number} at price that stays */
  zoomPrice(factor, at = (this.view.low + this.view.high) / 2) {
    const { view, model } = this;
    const span = Math.min(4000, Math.max(8, ((view.high - view.low) * factor) / model.tick)) * model.tick;
    const share = (at - view.low) / (view.high - view.low);
    this.follow = false;
    [view.low, view.high] = [at - share * span, at + (1 - share) * span];
    this.changed();
  }

  followPrice() {
    this.follow = true;
    this.changed();
  }

  /** To the next gap on a side. @param {1 | -1} side */
  toGap(side) {
    const middle = (this.view.from + this.view.to) / 2;
    const starts = this.model.chartGaps.map((gap) => /** @type {number} */ (gap.start_ns) / 1e6).sort((a, b) => a - b);
    const found = side > 0 ? starts.find((at) => at > middle + 1000) : starts.findLast((at) => at < middle - 1000);
    if (found !== undefined) this.moveTo(found + this.span * 500);
  }

  // ---- where something is ----------------------------------------------------------------------

  /** @param {number} y */
  levelAt(y) {
    return levelAt(this.view, this.of, this.model, y);
  }

  /** @param {number} y */
  priceAt(y) {
    return Math.round(priceAt(this.view, this.of, y) / this.model.tick) * this.model.tick;
  }

  /** @param {number} own */
  yOf(own) {
    return yOf(this.view, this.of, own);
  }

  /** What the lake is asked for: the candles shown that the ring does not have. */
  get wanted() {
    const step = candleStep(this.view, this.of);
    const from = Math.floor(this.view.from / 1000 / step) * step;
    const to = Math.ceil(this.view.to / 1000 / step) * step;
    const { bars, older } = this.model;
    if (
      !(this.view.to > 1) ||
      !(from < (Number.isFinite(bars.oldest) ? bars.oldest : Infinity)) ||
      older.covers(step, from, Math.min(to, Number.isFinite(bars.oldest) ? bars.oldest : to))
    )
      return null;
    return { step, from: from - (to - from), to: to + step };
  }
}

/** @param {import("./candles.js").Candle} of */
const ohlc = (of) =>
  `O ${price(of.open)}  H ${price(of.high)}  L ${price(of.low)}  C ${price(of.close)}  V ${count(of.volume)}`;

/** @param {number} seconds */
const stepName = (seconds) =>
  seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${seconds / 60} min` : `${seconds / 3600} h`;
