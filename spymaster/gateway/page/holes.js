// @ts-check
/** Spans without data, at their true width, in every pane: gaps with diagonals, halts with level lines. */

import { xOf } from "./axes.js";
import { C, hatch, tag } from "./look.js";
import { span } from "./numbers.js";

/** @typedef {{from: number, to: number, said: string, halt: boolean, open: boolean}} Hole `open`: it goes on */

const LEAST_PX = 3;
const TOUCH_MS = 250; // book and trades end within a snap of each other

/** @param {import("./model.js").Model} model @param {import("./standing.js").Standing} now @returns {Hole[]} */
export function holesOf(model, now) {
  /** @type {Hole[]} */
  const found = [];
  for (const gap of [...model.chartGaps].reverse()) {
    const [from, to] = [/** @type {number} */ (gap.start_ns) / 1e6, /** @type {number} */ (gap.end_ns) / 1e6];
    const said = `gap ${span(to - from)}, ${gap.state}`;
    const before = found.at(-1);
    if (before && from <= before.to + TOUCH_MS) {
      before.to = Math.max(before.to, to);
      before.said = `gap ${span(before.to - before.from)}, ${gap.state}`;
    } else found.push({ from, to, said, halt: false, open: false });
  }
  const halted = now.halted ? model.desk.halt?.since_ns : null;
  if (halted)
    found.push({
      from: halted / 1e6,
      to: model.marketNow,
      said: `halt since ${model.zone.time(halted / 1e6)}`,
      halt: true,
      open: true,
    });
  if (now.silentSince !== null && Number.isFinite(now.silentSince))
    found.push({
      from: now.silentSince,
      to: Math.max(model.marketNow, now.silentSince),
      said: "",
      halt: false,
      open: true,
    });
  return found;
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {import("./axes.js").View} v
 * @param {import("./axes.js").Geometry} of
 * @param {Hole[]} holes
 * @param {boolean} over what is drawn stays to be seen
 */
export function drawHoles(g, v, of, holes, over = false) {
  for (const hole of holes) {
    if (hole.halt !== over) continue;
    let [a, b] = [xOf(v, of, hole.from), xOf(v, of, hole.to)];
    if (b < 0 || a > of.width) continue;
    b = Math.max(b, a + LEAST_PX);
    [a, b] = [Math.max(a, 0), Math.min(b, of.width)];
    if (!hole.halt) {
      g.fillStyle = C.pane;
      g.fillRect(a, 0, b - a, of.height);
    }
    g.fillStyle = hatch(g, hole.halt ? "halt" : "gap");
    g.globalAlpha = hole.halt ? 0.6 : 1;
    g.fillRect(a, 0, b - a, of.height);
    g.globalAlpha = 1;
    g.strokeStyle = C.edge;
    g.lineWidth = 1;
    g.beginPath();
    g.moveTo(Math.round(a) + 0.5, 0);
    g.lineTo(Math.round(a) + 0.5, of.height);
    if (!hole.open) {
      g.moveTo(Math.round(b) - 0.5, 0);
      g.lineTo(Math.round(b) - 0.5, of.height);
    }
    g.stroke();
  }
}

/**
 * @param {CanvasRenderingContext2D} g
 * @param {import("./axes.js").View} v
 * @param {import("./axes.js").Geometry} of
 * @param {Hole[]} holes
 * @param {import("./standing.js").Standing} now
 * @param {import("./numbers.js").Zone} zone
 */
export function nameHoles(g, v, of, holes, now, zone) {
  let after = -Infinity;
  for (const hole of holes) {
    const [a, b] = [xOf(v, of, hole.from), xOf(v, of, hole.to)];
    if (b < 0 || a > of.width || !hole.said) continue;
    let x = Math.min(Math.max((Math.max(a, 0) + Math.min(b, of.width)) / 2, 56), of.width - 62);
    if (x - after < 116) x = after + 116;
    after = x;
    tag(g, hole.said, x, 14, { align: "center" });
  }
  if (now.silentSince !== null && Number.isFinite(now.silentSince)) {
    const x = Math.min(xOf(v, of, now.silentSince) - 6, of.width - 6);
    if (x > 0) tag(g, `nothing since ${zone.time(now.silentSince)}`, x, 34, { align: "right", fill: C.warn });
  }
}
